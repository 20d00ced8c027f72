package discovery

import (
	"fmt"
	"testing"

	_ "google.golang.org/grpc/balancer/weightedroundrobin"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestS8_LivePoliciesShareConnections changes the live config of a client that calls all the time,
// among all the policies that it can have.
func TestS8_LivePoliciesShareConnections(t *testing.T) {
	leak.Beside(t)
	f := newFleet(t, runtime.WithZone("z1"))
	var servers []*backend
	var names []string
	for i := range 5 {
		name := fmt.Sprintf("i%d", i)
		servers = append(servers, f.start(name, runtime.WithVersion(fmt.Sprintf("v%d", i%2)), runtime.WithZoneTag(fmt.Sprintf("z%d", i%2))))
		names = append(names, name)
	}
	conn := f.client("")
	only(t, conn, names...)
	stop := callAllTheTime(t, conn, 1)
	for i, child := range []string{
		`{"etcd_weighted":{}}`, `{"weighted_round_robin":{}}`,
		`{"outlier_detection_experimental":{"failurePercentageEjection":{},"childPolicy":[{"round_robin":{}}]}}`, `{"etcd_peak_ewma":{}}`,
	} {
		more := []string{`"slowStart":{"window":"10s"},"maxConcurrentRequests":64,`, `"preferZone":true,`, `"split":[{"match":{"version":"v0"},"weight":1},{"match":{"version":"v1"},"weight":2}],`}[i%3]
		f.live(policy(`{"etcd":{` + more + `"childPolicy":[` + child + `]}}`))
		share(t, conn, 50)
	}
	// Faster than a client follows: it skips what is replaced before its time.
	flips := 231
	if testing.Short() {
		flips = 31
	}
	for i := range flips {
		must(t, f.servers.SetServiceConfig(kit.Bounded(t, soon), key, policy([]string{`{"round_robin":{}}`, ring}[i%2])))
	}
	for _, s := range servers {
		if name, err := call(runtime.WithTarget(kit.Bounded(t, soon), s.name), conn); err != nil || name != s.name {
			t.Errorf("a call to %s: %s, %v", s.name, name, err)
		}
	}
	t.Logf("%d calls", stop())
	more := -len(servers)
	for _, s := range servers {
		more += int(s.connections.Load())
	}
	report.Count(t, "S8", fmt.Sprintf("connections made by %d live policies, over 5 instances", 4+flips), more)
	if more != 0 {
		t.Errorf("%d connections were made", more)
	}
}
