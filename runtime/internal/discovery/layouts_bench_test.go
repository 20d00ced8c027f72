package discovery

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listwatch"
)

// BenchmarkTwoLayoutsAChange compares a change among instances that are written in one layout with one
// among instances in two: the merger starts from nothing where any two entries share an address.
func BenchmarkTwoLayoutsAChange(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		for _, layouts := range []int{1, 2} {
			b.Run(fmt.Sprint(n, "x", layouts), func(b *testing.B) {
				var items []*item
				add := func(l endpoint.Layout, i int) {
					addr := fmt.Sprintf("10.0.%d.%d:80", i/250, i%250)
					items = append(items, &item{Key: fmt.Sprintf("k/%s/%05d", l, i), Value: newBackend(endpoint.Endpoint{Instance: fmt.Sprintf("i%05d", i), Addr: addr}, l), CreateRevision: int64(i)})
				}
				for i := range n {
					add(endpoint.EndpointJSON, i)
				}
				if layouts == 2 {
					for i := range n {
						add(endpoint.Plain, i)
					}
				}
				slices.SortFunc(items, func(a, b *item) int {
					if a.Key < b.Key {
						return -1
					}
					return 1
				})
				c := newCore(30*time.Second, false, nil)
				c.joined()
				now := time.Now()
				c.configured(listwatch.Update[liveConfig]{Snapshot: &listwatch.Snapshot[liveConfig]{}}, now)
				for i := 0; b.Loop(); i++ {
					next := slices.Clone(items)
					e := next[0].Value.Endpoint
					e.Version = fmt.Sprint(i)
					next[0] = &item{Key: next[0].Key, Value: newBackend(e, next[0].Value.Layout), CreateRevision: 1}
					items = next
					c.listed(listwatch.Update[*Backend]{Snapshot: &listwatch.Snapshot[*Backend]{Items: items}}, now)
				}
			})
		}
	}
}
