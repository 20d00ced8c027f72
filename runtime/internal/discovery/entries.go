package discovery

import (
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// item is one entry of a key.
type item = listwatch.Item[*Backend]

// entryOf converts an item for endpoint.Merge.
func entryOf(i *item) endpoint.Entry {
	return endpoint.Entry{Endpoint: &i.Value.Endpoint, Layout: i.Value.Layout, CreateRevision: i.CreateRevision}
}

// merger makes the set of a key from its entries, with one endpoint for each address. The zero value has no entries.
type merger struct {
	items []*item        // the items of the last merge
	addrs map[string]int // the number of items at each address
}

// merge returns the set that items make. items must be sorted by key, and never be modified later. names is [State.names].
func (m *merger) merge(items []*item) (set []*Backend, names map[string]string) {
	m.count(items)
	set = make([]*Backend, 0, len(items))
	for _, item := range items {
		set = append(set, item.Value)
	}
	if len(m.addrs) == len(items) {
		if !slices.IsSortedFunc(set, attr.Compare) {
			slices.SortFunc(set, attr.Compare)
		}
		return set, nil
	}
	entries := make([]endpoint.Entry, len(items))
	for i, item := range items {
		entries[i] = entryOf(item)
	}
	set = set[:0]
	ids := make(map[string]string) // by address
	for _, n := range endpoint.Merge(entries) {
		b := items[n].Value
		set, ids[b.Endpoint.Addr] = append(set, b), b.Endpoint.Instance
	}
	names = make(map[string]string)
	for _, i := range items {
		e := &i.Value.Endpoint
		if id := ids[e.Addr]; e.Instance != id && e.Instance != e.Addr {
			names[e.Instance] = id
		}
	}
	return set, names
}

// count sets m.items, and updates m.addrs. It visits only the items between the first and the last difference from the old items.
func (m *merger) count(items []*item) {
	old, next := m.items, items
	m.items = items
	for len(old) > 0 && len(next) > 0 && old[0] == next[0] {
		old, next = old[1:], next[1:]
	}
	for len(old) > 0 && len(next) > 0 && old[len(old)-1] == next[len(next)-1] {
		old, next = old[:len(old)-1], next[:len(next)-1]
	}
	if m.addrs == nil {
		m.addrs = make(map[string]int, len(next))
	}
	for _, item := range next {
		m.addrs[item.Value.Endpoint.Addr]++
	}
	for _, item := range old {
		addr := item.Value.Endpoint.Addr
		if m.addrs[addr]--; m.addrs[addr] == 0 {
			delete(m.addrs, addr)
		}
	}
}

// marks are the entries that their owners have marked as leaving. [endpoint.Marks] decides which other entries a mark covers. The
// zero value is ready for use.
type marks struct {
	byKey map[string]endpoint.Mark // by the etcd key of the marked entry
}

// apply returns the items that no mark covers, the covered ones, and the marked addresses that no item of rest has. removed are the
// entries that were removed since the last call, with their last values. A mark lasts as long as it covers an entry.
func (m *marks) apply(items, removed []*item) (rest, leaving []*item, withdrawn map[string]struct{}) {
	for _, i := range removed {
		m.note(i)
	}
	for _, i := range items {
		m.note(i)
	}
	if len(m.byKey) == 0 {
		return items, nil, nil
	}
	latest, withdrawn := make(endpoint.Marks), make(map[string]struct{})
	for _, mark := range m.byKey {
		latest.Add(mark)
		withdrawn[mark.Addr] = struct{}{}
	}
	covered := make(map[string]bool)
	rest = make([]*item, 0, len(items))
	for _, i := range items {
		addr := i.Value.Endpoint.Addr
		if latest.Cover(entryOf(i), i.Lease) {
			covered[addr] = true
			leaving = append(leaving, i)
			continue
		}
		delete(withdrawn, addr)
		rest = append(rest, i)
	}
	for key, mark := range m.byKey {
		if !covered[mark.Addr] {
			delete(m.byKey, key)
		}
	}
	return rest, leaving, withdrawn
}

// note records the mark of item i in place of the mark of an earlier entry under i's key. If i has no mark, note removes that mark.
func (m *marks) note(i *item) {
	switch old, known := m.byKey[i.Key]; {
	case !i.Value.Leaving:
		if known {
			delete(m.byKey, i.Key)
		}
	case !known || old.Addr != i.Value.Endpoint.Addr || old.Revision < i.CreateRevision:
		if m.byKey == nil {
			m.byKey = make(map[string]endpoint.Mark)
		}
		e := &i.Value.Endpoint
		m.byKey[i.Key] = endpoint.Mark{Addr: e.Addr, Instance: e.Instance, Lease: i.Lease, Revision: i.ModRevision}
	}
}
