package discovery

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// within fails unless each server got its share of calls within one percentage point.
func within(t *testing.T, counts map[string]int, calls int, shares map[string]float64) {
	t.Helper()
	for name, want := range shares {
		if got := 100 * float64(counts[name]) / float64(calls); math.Abs(got-want) > 1 {
			t.Errorf("%s got %.2f %% of %d calls, want %.2f %%: %v", name, got, calls, want, counts)
		}
	}
}

func TestZones(t *testing.T) {
	f := newFleet(t, runtime.WithZone("x"))
	near, far := f.start("near", runtime.WithZoneTag("x")), f.start("far", runtime.WithZoneTag("y"))
	conn := f.client(policy(`{"etcd":{"preferZone":true}}`))
	only(t, conn, "near")
	if counts := share(t, conn, 200); counts["far"] > 0 {
		t.Errorf("calls left the zone: %v", counts)
	}
	near.grpc.Stop() // still registered, but not ready
	only(t, conn, "far")
	near.leave(t)
	only(t, conn, "far")
	f.start("near2", runtime.WithZoneTag("x"))
	only(t, conn, "near2")
	_ = far

	nowhere := f.clientOf(f.newRegistry(runtime.WithZone("z")), policy(`{"etcd":{"preferZone":true}}`))
	only(t, nowhere, "far", "near2")
}

const ring = `{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`

func TestAffinityTravelsAsAHash(t *testing.T) {
	f := newFleet(t)
	s := f.start("a")
	conn := f.client(policy(ring))
	ctx := runtime.WithAffinity(metadata.AppendToOutgoingContext(kit.Bounded(t, soon), "mine", "kept"), "alice@example.com")
	if key, ok := runtime.Affinity(ctx); !ok || key != "alice@example.com" {
		t.Errorf("Affinity = %q, %v", key, ok)
	}
	for range 2 {
		if _, err := call(ctx, conn); err != nil {
			t.Fatal(err)
		}
		md := s.headers.Load().(metadata.MD)
		if strings.Contains(fmt.Sprint(md), "alice") || len(md.Get("etcd-affinity")) != 1 || len(md.Get("mine")) != 1 {
			t.Errorf("the server saw %v", md)
		}
		ctx = runtime.WithAffinity(ctx, "bob") // replaces, does not add
	}
	if ctx = runtime.WithAffinity(ctx, ""); ctx != nil {
		if _, ok := runtime.Affinity(ctx); ok {
			t.Error("the affinity is still there")
		}
		if _, err := call(ctx, conn); err != nil {
			t.Fatal(err)
		}
		if md := s.headers.Load().(metadata.MD); len(md.Get("etcd-affinity")) != 0 {
			t.Errorf("the server saw %v", md)
		}
	}
}

func split(v2, v1 int) string {
	return policy(fmt.Sprintf(`{"etcd":{"split":[{"match":{"version":"v2"},"weight":%d},{"match":{"version":"v1"},"weight":%d}],"childPolicy":[{"round_robin":{}}]}}`, v2, v1))
}

func TestLiveSplit(t *testing.T) {
	leak.Beside(t)
	f := newFleet(t)
	f.start("old1", runtime.WithVersion("v1"))
	f.start("old2", runtime.WithVersion("v1"))
	canary := f.start("new", runtime.WithVersion("v2"))
	conn := f.client(policy(`{"round_robin":{}}`))
	only(t, conn, "new", "old1", "old2")

	put := func(config string) {
		t.Helper()
		must(t, f.registry.SetServiceConfig(kit.Bounded(t, soon), key, config))
	}
	put(split(5, 95))
	took := kit.Eventually(t, soon, "the split is in force", func() bool { return share(t, conn, 100)["new"] <= 6 })
	t.Logf("the split was in force after %v", took)
	within(t, share(t, conn, 2_000), 2_000, map[string]float64{"new": 5, "old1": 47.5, "old2": 47.5})

	connections := canary.connections.Load()
	put(split(50, 50))
	kit.Eventually(t, soon, "the new split is in force", func() bool { return share(t, conn, 100)["new"] > 40 })
	within(t, share(t, conn, 2_000), 2_000, map[string]float64{"new": 50, "old1": 25, "old2": 25})
	if now := canary.connections.Load(); now != connections {
		t.Errorf("a change of the weights alone made %d more connections", now-connections)
	}

	canary.grpc.Stop() // its group has nothing ready
	only(t, conn, "old1", "old2")
	put(split(0, 100))
	only(t, conn, "old1", "old2")
	put("")
	f.start("new2", runtime.WithVersion("v2"))
	only(t, conn, "new2", "old1", "old2")
}

func TestBadLivePolicies(t *testing.T) {
	f := newFleet(t)
	for _, tt := range []struct{ config, want string }{
		{`{"loadBalancingConfig":[{"nope":{}}]}`, "nope"},
		{policy(`{"etcd":{"splits":[]}}`), "splits"},
		{split(0, 0), "zero"},
		{policy(`{"etcd":{"childPolicy":[{"nope":{}}]}}`), "nope"},
		{policy(`{"etcd":{"childPolicy":[{"round_robin":{"x":1}}]}}`), `"x"`},
		{policy(`{"round_robin":{"x":1}}`), `"x"`},
		{policy(`{"ring_hash_experimental":{}}`), "requestHashHeader"},
		{`{"methodConfig":[{"name":[{}],"timeout":"0s"}]}`, "timeout"},
		{`null`, "null"},
		{`{`, "JSON"},
	} {
		if err := f.registry.SetServiceConfig(kit.Bounded(t, soon), key, tt.config); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", tt.config, err, tt.want)
		}
	}
}

