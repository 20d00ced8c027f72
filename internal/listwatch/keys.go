package listwatch

import (
	"errors"
	"maps"
	"slices"
	"sync"
)

// ErrApart says that keys of a range cannot be followed together: etcd allows neither to read nor to watch all that it
// takes, or not so many in a transaction, or others write the range so much that hearing of it costs more than it saves. It comes with the last update of a
// range. Each key is to be followed by itself then.
var ErrApart = errors.New("etcd: the keys cannot be followed together")

// Keys are the keys of a range that are followed, where not all are: they are read by name, in one transaction, and
// share a watch of the range. It is safe for concurrent use.
type Keys struct {
	mu     sync.Mutex
	users  map[string]int
	sorted []string      // the keys of users; never written to again
	joins  int           // how often Add was called
	joined chan struct{} // closed when it is called next
}

// NewKeys returns no keys.
func NewKeys() *Keys {
	return &Keys{users: make(map[string]int), sorted: []string{}, joined: make(chan struct{})}
}

// Add adds a user of a key. An update follows that is about the key, if only with an error. Add reports false if there are
// as many keys as one transaction reads: each that joins has all of them read.
func (k *Keys) Add(key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.users[key] == 0 && len(k.users) == maxKeys {
		return false
	}
	k.users[key]++
	k.sorted = slices.Sorted(maps.Keys(k.users))
	k.joins++
	close(k.joined)
	k.joined = make(chan struct{})
	return true
}

// Remove takes a user of a key away, and reports whether it was the last of all.
func (k *Keys) Remove(key string) (last bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.users[key]--; k.users[key] == 0 {
		delete(k.users, key)
		k.sorted = slices.Sorted(maps.Keys(k.users))
	}
	return len(k.users) == 0
}

// wanted returns the keys that have users, sorted, how many users have joined, and a channel that is closed when the
// next one does. Nil stands for all keys, and nobody joins.
func (k *Keys) wanted() (keys []string, joins int, joined <-chan struct{}) {
	if k == nil {
		return nil, 0, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sorted, k.joins, k.joined
}

// Of returns the part of a snapshot that is about a key, nil if none is. The snapshot may be nil.
func (s *Snapshot[T]) Of(key string) *Snapshot[T] {
	if s == nil {
		return nil
	}
	if _, covered := slices.BinarySearch(s.Keys, key); !covered {
		return nil
	}
	part := *s
	part.Keys, part.Items, part.Removed = []string{key}, nil, nil
	if n, found := search(s.Items, key); found {
		part.Items = s.Items[n : n+1]
	}
	return &part
}
