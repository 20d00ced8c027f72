package balancer

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// TestConnections_OnePerAddress changes the live config of 20 connected
// instances, and then an entry. Calls are made before gRPC reports anything. No
// connection is made, and no call fails (P2, P6, P7, R8, S8).
func TestConnections_OnePerAddress(t *testing.T) {
	r := newRig(t)

	var specs []string
	for i := range 20 {
		specs = append(specs, fmt.Sprintf("%c v%d %c", 'a'+i, i%2+1, 'x'+i%3))
	}

	r.update("", specs...)

	for _, s := range r.open() { // from now on, attempts to connect hang
		r.hangs[s.addrs[0].Addr] = true
	}

	const drain = `"drain":["a"]`
	for _, config := range []string{
		byVersion, `"split":[{"match":{"version":"v2"},"weight":5}]`, `"split":[{"match":{"zone":"x"},"weight":5},{"match":{"zone":"y"},"weight":5}]`, ``,
		`"preferZone":true`, drain, looseRed, `"childPolicy":[{"least_request_experimental":{}}]`, `"childPolicy":[{"etcd_weighted":{}}]`, ring, firstOne,
		`"childPolicy":[{"round_robin":{}}],"preferZone":true,"split":[{"match":{"version":"v1"},"weight":1}]`, peakConfig,
	} {
		r.send(config, model.State{KeyState: known(specs...)})

		for key := range 50 {
			got := r.where(keyed(key))
			if len(got) != 1 || got == "a" && config == drain {
				t.Errorf("config %q: a call went to %q, want one instance that is not drained",
					config, got)
			}
		}
	}

	specs[0] = "a v9 z"
	r.update("", specs...)

	for _, name := range []string{"a", "t"} {
		r.expect(named(name), "by name", "waits")
		r.settle()
		r.expect(named(name), "by name, again", name)
	}

	if made, open := len(r.made), len(r.open()); made != 20 || open != 20 {
		t.Errorf("%d connections were made, and %d are open, want 20 and 20", made, open)
	}
}

// TestConnections_LateStatesAreDropped makes gRPC report a state of a
// connection that the policy has closed.
func TestConnections_LateStatesAreDropped(t *testing.T) {
	r := newRig(t)
	r.update("", "a")
	conn := r.policy.core.conns["a:1"]
	r.policy.do(func() {
		r.policy.core.close(conn)
		r.policy.core.connect(conn, false, r.now)
	})

	r.settle()
	r.made[0].listener(balancer.SubConnState{ConnectivityState: connectivity.TransientFailure})
	r.settle()

	if len(r.made) != 2 || !conn.is(ready) {
		t.Errorf("%d connections were made, and the last one has the condition %+v, want 2 and the readiness ready",
			len(r.made), conn.current.Load())
	}
}

// TestConnections_NewUnderParents makes an endpoint leave and return at once.
// Outlier detection forgets the SubConns of an endpoint that leaves, and can
// then eject only a new connection. So under outlier detection the policy
// connects again.
func TestConnections_NewUnderParents(t *testing.T) {
	for parent, want := range map[bool]int{false: 2, true: 3} {
		r := newRig(t)
		for _, name := range []string{"a", "b", "a"} {
			r.updateState("", model.State{KeyState: known(name), InState: parent})
			r.expect(t.Context(), name+" is registered", name)
		}

		if len(r.made) != want {
			t.Errorf("%d connections were made, want %d (under a parent policy: %v)", len(r.made),
				want, parent)
		}
	}
}

// TestConnections_WatchHealthAgain changes the health config. gRPC reads that
// config only when a watch begins (R8).
func TestConnections_WatchHealthAgain(t *testing.T) {
	r := newRig(t)
	for i, health := range []string{"", "acme.User", "acme.User", "acme.Shop"} {
		r.updateState("", model.State{KeyState: known("a"), Health: health})

		if got, want := r.made[0].registers, []int{1, 2, 2, 3}[i]; got != want {
			t.Errorf("after config %d there were %d health watches, want %d", i, got, want)
		}
	}
}