func TestLiveDrain(t *testing.T) {
	leak.Beside(t)
	f := newFleet(t)
	f.start("a")
	b := f.start("b")
	conn := f.client(policy(`{"round_robin":{}}`))
	only(t, conn, "a", "b")
	held := make(chan error, 1)
	go func() {
		ctx := metadata.AppendToOutgoingContext(kit.Bounded(t, soon), "hold", "1")
		for {
			name, err := call(ctx, conn)
			if name != "a" || err != nil {
				held <- err
				return
			}
		}
	}()
	a := f.all["a"]
	go func() { // calls that reach a are let go at once
		for range a.holding {
			a.hold <- struct{}{}
		}
	}()
	<-b.holding
	drain := func(what string) {
		t.Helper()
		must(t, f.registry.SetServiceConfig(kit.Bounded(t, soon), key, policy(`{"etcd":{"drain":[`+what+`]}}`)))
	}
	drain(fmt.Sprintf("%q", b.addr)) // by address
	t.Logf("drained after %v", only(t, conn, "a"))
	b.hold <- struct{}{}
	if err := <-held; err != nil {
		t.Errorf("the call under way on the drained server: %v", err)
	}
	drain(`"a","b"`) // everything: ignored
	only(t, conn, "a", "b")
	drain(`"a"`)
	only(t, conn, "b")
	close(a.holding)
}

func TestSelector(t *testing.T) {
	f := newFleet(t)
	f.start("a", runtime.WithVersion("v1"))
	f.start("b", runtime.WithVersion("v2"))
	v2 := func(e runtime.Endpoint) bool { return e.Version == "v2" }
	conn := f.client("", runtime.WithSelector(v2))
	only(t, conn, "b")
	f.start("c", runtime.WithVersion("v2"))
	only(t, conn, "b", "c")
	none := f.client("", runtime.WithSelector(func(runtime.Endpoint) bool { return false }))
	if _, err := call(kit.Bounded(t, soon), none); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "selected") {
		t.Errorf("a selector that selects nothing: %v", err)
	}
}

func TestSubset(t *testing.T) {
	const servers, clients, size = 10, 40, 3
	f := newFleet(t)
	for i := range servers {
		f.start(fmt.Sprintf("s%d", i))
	}
	used := make(map[string]int)
	conns := make([]*grpc.ClientConn, clients)
	sets := make([]map[string]int, clients)
	for i := range clients {
		conns[i] = f.clientOf(f.newRegistry(), "", runtime.WithSubset(size))
		kit.Eventually(t, soon, "the subset is in use", func() bool { sets[i] = share(t, conns[i], 4*size); return len(sets[i]) == size })
		for name := range sets[i] {
			used[name]++
		}
	}
	if len(used) != servers {
		t.Errorf("%d clients use %v, want all servers", clients, used)
	}
	f.all["s0"].leave(t)
	changed := 0
	for i, conn := range conns {
		now := make(map[string]int)
		kit.Eventually(t, soon, "the server is gone", func() bool { now = share(t, conn, 4*size); return now["s0"] == 0 && len(now) == size })
		for name := range sets[i] {
			if now[name] == 0 && name != "s0" {
				changed++
			}
		}
	}
	if changed > 0 {
		t.Errorf("%d other connections moved when one server left", changed)
	}
}

func TestTarget(t *testing.T) {
	f := newFleet(t)
	a, _ := f.start("a"), f.start("b")
	conn := f.client("")
	for _, name := range []string{"a", "b", "a"} {
		for range 10 {
			if got, err := call(runtime.WithTarget(kit.Bounded(t, soon), name), conn); got != name || err != nil {
				t.Fatalf("a call to %s reached %q, %v", name, got, err)
			}
		}
	}
	a.leave(t)
	kit.Eventually(t, soon, "the instance is gone", func() bool {
		name, err := call(runtime.WithTarget(kit.Bounded(t, soon), "a"), conn, grpc.WaitForReady(true))
		if err == nil && name != "a" {
			t.Fatalf("a call to a reached %q", name)
		}
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), `"a"`)
	})
	moved := f.listen("a")
	f.register(moved)
	kit.Eventually(t, soon, "the instance is back at another address", func() bool {
		name, err := call(runtime.WithTarget(kit.Bounded(t, soon), "a"), conn)
		return err == nil && name == "a" && moved.calls.Load() > 0
	})
	moved.grpc.Stop()
	if _, err := call(runtime.WithTarget(kit.Bounded(t, soon), "a"), conn); status.Code(err) != codes.Unavailable {
		t.Errorf("a call to an instance that is down: %v", err)
	}
}

// baseBuilder makes a policy as they were written before there were endpoints.
type baseBuilder struct{}

func (baseBuilder) Build(info base.PickerBuildInfo) balancer.Picker {
	for sc := range info.ReadySCs {
		return fixed{sc}
	}
	return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
}

type fixed struct{ sc balancer.SubConn }

func (f fixed) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{SubConn: f.sc}, nil
}

func init() {
	balancer.Register(base.NewBalancerBuilder("old_fashioned", baseBuilder{}, base.Config{}))
}

func TestPolicyThatKnowsAddressesAlone(t *testing.T) {
	f := newFleet(t)
	f.start("a")
	only(t, f.client(policy(`{"old_fashioned":{}}`)), "a")
}

// TestP8_PolicyOfTheCallersThatKnowsAddressesAlone has such a policy in place of ours.
func TestP8_PolicyOfTheCallersThatKnowsAddressesAlone(t *testing.T) {
	f := newFleet(t)
	f.start("a")
	f.start("b")
	conn := f.client("", grpc.WithDefaultServiceConfig(policy(`{"old_fashioned":{}}`)), runtime.WithSelector(func(e runtime.Endpoint) bool { return e.Instance == "b" }))
	only(t, conn, "b")
}
