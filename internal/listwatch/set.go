package listwatch

import (
	"errors"
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// set holds the decoded entries of a range: a sorted slice, and the changes
// made since the last commit. A change is cheap. A commit copies the whole
// slice once, into the slice of the snapshot before the last one.
type set[T any] struct {
	decode    Decode[T]
	equal     func(a, b T) bool
	malformed func(key string, err error) // called once for each malformed value
	size      func(T) int                 // as Config.Size
	bounds    Bounds
	maxKey    int // the maximum length of a key in bytes, 0 for no limit

	// sorted by key; not written to, because a snapshot may have the slice
	items []*Item[T]

	shown   []*Item[T] // of the last snapshot
	spare   []*Item[T] // of the one before, which the next commit overwrites
	removed []*Item[T] // removed since takeRemoved, each with its last value

	// the entries changed since items was built, by key; nil for a removed
	// entry
	changes map[string]*Item[T]

	// the hashes of malformed keys and values that were reported
	bad map[uint64]struct{}

	used        usage // the usage of items and changes together
	removedUsed usage // the usage of removed
	truncated   bool  // entries were left out for lack of room
}

var errLongKey = errors.New("the key is too long for an entry")

var seed = maphash.MakeSeed()

// put stores an entry, and reports whether that changed anything.
func (s *set[T]) put(kv *mvccpb.KeyValue) bool {
	if s.tooLong(kv.Key) {
		return false
	}

	key := string(kv.Key)
	old := s.get(key)
	item := s.parse(key, kv, old)

	used := s.used.minus(s.usageOf(old)).plus(s.usageOf(item))
	if item != nil && item != old && !s.bounds.within(used) {
		// There is no room for the new value. The old one is outdated, so the
		// entry is removed.
		item = nil
		s.truncated = true
	}

	if item == old {
		return false
	}

	if item == nil {
		s.addRemoved(old)
	}

	s.change(key, item, old)

	return true
}

// remove removes an entry and reports whether it was present.
func (s *set[T]) remove(key string) bool {
	old := s.get(key)
	if old == nil {
		return false
	}

	s.addRemoved(old)
	s.change(key, nil, old)

	return true
}

// overtaken handles an event that is older than the last list. If the list
// lacks the entry, the entry was removed after the event. Then overtaken
// records the removal, and returns true.
func (s *set[T]) overtaken(kv *mvccpb.KeyValue) bool {
	key := string(kv.Key)
	if s.tooLong(kv.Key) || s.get(key) != nil {
		return false
	}

	item := s.parse(key, kv, nil)
	if item == nil {
		return false
	}

	s.addRemoved(item)

	return true
}

// addRemoved records a removed entry. Removed entries are bounded, too: entries
// may come and go faster than updates are published.
func (s *set[T]) addRemoved(old *Item[T]) {
	if used := s.removedUsed.plus(s.usageOf(old)); s.bounds.within(used) {
		s.removed = append(s.removed, old)
		s.removedUsed = used
	}
}

// takeRemoved returns the entries removed since it was last called.
func (s *set[T]) takeRemoved() []*Item[T] {
	removed := s.removed
	s.removed = nil
	s.removedUsed = usage{}

	return removed
}

// load replaces the content of a set by the parts of a list.
type load[T any] struct {
	set     *set[T]
	rest    []*Item[T] // earlier entries that the list has not reached yet
	items   []*Item[T]
	removed []*Item[T]

	used      usage // the usage of items
	truncated bool  // all entries from some key on were left out
}

// load begins to replace the content. The set must not change before finish.
func (s *set[T]) load() *load[T] {
	return &load[T]{set: s, rest: s.commit()}
}

// add adds the next part of the list, sorted by key. It leaves out all entries
// from the first one that exceeds the bounds.
func (l *load[T]) add(kvs []*mvccpb.KeyValue) {
	s := l.set

	if !l.truncated {
		l.items = slices.Grow(l.items, len(kvs))
	}

	for _, kv := range kvs {
		if s.tooLong(kv.Key) {
			continue
		}

		key := string(kv.Key)
		for len(l.rest) > 0 && l.rest[0].Key < key { // not in the list
			l.removed = append(l.removed, l.rest[0])
			l.rest = l.rest[1:]
		}

		var old *Item[T]
		if len(l.rest) > 0 && l.rest[0].Key == key {
			old = l.rest[0]
			l.rest = l.rest[1:]
		}

		var item *Item[T]
		if !l.truncated {
			item = s.parse(key, kv, old)
		}

		if !l.keep(item) && old != nil {
			l.removed = append(l.removed, old)
		}
	}
}

// keep adds an entry, unless it is nil or exceeds the bounds, and reports
// whether it did.
func (l *load[T]) keep(item *Item[T]) bool {
	if item == nil {
		return false
	}

	used := l.used.plus(l.set.usageOf(item))
	l.truncated = l.truncated || !l.set.bounds.within(used)
	if l.truncated {
		return false
	}

	l.items = append(l.items, item)
	l.used = used

	return true
}

// finish makes the listed entries the content of the set.
func (l *load[T]) finish() {
	s := l.set
	for _, item := range append(l.removed, l.rest...) {
		s.addRemoved(item)
	}

	s.used = l.used
	s.truncated = l.truncated
	s.items = l.items
}

// show returns the content for a snapshot.
func (s *set[T]) show() []*Item[T] {
	items := s.commit()
	if len(items) != len(s.shown) || len(items) > 0 && &items[0] != &s.shown[0] {
		s.spare = s.shown
		s.shown = items
	}

	return items
}

// commit applies the changes and returns the content. The result must not be
// written to.
func (s *set[T]) commit() []*Item[T] {
	if len(s.changes) == 0 {
		return s.items
	}

	keys := slices.Sorted(maps.Keys(s.changes))
	rest := s.items
	items := s.spare[:0]

	if size := len(rest) + len(keys); cap(items) < size || cap(items) > 2*size {
		items = make([]*Item[T], 0, size+size/8)
	}

	s.spare = nil

	for _, key := range keys {
		n, found := search(rest, key)
		items = append(items, rest[:n]...)

		if found {
			n++
		}

		rest = rest[n:]

		if item := s.changes[key]; item != nil {
			items = append(items, item)
		}
	}

	s.items = append(items, rest...)
	clear(s.items[len(s.items):cap(s.items)])
	clear(s.changes)

	return s.items
}

func (s *set[T]) get(key string) *Item[T] {
	if item, ok := s.changes[key]; ok {
		return item
	}

	if n, found := search(s.items, key); found {
		return s.items[n]
	}

	return nil
}

// change replaces the entry old of a key by item. nil means no entry.
func (s *set[T]) change(key string, item, old *Item[T]) {
	s.used = s.used.minus(s.usageOf(old)).plus(s.usageOf(item))

	if item == nil {
		if _, found := search(s.items, key); !found {
			delete(s.changes, key)
			return
		}
	}

	if s.changes == nil {
		s.changes = make(map[string]*Item[T])
	}

	s.changes[key] = item
}

// parse decodes an entry. It returns old itself if the values are equal, and
// nil if the key has no valid entry.
func (s *set[T]) parse(key string, kv *mvccpb.KeyValue, old *Item[T]) *Item[T] {
	value, ok, err := s.decode(kv)
	if err != nil {
		s.report(key, kv.Value, err)
		return nil
	}

	if !ok {
		return nil
	}

	if old != nil && s.equal(old.Value, value) {
		if old.CreateRevision == kv.CreateRevision && old.Lease == kv.Lease {
			return old
		}

		value = old.Value
	}

	return &Item[T]{
		Key:            key,
		Value:          value,
		Lease:          kv.Lease,
		CreateRevision: kv.CreateRevision,
		ModRevision:    kv.ModRevision,
	}
}

// tooLong reports whether a key is too long, and reports such a key as
// malformed. A key may be as long as a request: the report has only its
// beginning.
func (s *set[T]) tooLong(key []byte) bool {
	if len(key) <= s.maxKey || s.maxKey == 0 {
		return false
	}

	s.report(string(key[:s.maxKey]), nil, errLongKey)

	return true
}

// report reports a malformed value of a key once. After maxBad different
// values, a value may be reported again.
func (s *set[T]) report(key string, value []byte, err error) {
	hash := maphash.String(seed, key) ^ maphash.Bytes(seed, value)
	if _, known := s.bad[hash]; known {
		return
	}

	if s.bad == nil || len(s.bad) >= maxBad {
		s.bad = make(map[uint64]struct{})
	}

	s.bad[hash] = struct{}{}
	s.malformed(key, err)
}

func search[T any](items []*Item[T], key string) (int, bool) {
	return slices.BinarySearchFunc(items, key, func(item *Item[T], key string) int {
		return strings.Compare(item.Key, key)
	})
}

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

// usage is how much entries use, in the units of Bounds.
type usage struct{ entries, bytes int }

func (u usage) plus(v usage) usage {
	return usage{u.entries + v.entries, u.bytes + v.bytes}
}

func (u usage) minus(v usage) usage {
	return usage{u.entries - v.entries, u.bytes - v.bytes}
}

// within reports whether a usage is within the bounds.
func (b Bounds) within(u usage) bool {
	return (b.Entries <= 0 || u.entries <= b.Entries) &&
		(b.Bytes <= 0 || u.bytes <= b.Bytes)
}

// hasRoom reports whether entries were left out and half of the bounds is free.
// If a smaller part sufficed, a full range whose entries come and go would be
// listed at each proof.
func (s *set[T]) hasRoom() bool {
	return s.truncated && s.bounds.within(s.used.plus(s.used))
}

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
