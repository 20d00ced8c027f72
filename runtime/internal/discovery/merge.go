package discovery

import (
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
)

// item is one entry of a key.
type item = listwatch.Item[*Backend]

// entryOf converts an item for endpoint.Merge.
func entryOf(i *item) endpoint.Entry {
	return endpoint.Entry{Endpoint: &i.Value.Endpoint, Layout: i.Value.Layout, CreateRevision: i.CreateRevision}
}

// merger makes the set of a key from its entries, with one endpoint an address. A small change is applied to a copy of the
// last set. The zero value is ready for use.
type merger struct {
	items []*item
	set   []*Backend          // of items
	addrs map[string]struct{} // of set; nil: some items share an address
	names map[string]string   // see State
}

// merge returns the set of items, which are sorted by key. Nobody may write to either.
func (m *merger) merge(items []*item) []*Backend {
	gone, come := changed(m.items, items)
	if m.set != nil && len(gone)+len(come) == 0 {
		return m.set
	}
	m.items = items
	if m.addrs == nil || !m.patch(difference(gone, come)) {
		m.rebuild()
	}
	return m.set
}

// patch applies a difference to the set, and reports whether it could: a large one takes longer than rebuild, and entries
// that share an address are only compared there.
func (m *merger) patch(gone, come []*Backend) bool {
	switch n := len(gone) + len(come); {
	case n == 0:
		return true
	case n > len(m.items)/4 || !m.readdress(gone, come):
		return false
	}
	m.set = patched(m.set, gone, come)
	return true
}

// rebuild makes the set from all items.
func (m *merger) rebuild() {
	m.set = make([]*Backend, len(m.items))
	for i, item := range m.items {
		m.set[i] = item.Value
	}
	m.addrs, m.names = make(map[string]struct{}, len(m.items)), nil
	if m.readdress(nil, m.set) {
		if !slices.IsSortedFunc(m.set, compare) {
			slices.SortFunc(m.set, compare)
		}
		return
	}
	m.addrs = nil
	entries := make([]endpoint.Entry, len(m.items))
	for i, item := range m.items {
		entries[i] = entryOf(item)
	}
	m.set = m.set[:0]
	ids := make(map[string]string) // by address
	for _, n := range endpoint.Merge(entries) {
		b := m.items[n].Value
		m.set, ids[b.Endpoint.Addr] = append(m.set, b), b.Endpoint.Instance
	}
	for _, i := range m.items {
		e := &i.Value.Endpoint
		if id := ids[e.Addr]; e.Instance != id && e.Instance != e.Addr {
			if m.names == nil {
				m.names = make(map[string]string)
			}
			m.names[e.Instance] = id
		}
	}
}

// readdress applies a difference to addrs and reports whether each entry has an address of its own.
func (m *merger) readdress(gone, come []*Backend) bool {
	for _, b := range gone {
		delete(m.addrs, b.Endpoint.Addr)
	}
	n := len(m.addrs) + len(come)
	for _, b := range come {
		m.addrs[b.Endpoint.Addr] = struct{}{}
	}
	return len(m.addrs) == n
}

// difference returns the backends that only before has, and the ones that only after has. Both are sorted by key.
func difference(before, after []*item) (gone, come []*Backend) {
	for len(before) > 0 && len(after) > 0 {
		old, now := before[0], after[0]
		if old == now {
			before, after = before[1:], after[1:]
			continue
		}
		order := strings.Compare(old.Key, now.Key)
		if order <= 0 {
			before = before[1:]
		}
		if order >= 0 {
			after = after[1:]
		}
		if order == 0 && old.Value == now.Value {
			continue
		}
		if order <= 0 {
			gone = append(gone, old.Value)
		}
		if order >= 0 {
			come = append(come, now.Value)
		}
	}
	for _, item := range before {
		gone = append(gone, item.Value)
	}
	for _, item := range after {
		come = append(come, item.Value)
	}
	return gone, come
}

// patched returns a copy of a sorted set, without the backends in gone and with the ones in come.
func patched(set, gone, come []*Backend) []*Backend {
	slices.SortFunc(gone, compare)
	slices.SortFunc(come, compare)
	next := make([]*Backend, 0, len(set)-len(gone)+len(come))
	for len(gone)+len(come) > 0 {
		if len(come) == 0 || len(gone) > 0 && compare(gone[0], come[0]) <= 0 {
			n, _ := slices.BinarySearchFunc(set, gone[0], compare)
			next = append(next, set[:n]...)
			set, gone = set[n+1:], gone[1:]
			continue
		}
		n, _ := slices.BinarySearchFunc(set, come[0], compare)
		next = append(append(next, set[:n]...), come[0])
		set, come = set[n:], come[1:]
	}
	return append(next, set...)
}
