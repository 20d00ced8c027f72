package discovery

import (
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// item is one entry of a key.
type item = listwatch.Item[*Backend]

// entryOf converts an item for endpoint.Merge.
func entryOf(i *item) endpoint.Entry {
	return endpoint.Entry{
		Endpoint:       &i.Value.Endpoint,
		Layout:         i.Value.Layout,
		CreateRevision: i.CreateRevision,
	}
}

// merger makes the set of a key from its entries, with one endpoint for each
// address. The zero value has no entries.
type merger struct {
	items []*item        // the items of the last merge
	addrs map[string]int // the number of items at each address
	plain []*Backend     // the last set; nil without one, or if items shared an address
}

// merge returns the set of endpoints in items. items must be sorted by key, and
// not be modified before the next merge has returned. names is [State.names].
// Unless items share an address, merge reads only the items that changed,
// because the unchanged ones are rarely in the processor's cache.
func (m *merger) merge(items []*item) (set []*Backend, names map[string]string) {
	gone, came := diff(m.items, items)
	m.items = items
	m.count(gone, came)

	if len(m.addrs) == len(items) {
		if m.plain == nil {
			gone = nil
			came = items
		}

		m.plain = replace(m.plain, valuesOf(gone), valuesOf(came))

		return m.plain, nil
	}

	m.plain = nil

	entries := make([]endpoint.Entry, len(items))
	for i, item := range items {
		entries[i] = entryOf(item)
	}

	ids := make(map[string]string) // by address
	for _, n := range endpoint.Merge(entries) {
		b := items[n].Value
		set = append(set, b)
		ids[b.Endpoint.Addr] = b.Endpoint.Instance
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

// count updates m.addrs.
func (m *merger) count(gone, came []*item) {
	if m.addrs == nil {
		m.addrs = make(map[string]int, len(came))
	}

	for _, i := range came {
		m.addrs[i.Value.Endpoint.Addr]++
	}

	for _, i := range gone {
		addr := i.Value.Endpoint.Addr
		m.addrs[addr]--
		if m.addrs[addr] == 0 {
			delete(m.addrs, addr)
		}
	}
}

// diff returns the items that only one of two lists has. Both lists are sorted
// by key.
func diff(old, next []*item) (gone, came []*item) {
	for {
		n := 0
		for n < len(old) && n < len(next) && old[n] == next[n] {
			n++
		}

		old = old[n:]

		next = next[n:]
		if len(old) == 0 || len(next) == 0 {
			return append(gone, old...), append(came, next...)
		}

		order := strings.Compare(old[0].Key, next[0].Key)
		if order <= 0 {
			gone = append(gone, old[0])
			old = old[1:]
		}

		if order >= 0 {
			came = append(came, next[0])
			next = next[1:]
		}
	}
}

// valuesOf returns the backends of items, sorted.
func valuesOf(items []*item) []*Backend {
	backends := make([]*Backend, len(items))
	for n, i := range items {
		backends[n] = i.Value
	}

	slices.SortFunc(backends, model.Compare)

	return backends
}

// replace returns set less the backends in gone (set has them all) plus those
// in came. It changes none of the lists. All are sorted.
func replace(set, gone, came []*Backend) []*Backend {
	switch {
	case len(set) == len(gone):
		return came
	case len(gone)+len(came) == 0:
		return set
	}

	next := make([]*Backend, 0, len(set)-len(gone)+len(came))
	rest := set
	for _, b := range gone {
		n := slices.Index(rest, b)
		next = append(next, rest[:n]...)
		rest = rest[n+1:]
	}

	// merge came into the free room behind rest, beginning at the end
	rest = append(next, rest...)
	next = rest[:cap(rest)]
	for i, b := range slices.Backward(came) {
		n, _ := slices.BinarySearchFunc(rest, b, model.Compare)
		copy(next[n+i+1:], rest[n:])
		next[n+i] = b
		rest = rest[:n]
	}

	return next
}

// marks are the entries that their owners have marked as leaving.
// [endpoint.Marks] decides which other entries a mark covers. The zero value is
// ready for use.
type marks struct {
	byKey map[string]endpoint.Mark // by the etcd key of the marked entry
	items []*item                  // all items at the last call of apply
}

// apply returns the items that no mark covers as rest, the covered ones as
// leaving, and the marked addresses that are not in rest as withdrawn. removed
// has the entries removed since the last call, with their last values. A mark
// lasts as long as it covers an entry.
func (m *marks) apply(
	items, removed []*item,
) (rest, leaving []*item, withdrawn map[string]struct{}) {
	_, came := diff(m.items, items)
	m.items = items

	for _, i := range slices.Concat(removed, came) {
		m.note(i)
	}

	if len(m.byKey) == 0 {
		return items, nil, nil
	}

	latest := make(endpoint.Marks)

	withdrawn = make(map[string]struct{})
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

// note records the mark of item i. A mark of an earlier entry under the same
// key, or of another address, is replaced. A mark of an earlier write of this
// entry stays. If i is not marked, note removes the mark under its key.
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
		m.byKey[i.Key] = endpoint.Mark{
			Addr:     e.Addr,
			Instance: e.Instance,
			Lease:    i.Lease,
			Revision: i.ModRevision,
		}
	}
}
