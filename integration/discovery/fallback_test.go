package discovery

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Callers use the fallback cluster only while the primary has no instance, and never for calls that
// name an instance (R10). A fallback's own fallback is ignored.
func TestFallback_OnlyWithoutPrimary(t *testing.T) {
	reader := metric.NewManualReader()
	home := newWorld(t, nil, runtime.WithNamespace("east/"), runtime.WithEmptyGrace(time.Second))
	away := newWorld(t, nil, runtime.WithNamespace("west/"), runtime.WithEmptyGrace(time.Second), runtime.WithFallback(home.registry))
	home.registry = home.newRegistry(home.client, runtime.WithNamespace("east/"), runtime.WithEmptyGrace(time.Second),
		runtime.WithFallback(away.registry), metered(reader))
	awayConns := func() float64 { n, _ := value(t, reader, "etcdrpc.discovery.away"); return n }
	a1 := away.serve("a1")
	away.put("west/"+key+"/a1", a1.addr)
	conn, instances := home.conn(), home.instances()
	if got, err := within(conn, soon); got != "a1" {
		t.Errorf("the first call of a key without instances in the primary: %q, %v", got, err)
	}
	kit.Eventually(t, soon, "the status says that calls have left", func() bool { return home.status().Away == 1 })
	if n := awayConns(); n != 1 {
		t.Errorf("the metric is %v, want 1 connection", n)
	}
	if n := away.status().Connections; n != 0 {
		t.Errorf("the fallback's registry counts %d connections to its own fallback", n)
	}
	if all, err := instances.All(kit.Bounded(t, soon)); len(all) > 0 || err != nil {
		t.Errorf("the primary's instances: %v, %v; want none", all, err)
	}
	if _, err := call(runtime.WithTarget(kit.Bounded(t, soon), "a1"), conn); status.Code(err) != codes.Unavailable {
		t.Errorf("a call that names the other cluster's instance: %v", err)
	}
	kit.Must(t, away.registry.SetServiceConfig(kit.Bounded(t, soon), key, hasty))
	kit.Eventually(t, soon, "the fallback registry has the config", func() bool { return away.status().ServiceConfig != "" })
	reached(t, conn, soon, "a1")

	h1 := home.serve("h1")
	registration, err := home.registry.Register(kit.Bounded(t, soon), key, runtime.Endpoint{Instance: "h1", Addr: h1.addr})
	kit.Must(t, err)
	reached(t, conn, soon, "h1")
	kit.Eventually(t, soon, "the status says that calls are back", func() bool { return home.status().Away == 0 && awayConns() == 0 })
	load := underLoad(t, conn, 2)
	load.more(t, 100)
	kit.Must(t, registration.Close(kit.Bounded(t, soon)))
	reached(t, conn, soon, "a1")
	load.none(t)
	if left, back := home.logs.Count("calls go to the cluster to fall back on"), home.logs.Count("calls are back"); left != 2 || back != 1 {
		t.Errorf("failover and failback lines: %d and %d: %s", left, back, home.logs.Lines())
	}

	fails := func(why string) {
		t.Helper()
		kit.Eventually(t, soon, "calls fail: "+why, func() bool {
			_, err := within(conn, soon)
			return status.Code(err) == codes.Unavailable && strings.Contains(fmt.Sprint(err), why)
		})
	}
	h1.stop()
	a1.stop()
	fails(`under "east/helloworld/greeter"; nor in the cluster to fall back on: `)
	kit.Must(t, away.registry.Close(kit.Bounded(t, soon)))
	fails(`no endpoint is registered under "east/helloworld/greeter"`)
}