// TestConnections_RetriesRestartedServersAtOnce registers a failed server again
// at its address: gRPC's backoff of up to two minutes concerns the previous
// server. If entries have no start times, a new entry or lease counts as a
// restart.
func TestConnections_RetriesRestartedServersAtOnce(t *testing.T) {
	started := func(at string) model.State {
		a := endpoint.Endpoint{
			Instance: "a",
			Addr:     "a:1",
			Metadata: map[string]string{endpoint.StartedName: at},
		}

		return model.State{KeyState: model.KeyState{
			Known:     true,
			Endpoints: append([]*model.Backend{backend(a)}, endpointsOf("b")...),
		}}
	}

	entered := func(lease, created int64) model.State {
		s := started("")
		s.Endpoints[0].Lease = lease
		s.Endpoints[0].Created = created

		return s
	}
	for name, tt := range map[string]struct {
		config        string
		targetsOnly   bool
		before, after model.State
		leaves        bool // between before and after
	}{
		"a server in the plan": {``, false, started("1"), started("2"), false},
		"only named instances": {``, true, started("1"), started("2"), false},
		"a drained server":     {`"drain":["a"]`, false, started("1"), started("2"), false},
		"a new entry":          {``, false, entered(1, 1), entered(1, 2), false},
		"a new lease":          {``, false, entered(1, 1), entered(2, 1), false},
		"a removed entry":      {``, false, started(""), started(""), true},
	} {
		r := newRig(t)
		r.client.TargetsOnly = tt.targetsOnly

		reached := func(s model.State) bool {
			r.updateState(tt.config, s)
			_ = r.where(named("a"))
			r.settle()

			return r.where(named("a")) == "a"
		}

		r.refuse("a")
		reached(tt.before)
		clear(r.down)

		if reached(tt.before) {
			t.Errorf("%s: before the restart, a call reached the server during gRPC's backoff, want no call to reach it", name)
		}

		if tt.leaves {
			reached(model.State{KeyState: known("b")})
		}

		if !reached(tt.after) {
			t.Errorf("%s: after the restart, the call did not reach the server, want it to connect at once", name)
		}
	}
}

// TestConnections_ManyRestarts registers a hanging server again and again.
// Calls do not wait for the server again, and a young attempt to connect does
// not end.
func TestConnections_ManyRestarts(t *testing.T) {
	r := newRig(t)
	r.hangs["h:1"] = true

	for lease := range 10 {
		s := model.State{KeyState: known("h", "o")}
		s.Endpoints[0].Lease = int64(lease)
		r.updateState(`"drain":["o"]`, s)
		r.pass(200 * time.Millisecond)

	}

	if len(r.made) != 3 {
		t.Errorf("%d attempts to connect were made in 2 s, want one to o and two to h, each for a second",
			len(r.made))
	}

	if got := r.where(t.Context()); got != "o" {
		t.Errorf("after 2 s, a call gets %q, want the drained o", got)
	}
}

// TestConnections_SubsetSkipsUnreachable makes the first endpoints of a subset,
// or within a client's limit, fail or hang. The next endpoints replace them,
// and stay while the first ones are tried again.
func TestConnections_SubsetSkipsUnreachable(t *testing.T) {
	fleet := strings.Split("abcdefgh", "")
	for name, client := range map[string]planner.Client{
		"subset": {Subset: 2, Seed: seedOfTests},
		"bound":  {Most: 2, Seed: seedOfTests},
	} {
		p := makePlan(inputOf(mustConfig(t, `{}`), client, endpointsOf(fleet...)))
		ranking := p.Rank(p.Base.Members)

		at := func(i int) string { return fleet[ranking[i]] }
		for what, bad := range map[string]func(r *rig, addr string){
			"refuses":      func(r *rig, addr string) { r.down[addr] = errRefused },
			"hangs":        func(r *rig, addr string) { r.hangs[addr] = true },
			"is unhealthy": func(r *rig, addr string) { r.unwell[addr] = errors.New("unhealthy") },
		} {
			r := newRig(t)
			r.client = &model.Client{Client: client}
			bad(r, at(0)+":1")
			bad(r, at(1)+":1")
			r.update("", fleet...)

			for range 4 {
				r.pass(attemptDelay)
			}

			reached := make(map[string]int)
			for range 8 {
				reached[r.where(t.Context())]++
			}

			if len(reached) != 2 || reached[at(2)] != 4 || reached[at(3)] != 4 {
				t.Errorf(
					"%s: while each of the first two endpoints %s, calls go to %v, want %s and %s",
					name, what, reached, at(2), at(3))
			}

			for i := range 2 { // tried again, they hang
				r.hangs[at(i)+":1"] = true
				r.set(at(i), connectivity.Idle)
			}

			if open := r.open(); len(open) > 4 {
				t.Errorf("%s: while each of the first two endpoints, which %s, connects again, %s are connected, want no further ones",
					name, what, addrs(open))
			}
		}
	}
}

// TestConnections_BoundsSilentEndpoints has a client with a limit of 40
// endpoints, and 400 endpoints that neither accept nor refuse connections.
// Twice, 400 others replace them, and the connections are closed at once. Calls
// go to the fallback within 2 s. At last one endpoint accepts connections, and
// calls go to that endpoint, though many others are tried again meanwhile.
func TestConnections_BoundsSilentEndpoints(t *testing.T) {
	r := newRig(t)
	r.client = &model.Client{Client: planner.Client{Most: 40, Seed: seedOfTests}}

	for _, generation := range []string{"x", "y", "z"} {
		s := model.State{KeyState: known(), Away: &model.State{KeyState: known("away")}}
		for n := range 400 {
			name := fmt.Sprint(generation, n)
			r.hangs[name+":1"] = true
			s.Endpoints = append(s.Endpoints, endpointsOf(name)...)
		}

		r.updateState("", s)

		for range 8 {
			r.pass(attemptDelay)

			if open, most := len(r.open()), 1+2*40; open > most {
				t.Fatalf("%d connections are open, want at most %d", open, most)
			}
		}

		r.expect(t.Context(), "while all endpoints hang", "away")
	}

	p := r.policy.core.plan
	ranking := p.base.groups[0][0].Members
	answers := p.All[ranking[len(ranking)-1]].Endpoint.Instance
	delete(r.hangs, answers+":1")

	for range 40 {
		for _, s := range r.open() { // gRPC gives up on each attempt, and tries again
			switch s.state {
			case connectivity.Connecting:
				s.set(connectivity.TransientFailure, errRefused)
			case connectivity.TransientFailure:
				s.set(connectivity.Idle, nil)
			}
		}

		r.settle()
		r.pass(attemptDelay)
	}

	r.expect(t.Context(), "once one endpoint answers", answers)
}

