// Package harm compares our clients with gRPC's own policy, with the same
// addresses and under the same faults. Our clients must not lose more calls
// than gRPC's.
package harm

import (
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
)

// etcd is shared by all rows about callers. Each row has its own namespace.
var etcd *etcdtest.Cluster

// parallel is the number of rows that run at once. A row mostly waits.
const parallel = 6

func TestMain(m *testing.M) {
	os.Exit(leak.Main(parallel, func() int { return kit.OnEtcd(m, &etcd) }))
}

// TestCallers runs each row with two clients: ours, and gRPC's own policy with
// a manual resolver. Several rows run at once. A row in which our client is
// worse runs again, alone. If our client is worse again, the row runs once
// more, alone. The row fails if our client is also worse in the sum of the two
// runs alone.
func TestCallers(t *testing.T) {
	var mu sync.Mutex
	seemWorse := map[string]bool{}

	t.Run("beside", func(t *testing.T) {
		for _, r := range rows {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()

				if in := new(result).add(t, r); len(in) > 0 {
					t.Logf("our client %s: the row runs again, alone", strings.Join(in, ", and "))

					mu.Lock()
					defer mu.Unlock()

					seemWorse[r.name] = true
				}
			})
		}
	})

	for _, r := range rows {
		if !seemWorse[r.name] {
			continue
		}

		t.Run("alone/"+r.name, func(t *testing.T) {
			var sum result
			if in := sum.add(t, r); len(in) == 0 {
				return
			}

			if in := sum.add(t, r); len(in) > 0 {
				t.Errorf("our client %s; want no more than gRPC's\nours:  %v%s\ngRPC's: %v%s",
					strings.Join(in, ", and "), &sum.us, sum.us.why(), &sum.them, sum.them.why())
			}
		})
	}
}

// result holds the counts of both clients, summed over one or more runs of a
// row.
type result struct{ us, them tally }

// add runs a row, adds its counts to s, and describes in which sums our client
// is worse.
func (s *result) add(t *testing.T, r row) []string {
	w := runRow(t, r)
	s.us.add(&w.us.tally)
	s.them.add(&w.them.tally)
	t.Logf("ours %v | gRPC's %v", &s.us, &s.them)

	return worse(&s.us, &s.them, r.way.allowed == nil)
}
