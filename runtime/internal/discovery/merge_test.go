package discovery

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// TestMerger_KeepsNothingOfEarlierItems has entries come, go, change and share addresses.
func TestMerger_KeepsNothingOfEarlierItems(t *testing.T) {
	rnd, m, items := rand.New(rand.NewPCG(1, 2)), merger{}, []*item(nil)
	for range 2000 {
		items = slices.Clone(items)
		key := fmt.Sprint(rnd.IntN(8))
		items = slices.DeleteFunc(items, func(i *item) bool { return i.Key == key })
		if rnd.IntN(3) > 0 {
			e := endpoint.Endpoint{Instance: key, Addr: fmt.Sprintf("h:%d", rnd.IntN(12))}
			items = append(items, &item{Key: key, Value: newBackend(e, endpoint.EndpointJSON)})
			slices.SortFunc(items, func(a, b *item) int { return compare(a.Value, b.Value) })
		}
		set, names := m.merge(items)
		if want, wantNames := new(merger).merge(items); !slices.Equal(set, want) || !reflect.DeepEqual(names, wantNames) {
			t.Fatalf("%d entries become %d endpoints, want %d", len(items), len(set), len(want))
		}
	}
}
