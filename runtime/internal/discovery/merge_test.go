package discovery

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// TestMergerAgainstMerge compares what a merger makes of each step with a merge of everything.
func TestMergerAgainstMerge(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	layouts := []endpoint.Layout{endpoint.EndpointJSON, endpoint.Plain}
	var m merger
	entries := map[string]*item{}
	for step := range 5000 {
		// Addresses are shared by several instances only part of the time.
		addrs := 60
		if step/500%2 == 0 {
			addrs = 20
		}
		for range random.IntN(3) {
			key := fmt.Sprintf("svc/%02d", random.IntN(30))
			if random.IntN(3) == 0 {
				delete(entries, key)
				continue
			}
			addr := "h" + fmt.Sprint(addrs*100+random.IntN(addrs)) + ":1"
			b := newBackend(endpoint.Endpoint{Instance: key[4:], Addr: addr}, layouts[random.IntN(2)])
			entries[key] = &item{Key: key, Value: b, CreateRevision: int64(step)}
		}
		if step%701 == 0 {
			clear(entries)
		}
		items := make([]*item, 0, len(entries))
		for _, key := range slices.Sorted(maps.Keys(entries)) {
			items = append(items, entries[key])
		}
		got, want := m.merge(items), mergeAll(items)
		if !slices.Equal(got, want) {
			t.Fatalf("step %d: %d endpoints, want %d:\n%v\n%v", step, len(got), len(want), instances(got), instances(want))
		}
		if again := m.merge(items); len(got) > 0 && &again[0] != &got[0] {
			t.Fatalf("step %d: the same items made another set", step)
		}
	}
}

func mergeAll(items []*item) []*Backend {
	var entries []endpoint.Entry
	for _, i := range items {
		entries = append(entries, entryOf(i))
	}
	var set []*Backend
	for _, n := range endpoint.Merge(entries) {
		set = append(set, items[n].Value)
	}
	return set
}

func instances(set []*Backend) []string {
	var all []string
	for _, b := range set {
		all = append(all, b.Endpoint.Instance+"="+b.Endpoint.Addr)
	}
	return all
}
