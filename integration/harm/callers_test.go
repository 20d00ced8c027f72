// Package harm compares this project with the simplest alternative. Under the same faults at the same time, callers lose
// no more than with gRPC's own policy over the same addresses (callers_*), and servers no more than with plain grant,
// put and keep-alive (servers_test.go).
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

// parallel bounds the rows that run at once. Rows mostly wait.
const parallel = 6

func TestMain(m *testing.M) {
	os.Exit(leak.Main(parallel, func() int { return kit.OnEtcd(m, &etcd) }))
}

// TestCallers runs two clients in each environment of the table: ours, and gRPC's own policy with a
// manual resolver. Several rows run at once. If our client is worse off in a row, the row runs again, alone.
// It fails if our client is also worse off in the sum of both runs.
func TestCallers(t *testing.T) {
	var mu sync.Mutex
	seemWorse := make(map[string]bool)
	t.Run("beside", func(t *testing.T) {
		for _, r := range rows {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				if in := new(result).add(t, r); len(in) > 0 {
					t.Logf("ours %s: it runs again, alone", strings.Join(in, ", and "))
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
				t.Errorf("our client %s; want no more than gRPC's\nours:  %v%s\ngRPC's: %v%s", strings.Join(in, ", and "), &sum.us, sum.us.why(), &sum.them, sum.them.why())
			}
		})
	}
}

// result holds the counts of both clients over all runs of a row.
type result struct{ us, them tally }

// add runs a row, adds its counts, and describes the counts in which our client is worse off.
func (s *result) add(t *testing.T, r row) []string {
	w := runRow(t, r)
	s.us.add(&w.us.tally)
	s.them.add(&w.them.tally)
	t.Logf("ours %v | gRPC's %v", &s.us, &s.them)
	return worse(&s.us, &s.them, r.way.allowed == nil)
}
