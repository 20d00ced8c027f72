package listwatch

import (
	"cmp"
	"slices"
)

// Bounds limit how much of a range is kept, whoever writes it. 0 means no bound.
type Bounds struct {
	Entries int
	Bytes   int // of memory, by Config.Size
}

const (
	// itemSize is roughly the memory of an entry beside its key and its value.
	itemSize = 128
	// smallEntry is the size up to which an entry may take the place of its earlier version, whatever the
	// bound on bytes: a mark or a new weight must not wait for room. A larger one may grow into slack, a share of
	// the bytes that is kept for that: one in so many.
	smallEntry = 1 << 10
	slack      = 4
	// maxBad bounds how many malformed values are remembered as reported.
	maxBad = 10_000
)

// usage is how much of the bounds entries take.
type usage struct{ entries, bytes int }

func (u usage) plus(v usage) usage { return usage{u.entries + v.entries, u.bytes + v.bytes} }

func (u usage) minus(v usage) usage { return usage{u.entries - v.entries, u.bytes - v.bytes} }

// usageOf returns the usage of an entry, which may be nil.
func (s *set[T]) usageOf(item *Item[T]) usage {
	if item == nil {
		return usage{}
	}
	return usage{1, s.sizeOf(item)}
}

func (s *set[T]) sizeOf(item *Item[T]) int {
	if item == nil || s.size == nil {
		return 0
	}
	return itemSize + len(item.Key) + s.size(item.Value)
}

// within reports whether a usage is within a multiple of the bounds.
func (b Bounds) within(u usage, times int) bool {
	return (b.Entries <= 0 || u.entries <= times*b.Entries) && (b.Bytes <= 0 || u.bytes <= times*b.Bytes)
}

// replaced returns the usage after an entry takes the place of its earlier version, which may be nil, and reports
// whether there is room for that.
func (s *set[T]) replaced(used usage, old, item *Item[T]) (after usage, fits bool) {
	was, is := s.usageOf(old), s.usageOf(item)
	after = used.minus(was).plus(is)
	if old == nil {
		return after, s.bounds.within(after, 1)
	}
	small := is.bytes <= max(was.bytes, smallEntry)
	return after, small || s.bounds.within(usage{bytes: after.bytes * slack / (slack + 1)}, 1)
}

// full reports whether there is no room for any other entry.
func (s *set[T]) full() bool { return !s.bounds.within(s.used.plus(usage{1, itemSize}), 1) }

// bound leaves out entries of a list until the others are within the bounds, and reports whether it left out any.
// An entry that was known before stays, if need be as it was. Of the others, the oldest in etcd stay.
func (l *load[T]) bound() (left bool) {
	s := l.set
	stay, changed, fresh := l.compare()
	slices.SortFunc(changed, func(a, b change[T]) int {
		return cmp.Compare(l.items[a.n].ModRevision, l.items[b.n].ModRevision)
	})
	slices.SortFunc(fresh, func(a, b change[T]) int {
		return cmp.Compare(l.items[a.n].CreateRevision, l.items[b.n].CreateRevision)
	})
	l.used = stay
	for _, c := range append(changed, fresh...) {
		if after, fits := s.replaced(l.used, c.old, l.items[c.n]); fits {
			l.used = after
		} else {
			l.items[c.n], left = c.old, true
		}
	}
	l.items = slices.DeleteFunc(l.items, func(i *Item[T]) bool { return i == nil })
	l.bounded = l.used
	return left
}

// change is an entry of a list that is not as it was before.
type change[T any] struct {
	n   int      // its index in load.items
	old *Item[T] // nil: it is new
}

// compare returns the changes that a list brings, and the usage of the entries that stay whatever becomes of these.
func (l *load[T]) compare() (stay usage, changed, fresh []change[T]) {
	for _, old := range l.rest {
		stay = stay.plus(l.set.usageOf(old))
	}
	for n, item := range l.items {
		i, found := search(l.before, item.Key)
		if !found {
			fresh = append(fresh, change[T]{n, nil})
			continue
		}
		old := l.before[i]
		stay = stay.plus(l.set.usageOf(old))
		if old != item {
			changed = append(changed, change[T]{n, old})
		}
	}
	return stay, changed, fresh
}
