package balancer

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/ringhash"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// weighing returns n endpoints with the weights that weight returns.
func weighing(n int, weight func(i int) uint32) (all []*model.Backend) {
	for i := range n {
		name := fmt.Sprintf("i%03d", i)
		all = append(all,
			backend(endpoint.Endpoint{Instance: name, Addr: name + ":1", Weight: weight(i)}))
	}

	return all
}

// bare returns an endpoint as another resolver makes it, without an entry of
// etcd.
func bare(addr string) resolver.Endpoint {
	return resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr}}}
}

// pickSoon repeats a pick until the connection that the pick needs is ready.
func (c *fakeConn) pickSoon(ctx context.Context) string {
	for {
		if instance, end, err := c.begin(ctx, "/s.A/M"); err == nil {
			end(nil)
			return instance
		}

		c.pump(runtime.Gosched)
	}
}

// dialed returns the addresses that were connected to.
func (c *fakeConn) dialed() (all []string) {
	for _, s := range c.made {
		if s.connects > 0 {
			all = append(all, s.addrs[0].Addr)
		}
	}

	slices.Sort(all)

	return all
}

// TestRing_EqualsThatOfGRPC compares the targets of calls with those of gRPC's
// ring_hash, and the connections that the calls make.
func TestRing_EqualsThatOfGRPC(t *testing.T) {
	same := func(int) uint32 { return 0 }
	for _, tt := range []struct {
		name, config string
		fleet        []*model.Backend
	}{
		{"a few endpoints", `{}`, weighing(3, same)},
		{"many endpoints", `{}`, weighing(300, same)},
		{"endpoints of other resolvers", `{}`,
			[]*model.Backend{model.Of(bare("b:1")), model.Of(bare("a:1"))}},
		{"weights", `{}`, weighing(20, func(i int) uint32 { return uint32(i%7 + 1) })},
		{"weights that differ much", `{}`, weighing(5, func(i int) uint32 {
			return []uint32{1, 10, 100, 1000, 7}[i]
		})},
		{"a small ring", `{"minRingSize":7,"maxRingSize":10}`, weighing(3, func(i int) uint32 {
			return uint32(3 + i/2)
		})},
		{"a ring that is cut", `{"minRingSize":5000,"maxRingSize":8000}`, weighing(7, same)},
	} {
		for header, ctxOf := range map[string]func(key int) context.Context{
			serviceconfig.AffinityHeader: func(key int) context.Context { return keyed(key) },
			"x-user": func(key int) context.Context {
				return metadata.AppendToOutgoingContext(context.Background(), "x-user",
					fmt.Sprint(key), "x-user", "2")
			},
		} {
			config := strings.Replace(strings.Replace(tt.config, "{",
				`{"requestHashHeader":"`+header+`",`, 1), ",}", "}", 1)
			r := newRig(t)
			r.updateState(`"childPolicy":[{"ring_hash_experimental":`+config+`}]`,
				model.State{KeyState: model.KeyState{Known: true, Endpoints: tt.fleet}})
			builder := balancer.Get(ringhash.Name)
			theirs := &fakeConn{}
			parsed, err := builder.(balancer.ConfigParser).ParseConfig(json.RawMessage(config))
			must.Succeed(t, err)
			b := builder.Build(theirs, balancer.BuildOptions{})
			t.Cleanup(b.Close)
			state := resolver.State{Endpoints: model.GRPC(tt.fleet)}
			must.Succeed(t, b.UpdateClientConnState(balancer.ClientConnState{
				ResolverState:  state,
				BalancerConfig: parsed,
			}))

			theirs.pump(func() {})

			for key := range 1000 {
				want := theirs.pickSoon(ctxOf(key))
				if got := r.pickSoon(ctxOf(key)); got != want {
					t.Fatalf("%s, header %s: calls with the key %d go to %s, want %s as in gRPC",
						tt.name, header, key, got, want)
				}

				if got, want := r.dialed(), theirs.dialed(); key%50 < 3 &&
					!slices.Equal(got, want) {
					t.Fatalf("%s, header %s: %d keys connect to %v, want %v as in gRPC", tt.name,
						header, key+1, got, want)
				}
			}
		}
	}
}

// TestRing_SkipsUnavailableInstances makes the instance of a key full, and then
// makes it fail. Only this instance's calls go to the next instance on the
// ring, and later they go back.
func TestRing_SkipsUnavailableInstances(t *testing.T) {
	r := newRig(t)
	r.updateState(`"maxConcurrentRequests":1,`+ring, model.State{
		KeyState: model.KeyState{Known: true, Endpoints: weighing(5, func(int) uint32 {
			return 1
		})},
	})

	where := func() (all [200]string) {
		for key := range all {
			all[key] = r.soonBy(keyed(key), "/s.A/M")
		}

		return all
	}

	first := where()
	its := first[0]
	_, end, _ := r.begin(keyed(0), "/s.A/M")
	full := where()
	end(nil)
	r.refuse(its)

	failing := where()
	for key, addr := range first {
		if was := addr == its; was == (full[key] == addr) || full[key] != failing[key] {
			t.Errorf(
				"key %d goes to %s, but to %s while %s is full, and to %s while that instance fails",
				key, addr, full[key], its, failing[key])
		}
	}

	clear(r.down)
	r.set(its, connectivity.Idle)

	if where() != first {
		t.Error(
			"after the instance has recovered, not all keys go to their first instances, want all")
	}
}

