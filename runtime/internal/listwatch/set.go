package listwatch

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// set holds the decoded entries of a range: a sorted slice that snapshots share, and the changes
// made since it was last committed. One change costs the change; one commit costs a copy of the
// slice, however many changes it takes in.
type set[T any] struct {
	decode    Decode[T]
	equal     func(a, b T) bool
	malformed func(key string, err error) // told once a value

	items   []*Item[T]          // sorted by key; never written to again
	changes map[string]*Item[T] // since items was built; nil: the key is gone
	bad     map[string]uint64   // the hash of each malformed value that was reported
}

var seed = maphash.MakeSeed()

// put takes in an entry and tells whether that changed anything.
func (s *set[T]) put(kv *mvccpb.KeyValue) bool {
	key := string(kv.Key)
	old := s.get(key)
	item := s.read(key, kv, old)
	if item == old {
		return false
	}
	s.change(key, item)
	return true
}

// remove forgets an entry and tells whether it was there.
func (s *set[T]) remove(key string) bool {
	delete(s.bad, key)
	if s.get(key) == nil {
		return false
	}
	s.change(key, nil)
	return true
}

// replace makes kvs, sorted by key, the whole content, and tells whether that changed anything.
func (s *set[T]) replace(kvs []*mvccpb.KeyValue) bool {
	before := s.commit()
	items := make([]*Item[T], 0, len(kvs))
	bad := s.bad
	s.bad = nil
	rest := before
	for _, kv := range kvs {
		key := string(kv.Key)
		for len(rest) > 0 && rest[0].Key < key {
			rest = rest[1:]
		}
		var old *Item[T]
		if len(rest) > 0 && rest[0].Key == key {
			old = rest[0]
		}
		if hash, ok := bad[key]; ok {
			s.remember(key, hash)
		}
		if item := s.read(key, kv, old); item != nil {
			items = append(items, item)
		}
	}
	if slices.Equal(items, before) {
		return false
	}
	s.items = items
	return true
}

// commit folds the changes in and returns the content. The result must not be written to.
func (s *set[T]) commit() []*Item[T] {
	if len(s.changes) == 0 {
		return s.items
	}
	keys := slices.Sorted(maps.Keys(s.changes))
	items := make([]*Item[T], 0, len(s.items)+len(keys))
	rest := s.items
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

func (s *set[T]) change(key string, item *Item[T]) {
	if s.changes == nil {
		s.changes = make(map[string]*Item[T])
	}
	s.changes[key] = item
}

// read decodes an entry: old itself where it says the same, nil where it is no entry.
func (s *set[T]) read(key string, kv *mvccpb.KeyValue, old *Item[T]) *Item[T] {
	value, ok, err := s.decode(key, kv.Value, kv.Lease)
	if err != nil {
		s.report(key, kv.Value, err)
		return nil
	}
	delete(s.bad, key)
	if !ok {
		return nil
	}
	if old != nil && s.equal(old.Value, value) {
		if old.CreateRevision == kv.CreateRevision {
			return old
		}
		value = old.Value
	}
	return &Item[T]{Key: key, Value: value, CreateRevision: kv.CreateRevision}
}

func (s *set[T]) report(key string, value []byte, err error) {
	hash := maphash.Bytes(seed, value)
	if known, ok := s.bad[key]; ok && known == hash {
		return
	}
	s.remember(key, hash)
	s.malformed(key, err)
}

func (s *set[T]) remember(key string, hash uint64) {
	if s.bad == nil {
		s.bad = make(map[string]uint64)
	}
	s.bad[key] = hash
}

func search[T any](items []*Item[T], key string) (int, bool) {
	return slices.BinarySearchFunc(items, key, func(item *Item[T], key string) int {
		return strings.Compare(item.Key, key)
	})
}
