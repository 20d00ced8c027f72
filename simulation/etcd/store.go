package etcd

import (
	"cmp"
	"slices"
	"sort"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// span is a range of keys as etcd's requests give it: one key when to is empty, all keys from from on when to is "\x00".
type span struct{ from, to string }

func spanOf(key, end []byte) span { return span{string(key), string(end)} }

// contains reports whether key is in s.
func (s span) contains(key string) bool {
	switch s.to {
	case "":
		return key == s.from
	case "\x00":
		return key >= s.from
	}
	return key >= s.from && key < s.to
}

// item is the history of one key. What was deleted is an event of type DELETE.
type item struct {
	key      string
	versions []*mvccpb.Event
}

// at returns the key's value at a revision, or nil where there is none.
func (it *item) at(rev int64) *mvccpb.KeyValue {
	for _, e := range slices.Backward(it.versions) {
		if e.Kv.ModRevision > rev {
			continue
		}
		if e.Type == mvccpb.Event_DELETE {
			return nil
		}
		return e.Kv
	}
	return nil
}

// store holds the keys with their history. It only adds to what it has, and never changes it, so that answers can share it.
type store struct {
	rev       int64           // of the last transaction that changed something; 1 in an empty store
	compacted int64           // -1 before the first compaction
	trimmed   int64           // what was overwritten or deleted before it is dropped
	items     []*item         // sorted by key
	log       []*mvccpb.Event // all changes that are kept, in order
}

func newStore() store { return store{rev: 1, compacted: -1} }

// clone returns a copy that shares what never changes.
func (s *store) clone() store {
	c := *s
	c.log = slices.Clone(s.log)
	c.items = make([]*item, len(s.items))
	for i, it := range s.items {
		c.items[i] = &item{it.key, slices.Clone(it.versions)}
	}
	return c
}

// find returns where key is among the items, or would be.
func (s *store) find(key string) (int, bool) {
	return slices.BinarySearchFunc(s.items, key, func(it *item, key string) int { return cmp.Compare(it.key, key) })
}

// within returns the items in sp.
func (s *store) within(sp span) []*item {
	i, ok := s.find(sp.from)
	switch sp.to {
	case "":
		if !ok {
			return nil
		}
		return s.items[i : i+1]
	case "\x00":
		return s.items[i:]
	}
	j, _ := s.find(sp.to)
	if j < i {
		return nil
	}
	return s.items[i:j]
}

// get returns the value of one key at a revision, or nil.
func (s *store) get(key string, rev int64) *mvccpb.KeyValue {
	if i, ok := s.find(key); ok {
		return s.items[i].at(rev)
	}
	return nil
}

// since returns the changes from a revision on, up to and including another.
func (s *store) since(from, upTo int64) []*mvccpb.Event {
	i := sort.Search(len(s.log), func(i int) bool { return s.log[i].Kv.ModRevision >= from })
	j := sort.Search(len(s.log), func(i int) bool { return s.log[i].Kv.ModRevision > upTo })
	return s.log[i:j]
}

// add appends one change to the history.
func (s *store) add(e *mvccpb.Event) {
	key := string(e.Kv.Key)
	i, ok := s.find(key)
	if !ok {
		s.items = slices.Insert(s.items, i, &item{key: key})
	}
	s.items[i].versions = append(s.items[i].versions, e)
	s.log = append(s.log, e)
}

// trim drops the history that nobody can ask for any more: what was overwritten or deleted before rev.
func (s *store) trim(rev int64) {
	s.trimmed = rev
	for _, it := range s.items {
		if it.versions[0].Kv.ModRevision >= rev {
			continue
		}
		keep := 0
		for i, e := range it.versions {
			if e.Kv.ModRevision <= rev {
				keep = i
			}
		}
		if it.versions[keep].Type == mvccpb.Event_DELETE && it.versions[keep].Kv.ModRevision < rev {
			keep++
		}
		it.versions = it.versions[keep:]
	}
	s.items = slices.DeleteFunc(s.items, func(it *item) bool { return len(it.versions) == 0 })
	s.log = s.log[len(s.log)-len(s.since(rev, s.rev)):]
}

// view is the store as a member that has applied so much of it sees it.
type view struct {
	*store
	rev, compacted int64
}

// revisionErr reports why a reading at a revision is refused, if it is.
func (v view) revisionErr(rev int64) error {
	switch {
	case rev > v.rev:
		return errFutureRev
	case rev > 0 && rev < v.compacted:
		return errCompacted
	}
	return nil
}

// writer is a transaction under way. All that it changes has one revision.
type writer struct {
	s       *store
	changes []*mvccpb.Event
}

// rev returns the revision that a reading within the transaction sees.
func (w *writer) rev() int64 {
	if len(w.changes) > 0 {
		return w.s.rev + 1
	}
	return w.s.rev
}

func (w *writer) add(e *mvccpb.Event) {
	w.s.add(e)
	w.changes = append(w.changes, e)
}

// put writes a key and returns what it replaces, or nil.
func (w *writer) put(key string, value []byte, lease int64) *mvccpb.KeyValue {
	next := w.s.rev + 1
	kv := &mvccpb.KeyValue{
		Key: []byte(key), Value: value, Lease: lease, CreateRevision: next, ModRevision: next, Version: 1,
	}
	prev := w.s.get(key, next)
	if prev != nil {
		kv.CreateRevision, kv.Version = prev.CreateRevision, prev.Version+1
	}
	w.add(&mvccpb.Event{Type: mvccpb.Event_PUT, Kv: kv})
	return prev
}

// delete removes the keys in sp and returns what they were.
func (w *writer) delete(sp span) []*mvccpb.KeyValue {
	var gone []*mvccpb.KeyValue
	for _, it := range w.s.within(sp) {
		if kv := it.at(w.s.rev + 1); kv != nil {
			gone = append(gone, kv)
			w.add(&mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: kv.Key, ModRevision: w.s.rev + 1}})
		}
	}
	return gone
}

// end closes the transaction.
func (w *writer) end() {
	if len(w.changes) > 0 {
		w.s.rev++
	}
}
