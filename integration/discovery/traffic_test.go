package discovery

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

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

func TestPolicies(t *testing.T) {
	f := newFleet(t)
	for _, name := range []string{"a", "b", "c"} {
		f.start(name)
	}
	for name, config := range map[string]string{
		"none":          "",
		"round_robin":   policy(`{"round_robin":{}}`),
		"least_request": policy(`{"least_request_experimental":{"choiceCount":2}}`),
		"ring_hash":     policy(`{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`),
		"weighted":      policy(`{"etcd_weighted":{}}`),
		"by name":       `{"loadBalancingPolicy":"round_robin"}`,
	} {
		conn := f.client(config)
		only(t, conn, "a", "b", "c")
		if counts := share(t, conn, 300); len(counts) != 3 {
			t.Errorf("%s: calls reached %v, want all three", name, counts)
		}
	}
	conn := f.client(policy(`{"pick_first":{}}`))
	if counts := share(t, conn, 100); len(counts) != 1 {
		t.Errorf("pick_first: calls reached %v, want one", counts)
	}
}

func TestWeighted(t *testing.T) {
	f := newFleet(t)
	a := f.start("a", runtime.WithWeight(5))
	b := f.start("b", runtime.WithWeight(4))
	c := f.start("c") // unset counts as 1
	conn := f.client(policy(`{"etcd_weighted":{}}`))
	only(t, conn, "a", "b", "c")
	within(t, share(t, conn, 2_000), 2_000, map[string]float64{"a": 50, "b": 40, "c": 10})

	connections := a.connections.Load() + b.connections.Load() + c.connections.Load()
	if err := a.registration.Update(kit.Bounded(t, soon), runtime.WithWeight(15)); err != nil {
		t.Fatal(err)
	}
	kit.Eventually(t, soon, "the new weight is in force", func() bool { return share(t, conn, 100)["a"] > 65 })
	within(t, share(t, conn, 2_000), 2_000, map[string]float64{"a": 75, "b": 20, "c": 5})
	if now := a.connections.Load() + b.connections.Load() + c.connections.Load(); now != connections {
		t.Errorf("%d connections became %d", connections, now)
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

// TestZonesSpillInProportion stops more and more instances of the caller's zone.
func TestZonesSpillInProportion(t *testing.T) {
	f := newFleet(t, runtime.WithZone("x"))
	var near []*backend
	for i := range 10 {
		near = append(near, f.start(fmt.Sprintf("near%d", i), runtime.WithZoneTag("x")))
	}
	far := []*backend{f.start("far0", runtime.WithZoneTag("y")), f.start("far1", runtime.WithZoneTag("z"))}
	conn := f.client(policy(`{"etcd":{"preferZone":true}}`))
	staying := func(n int) (percent float64) {
		t.Helper()
		stayed := 0
		for name, calls := range share(t, conn, n) {
			if strings.HasPrefix(name, "near") {
				stayed += calls
			}
		}
		return float64(stayed) / float64(n) * 100
	}
	kit.Eventually(t, soon, "all of the zone are called", func() bool { return len(share(t, conn, 10)) == 10 })
	kit.Eventually(t, soon, "other zones are connected to", func() bool { return far[0].connections.Load()+far[1].connections.Load() == 2 })
	f.live(policy(`{"etcd":{"preferZone":true,"zoneMinPercent":80}}`))
	for _, tt := range []struct {
		ready int
		want  float64
	}{{10, 100}, {8, 100}, {5, 62.5}, {2, 25}, {0, 0}} {
		for _, s := range near[tt.ready:] {
			s.grpc.GracefulStop()
		}
		kit.Eventually(t, soon, fmt.Sprintf("%v%% of the calls stay with %d ready", tt.want, tt.ready), func() bool {
			return math.Abs(staying(300)-tt.want) < 2
		})
	}
	if n := far[0].connections.Load() + far[1].connections.Load(); n != 2 {
		t.Errorf("%d connections to two servers", n)
	}
}

func TestZoneOfRegistrations(t *testing.T) {
	f := newFleet(t, runtime.WithZone("x"))
	for instance, opts := range map[string][]runtime.RegisterOption{"x": nil, "y": {runtime.WithZoneTag("y")}} {
		if _, err := f.registry.Register(kit.Bounded(t, soon), "zones", runtime.Endpoint{Instance: instance, Addr: "10.0.0.1:1"}, append(opts, runtime.WithMetadata("i", instance))...); err != nil {
			t.Fatal(err)
		}
		for set, err := range f.registry.Watch(kit.Bounded(t, soon), "zones") {
			if err != nil {
				t.Fatal(err)
			}
			if len(set) == 1 && set[0].Zone == instance {
				break
			}
		}
		if err := f.registry.Remove(kit.Bounded(t, soon), "zones", instance); err != nil {
			t.Fatal(err)
		}
	}
}

const ring = `{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`

// owners tells which server each of n keys belongs to, as a client sees it.
func owners(t *testing.T, conn grpc.ClientConnInterface, n int) map[string]string {
	t.Helper()
	owned := make(map[string]string)
	ctx := kit.Bounded(t, 6*soon)
	for i := range n {
		user := fmt.Sprintf("user-%d", i)
		name, err := call(runtime.WithAffinity(ctx, user), conn)
		if err != nil {
			t.Fatal(err)
		}
		owned[user] = name
	}
	return owned
}

func moved(before, after map[string]string) (n int) {
	for user, name := range before {
		if after[user] != name {
			n++
		}
	}
	return n
}

func TestAffinity(t *testing.T) {
	const servers, users = 5, 500
	f := newFleet(t)
	for i := range servers {
		f.start(fmt.Sprintf("s%d", i))
	}
	conn := f.client(policy(ring))
	kit.Eventually(t, soon, "all servers are known", func() bool { return len(share(t, conn, 200)) == servers })
	before := owners(t, conn, users)
	if n := moved(before, owners(t, conn, users)); n > 0 {
		t.Errorf("%d of %d keys moved for no reason", n, users)
	}
	other := f.clientOf(f.newRegistry(), policy(ring))
	kit.Eventually(t, soon, "all servers are known", func() bool { return len(share(t, other, 200)) == servers })
	if n := moved(before, owners(t, other, users)); n > 0 {
		t.Errorf("%d of %d keys are elsewhere for another client", n, users)
	}

	// A new address under the same instance id keeps its keys.
	s := f.all["s1"]
	s.leave(t)
	moving := f.listen("s1")
	f.register(moving)
	kit.Eventually(t, soon, "the new address is in use", func() bool { share(t, conn, 50); return moving.calls.Load() > 0 })
	if n := moved(before, owners(t, conn, users)); n > 0 {
		t.Errorf("%d of %d keys moved when an instance got another address", n, users)
	}

	f.all["s3"].leave(t)
	kit.Eventually(t, soon, "the server is gone", func() bool { return share(t, conn, 200)["s3"] == 0 })
	n := moved(before, owners(t, conn, users))
	t.Logf("%d of %d keys moved when one of %d left", n, users, servers)
	if limit := 1.5 / servers * users; float64(n) > limit {
		t.Errorf("%d of %d keys moved when one of %d left, want at most %.0f", n, users, servers, limit)
	}
}

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
	f := newFleet(t)
	f.start("old1", runtime.WithVersion("v1"))
	f.start("old2", runtime.WithVersion("v1"))
	canary := f.start("new", runtime.WithVersion("v2"))
	conn := f.client(policy(`{"round_robin":{}}`))
	only(t, conn, "new", "old1", "old2")

	put := func(config string) {
		t.Helper()
		if err := f.registry.SetServiceConfig(kit.Bounded(t, soon), key, config); err != nil {
			t.Fatal(err)
		}
	}
	put(split(5, 95))
	took := kit.Eventually(t, soon, "the split is in force", func() bool { return share(t, conn, 100)["new"] <= 6 })
	t.Logf("the split was in force after %v", took)
	if took > time.Second {
		t.Errorf("the split was in force after %v, want within 1 s", took)
	}
	within(t, share(t, conn, 2_000), 2_000, map[string]float64{"new": 5, "old1": 47.5, "old2": 47.5})

	connections := canary.connections.Load()
	put(split(50, 50))
	took = kit.Eventually(t, soon, "the new split is in force", func() bool { return share(t, conn, 100)["new"] > 40 })
	if took > time.Second {
		t.Errorf("the change was in force after %v, want within 1 s", took)
	}
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
		if err := f.registry.SetServiceConfig(kit.Bounded(t, soon), key, policy(`{"etcd":{"drain":[`+what+`]}}`)); err != nil {
			t.Fatal(err)
		}
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

// TestLiveSubset has a live config give every client a subset, and change its size, under load.
func TestLiveSubset(t *testing.T) {
	leak.Beside(t)
	f := newFleet(t)
	for i := range 6 {
		f.start(fmt.Sprintf("s%d", i))
	}
	const config = `{"etcd":{"subset":%d,"childPolicy":[{"round_robin":{}}]}}`
	conn, few := f.client(""), f.client("", runtime.WithSubset(2))
	uses := func(of *grpc.ClientConn, n int) {
		t.Helper()
		kit.Eventually(t, soon, fmt.Sprintf("%d servers are called", n), func() bool { return len(share(t, of, 18)) == n })
	}
	uses(conn, 6)
	stop := callAllTheTime(t, conn, 2)
	for _, tt := range []struct{ subset, want, few int }{{3, 3, 2}, {1, 1, 1}, {5, 5, 2}} {
		f.live(policy(fmt.Sprintf(config, tt.subset)))
		uses(conn, tt.want)
		uses(few, tt.few)
	}
	f.live("")
	uses(conn, 6)
	if stop() == 0 {
		t.Error("no calls")
	}
	for name, s := range f.all {
		if n := s.connections.Load(); n > 4 { // each client's, and again where a smaller subset lacks it
			t.Errorf("%d connections to %s", n, name)
		}
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

// TestPolicyChanges changes the policy under load: no call fails.
func TestPolicyChanges(t *testing.T) {
	leak.Beside(t)
	f := newFleet(t, runtime.WithZone("x"))
	for i, zone := range []string{"x", "y", "x"} {
		f.start(fmt.Sprintf("s%d", i), runtime.WithVersion(fmt.Sprintf("v%d", i%2+1)), runtime.WithZoneTag(zone))
	}
	conn := f.client(policy(`{"round_robin":{}}`))
	only(t, conn, "s0", "s1", "s2")
	stop := callAllTheTime(t, conn, 4)
	for _, config := range []string{
		policy(`{"etcd_weighted":{}}`), split(50, 50), policy(ring), policy(`{"etcd":{"preferZone":true}}`),
		policy(`{"pick_first":{}}`), policy(`{"etcd":{"drain":["s0"],"preferZone":true,"childPolicy":[` + ring + `]}}`), "",
		policy(`{"least_request_experimental":{"choiceCount":2}}`),
	} {
		f.live(config)
		share(t, conn, 50)
	}
	stop()
}

// TestLivePolicyConnectsBeforeItServes puts a split while servers take no new connections: calls go on
// over the old ones, and by the split once there are new ones.
func TestLivePolicyConnectsBeforeItServes(t *testing.T) {
	f := newFleet(t)
	for name, version := range map[string]string{"old": "v1", "new": "v2"} {
		f.start(name, runtime.WithVersion(version))
	}
	conn := f.client(policy(`{"round_robin":{}}`))
	only(t, conn, "new", "old")
	for _, s := range f.all {
		s.gate.Lock()
	}
	if err := f.registry.SetServiceConfig(kit.Bounded(t, soon), key, split(0, 100)); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < time.Second; {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		if _, err := call(ctx, conn); err != nil {
			t.Errorf("a call while the split connects: %v", err)
		}
		cancel()
	}
	for _, s := range f.all {
		s.gate.Unlock()
	}
	only(t, conn, "old")
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