// TestConnections_BoundsUnused replaces the connected endpoints of a client
// with a limit, again and again.
func TestConnections_BoundsUnused(t *testing.T) {
	r := newRig(t)
	r.client = &model.Client{Client: planner.Client{Most: 2, Seed: seedOfTests}}

	for i := range 9 {
		r.update("", fmt.Sprint("a", i), fmt.Sprint("b", i))
	}

	if open := r.open(); len(open) != 4 {
		t.Errorf("%d connections are open, want 2 in use and 2 unused", len(open))
	}
}

// TestConnections_AcceptUnusualEndpoints uses every policy with unusual
// endpoints.
func TestConnections_AcceptUnusualEndpoints(t *testing.T) {
	ofEtcd := func(instance, addr string, weight uint32) resolver.Endpoint {
		return backend(endpoint.Endpoint{Instance: instance, Addr: addr, Weight: weight}).GRPC()
	}
	var heavy []resolver.Endpoint
	for i := range 1000 {
		heavy = append(heavy,
			ofEtcd(fmt.Sprintf("i%04d", i), fmt.Sprintf("i%04d:1", i), math.MaxUint32))
	}

	const bound, slow = `"maxConcurrentRequests":4294967295,`, `"slowStart":{"window":"3600s"},`
	for way, with := range map[string]string{
		`"round_robin":{}`:                                   bound + slow,
		`"etcd_weighted":{}`:                                 bound + slow,
		`"etcd_peak_ewma":{}`:                                bound + slow,
		`"least_request_experimental":{}`:                    bound,
		`"ring_hash_experimental":{"requestHashHeader":"k"}`: bound,
		`"pick_first":{}`:                                    "",
	} {
		for _, tt := range []struct {
			name  string
			fleet []resolver.Endpoint
			want  int // the number of addresses that calls may go to
		}{
			{"no endpoint", nil, 0},
			{"without an address", []resolver.Endpoint{{}}, 0},
			{"one of two without an address", []resolver.Endpoint{{}, bare("a:1")}, 1},
			{"two with one address", []resolver.Endpoint{bare("a:1"), bare("a:1")}, 1},
			{"two with one id", []resolver.Endpoint{ofEtcd("a", "a:1", 0), ofEtcd("a", "a:2", 0)},
				2},
			{"weights of 0", []resolver.Endpoint{ofEtcd("a", "a:1", 0), ofEtcd("b", "b:1", 0)}, 2},
			{"maximal weights", heavy, 1000},
		} {
			r := newRig(t)
			config := mustConfig(t,
				`{`+with+`"split":[{"match":{"version":"v9"},"weight":4294967295}],"childPolicy":[{`+way+`}]}`)
			_ = r.policy.UpdateClientConnState(balancer.ClientConnState{
				ResolverState:  resolver.State{Endpoints: tt.fleet},
				BalancerConfig: config,
			})

			r.reachAll()

			reached := map[string]bool{}
			for range 200 {
				addr, _, err := r.begin(t.Context(), "/s.A/M")
				if (err != nil) != (tt.want == 0) {
					t.Fatalf("policy %s, endpoints %q: a call went to %q with the error %v, want an error: %v",
						way, tt.name, addr, err, tt.want == 0)
				}

				reached[addr] = true
			}

			if want := min(tt.want, 2); want > len(reached) && way != `"pick_first":{}` {
				t.Errorf("policy %s, endpoints %q: calls go to %v, want at least %d addresses",
					way, tt.name, reached, want)
			}
		}
	}
}

// TestConnections_StatisticsOutliveThem closes the policy, as gRPC does when it
// becomes idle, while addresses come and leave.
func TestConnections_StatisticsOutliveThem(t *testing.T) {
	memory := new(picking.Memory)
	idled := func(fleet ...string) {
		r := newRig(t)
		r.client.Stats = memory
		r.update("", fleet...)
		r.policy.Close()
	}

	idled("a", "b")
	a := memory.Of("a:1")
	b := memory.Of("b:1")
	idled("a")

	if memory.Len() != 1 || memory.Of("a:1") != a || memory.Of("b:1") == b {
		t.Error("the statistics of a were dropped though a is registered, or those of b were kept though b has left")
	}
}
