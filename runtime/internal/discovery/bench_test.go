package discovery

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listwatch"
)

// BenchmarkCoreChange is one change among n endpoints: an endpoint leaves, or comes back.
func BenchmarkCoreChange(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			items := someItems(n)
			without := slices.Delete(slices.Clone(items), n/2, n/2+1)
			c := newCore(30*time.Second, false, nil)
			c.joined()
			c.configured(listwatch.Update[liveConfig]{Snapshot: &listwatch.Snapshot[liveConfig]{}}, start)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				set := items
				if i%2 == 1 {
					set = without
				}
				c.listed(listwatch.Update[*Backend]{Snapshot: &listwatch.Snapshot[*Backend]{Items: set}}, start.Add(time.Duration(i)*time.Millisecond))
			}
		})
	}
}
