package runtime

import (
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listwatch"
)

// item is one entry of a key.
type item = listwatch.Item[*discovery.Backend]

// merger makes one set of the entries of a key, update after update. What changes between two
// updates is usually little, and then costs little beyond a copy of the set. The zero value is
// ready for use, by one goroutine.
type merger struct {
	items []*item
	set   []*discovery.Backend // of items
	addrs map[string]struct{}  // of set; nil: not known, or several items are one endpoint: to be worked out from all
}

// merge returns the set of items, which are sorted by key. Neither may be written to.
func (m *merger) merge(items []*item) []*discovery.Backend {
	if m.set != nil && slices.Equal(items, m.items) {
		return m.set
	}
	before := m.items
	m.items = items
	if m.addrs == nil || !m.patch(difference(before, items)) {
		m.rebuild()
	}
	return m.set
}

// patch changes the set by what is gone and what has come, and returns false where that would not
// do, or not pay.
func (m *merger) patch(gone, come []*discovery.Backend) bool {
	switch n := len(gone) + len(come); {
	case n == 0:
		return true
	case n > len(m.items)/4 || !m.readdress(gone, come):
		return false
	}
	m.set = patched(m.set, gone, come)
	return true
}

// rebuild makes the set from nothing.
func (m *merger) rebuild() {
	m.set = make([]*discovery.Backend, len(m.items))
	for i, item := range m.items {
		m.set[i] = item.Value
	}
	m.addrs = make(map[string]struct{}, len(m.items))
	if m.readdress(nil, m.set) {
		if !slices.IsSortedFunc(m.set, discovery.Compare) {
			slices.SortFunc(m.set, discovery.Compare)
		}
		return
	}
	m.addrs = nil
	entries := make([]endpoint.Entry, len(m.items))
	for i, item := range m.items {
		entries[i] = endpoint.Entry{
			Endpoint: &item.Value.Endpoint, Layout: item.Value.Layout, CreateRevision: item.CreateRevision,
		}
	}
	m.set = m.set[:0]
	for _, n := range endpoint.Merge(entries) {
		m.set = append(m.set, m.items[n].Value)
	}
}

// readdress brings addrs up to date, and returns false where two entries have one address.
func (m *merger) readdress(gone, come []*discovery.Backend) bool {
	for _, b := range gone {
		delete(m.addrs, b.Endpoint.Addr)
	}
	n := len(m.addrs) + len(come)
	for _, b := range come {
		m.addrs[b.Endpoint.Addr] = struct{}{}
	}
	return len(m.addrs) == n
}

// difference returns what is in before and not in after, and the other way round. Both are sorted by
// key.
func difference(before, after []*item) (gone, come []*discovery.Backend) {
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

// patched returns set, which is sorted, without the backends that are gone and with those that come.
func patched(set, gone, come []*discovery.Backend) []*discovery.Backend {
	slices.SortFunc(gone, discovery.Compare)
	slices.SortFunc(come, discovery.Compare)
	next := make([]*discovery.Backend, 0, len(set)-len(gone)+len(come))
	for len(gone)+len(come) > 0 {
		if len(come) == 0 || len(gone) > 0 && discovery.Compare(gone[0], come[0]) <= 0 {
			n, _ := slices.BinarySearchFunc(set, gone[0], discovery.Compare)
			next = append(next, set[:n]...)
			set, gone = set[n+1:], gone[1:]
			continue
		}
		n, _ := slices.BinarySearchFunc(set, come[0], discovery.Compare)
		next = append(append(next, set[:n]...), come[0])
		set, come = set[n:], come[1:]
	}
	return append(next, set...)
}
