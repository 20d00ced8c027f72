package discovery

import (
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
)

// item is one entry of a key.
type item = listwatch.Item[*Backend]

// entryOf converts an item for endpoint.Merge.
func entryOf(i *item) endpoint.Entry {
	return endpoint.Entry{Endpoint: &i.Value.Endpoint, Layout: i.Value.Layout, CreateRevision: i.CreateRevision}
}

// merge returns the set of items, which are sorted by key: one endpoint an address. names is [State.names].
func merge(items []*item) (set []*Backend, names map[string]string) {
	set = make([]*Backend, 0, len(items))
	addrs := make(map[string]struct{}, len(items))
	for _, item := range items {
		set = append(set, item.Value)
		addrs[item.Value.Endpoint.Addr] = struct{}{}
	}
	if len(addrs) == len(items) {
		if !slices.IsSortedFunc(set, compare) {
			slices.SortFunc(set, compare)
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