// TestRing_KeyedCallsWaitForTheirInstance checks that a call with a key waits
// while its instance connects or has not reported its health, and goes to the
// next instance after readyTimeout.
func TestRing_KeyedCallsWaitForTheirInstance(t *testing.T) {
	ctx := keyed("somebody") // the instance of this key is a
	for _, tt := range []struct {
		what          string
		hangs, silent bool // from the beginning
		then          func(r *rig, a *fakeSubConn)
	}{
		{"connects", true, false, nil},
		{"connects again", false, false, func(r *rig, a *fakeSubConn) {
			r.hangs["a:1"] = true
			a.set(connectivity.Idle, nil)
		}},
		{"does not report its health", false, true, nil},
		{"is to report its health again", false, false, func(_ *rig, a *fakeSubConn) {
			a.health(balancer.SubConnState{ConnectivityState: connectivity.Connecting})
		}},
	} {
		r := newRig(t)
		r.hangs["a:1"] = tt.hangs
		r.silent["a:1"] = tt.silent
		r.update(ring, "a v1", "b v1")
		_ = r.soonBy(keyed("everybody"), "/s.A/M") // to b, so that it is connected

		if tt.then != nil {
			_ = r.soonBy(ctx, "/s.A/M") // to a
			r.pass(time.Second)
			tt.then(r, r.last("a:1"))
			r.settle()
		}

		r.expect(ctx, "while its instance "+tt.what, "waits")
		r.settle()
		r.pass(readyTimeout)

		if got := r.soonBy(ctx, "/s.A/M"); got != "b" {
			t.Errorf("while its instance %s for long: a call goes to %q, want b", tt.what, got)
		}
	}
}

// TestRing_ConnectsToWhatCallsReach makes calls with one key, and then some
// without. The calls connect to one instance at a time. They do not wait for
// that instance while another zone or a departed instance can serve.
func TestRing_ConnectsToWhatCallsReach(t *testing.T) {
	r := newRig(t)
	ctx := keyed("somebody")
	update := func(config string, specs ...string) func() {
		return func() { r.update(ring+config, specs...) }
	}
	for _, step := range []struct {
		what string
		do   func()

		// where a call goes, and where the next call goes once the connections
		// that the first one starts are ready
		first, later string

		open string
	}{
		{"at first", update("", "a", "b", "c"), "waits", "b", "b"},
		{"a call finds that the instance fails", func() {
			r.refuse("b")
			_ = r.soonBy(ctx, "/s.A/M")
		}, "waits", "c", "bc"},
		{"it is back", func() {
			clear(r.down)
			r.set("b", connectivity.Idle)
			_ = r.where(named("c"))
			r.reachAll()
		}, "b", "b", "abc"},
		{"a rollout, and an old connection ends", func() {
			update("", "d", "e", "f")()
			r.set("b", connectivity.Idle)
		}, "c", "d", "acd"},
		{"the old connections end, but for one that a call has named", func() {
			r.pass(linger)
		}, "d", "d", "cd"},
		{"the connection ends, twice", func() {
			r.set("d", connectivity.Idle)
			_ = r.soonBy(ctx, "/s.A/M")
			r.set("d", connectivity.Idle)
		}, "waits", "d", "cd"},
		{"a subset", update(`,"subset":2`, "d", "e", "f"), "d", "d", "cd"},
		{"another zone", update(`,"preferZone":true`, "d - y", "e - x", "f - x"), "d", "f", "cdf"},
		{"no instance in the zone is ready", func() {
			r.refuse("e", "f")
			_ = r.soonBy(ctx, "/s.A/M")
		}, "d", "d", "cdef"},
		{"a split", update(`,`+byVersion, "d v1", "g v1", "h v2"), "d", "d", "cd"},
	} {
		step.do()
		first := r.where(ctx)
		r.settle()

		later := r.where(ctx)
		if first != step.first || later != step.later || addrs(r.open()) != step.open {
			t.Errorf("%s: calls go to %q, then to %q, and the open connections are %s; want %q, %q and %s",
				step.what, first, later, addrs(r.open()), step.first, step.later, step.open)
		}
	}

	r = newRig(t)
	r.hangs["a:1"], r.hangs["b:1"] = true, true
	r.update(ring+`,"preferZone":true`, "a - x", "b - x", "d - y")
	_ = r.where(ctx)
	r.settle()
	r.pass(attemptDelay)

	if who := r.where(ctx); who != "d" || addrs(r.open()) != "abd" {
		t.Errorf("while the zone hangs, a call goes to %q and the open connections are %s, want d and abd",
			who, addrs(r.open()))
	}

	r = newRig(t)
	r.update(ring, "a", "b", "c")

	if state := stateOf(r.fakeConn).ConnectivityState; state != connectivity.Idle {
		t.Errorf("before the first call the state is %v, want %v", state, connectivity.Idle)
	}

	for range 100 { // before their connection is ready
		_ = r.where(t.Context())
	}

	r.settle()

	if len(r.open()) != 1 {
		t.Errorf("the first calls, which have no key, connect to %s, want one instance",
			addrs(r.open()))
	}
}
