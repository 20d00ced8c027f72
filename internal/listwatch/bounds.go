package listwatch

// Bounds limit how much of a range is kept. 0 means no bound.
type Bounds struct {
	Entries int
	Bytes   int // of memory, by Config.Size
}

const (
	// itemSize is roughly the memory of an entry without its key and its value.
	itemSize = 128
	// maxBad bounds the malformed values that are remembered as reported.
	maxBad = 10_000
)

// usage is the part of the bounds that entries use.
type usage struct{ entries, bytes int }

func (u usage) plus(v usage) usage { return usage{u.entries + v.entries, u.bytes + v.bytes} }

func (u usage) minus(v usage) usage { return usage{u.entries - v.entries, u.bytes - v.bytes} }

// within reports whether a usage is within the bounds.
func (b Bounds) within(u usage) bool {
	return (b.Entries <= 0 || u.entries <= b.Entries) && (b.Bytes <= 0 || u.bytes <= b.Bytes)
}

// hasRoom reports whether entries were left out and half of the bounds is free. With a smaller
// share, a full range whose entries come and go would be listed at each probe.
func (s *set[T]) hasRoom() bool { return s.truncated && s.bounds.within(s.used.plus(s.used)) }

// usageOf returns the usage of an entry, which may be nil.
func (s *set[T]) usageOf(item *Item[T]) usage {
	switch {
	case item == nil:
		return usage{}
	case s.size == nil:
		return usage{entries: 1}
	}
	return usage{1, itemSize + len(item.Key) + s.size(item.Value)}
}
