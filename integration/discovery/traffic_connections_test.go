package discovery

import (
	"fmt"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestP7_ChangesConnectToNothingAnew puts splits, zones and policies live under load, over 20
// instances that are connected to, and names instances: no connection is made, and no call fails.
func TestP7_ChangesConnectToNothingAnew(t *testing.T) {
	leak.Beside(t)
	const instances = 20
	f := newFleet(t, runtime.WithZone("x"))
	var names []string
	for i := range instances {
		name := fmt.Sprintf("s%02d", i)
		names = append(names, name)
		f.start(name, runtime.WithVersion(fmt.Sprintf("v%d", i%2+1)), runtime.WithZoneTag([]string{"x", "y"}[i/2%2]))
	}
	conn := f.client(policy(`{"round_robin":{}}`))
	only(t, conn, names...)
	connections := func() (n int) {
		for _, name := range names {
			n += int(f.all[name].connections.Load())
		}
		return n
	}
	first := connections()

	stop := callAllTheTime(t, conn, 2)
	for _, change := range []struct{ name, config string }{
		{"another policy", policy(`{"least_request_experimental":{"choiceCount":2}}`)},
		{"a lazy policy", policy(ring)},
		{"a split and zones", policy(`{"etcd":{"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":1}],"preferZone":true}}`)},
		{"none of it", ""},
	} {
		f.live(change.config)
		share(t, conn, 60)
		report.Count(t, "P7", "connections made by "+change.name+", over 20 instances", connections()-first)
	}
	for _, name := range names {
		if got, err := call(runtime.WithTarget(kit.Bounded(t, soon), name), conn); err != nil || got != name {
			t.Errorf("a call for %s: %q, %v", name, got, err)
		}
	}
	report.Count(t, "P7", "connections made by targets, over 20 instances", connections()-first)
	stop()
	if n := connections() - first; n != 0 {
		t.Errorf("%d connections were made, want none", n)
	}
}
