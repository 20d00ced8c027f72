package discovery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// regions are two clusters. The clients at home fall back on what the other knows.
type regions struct{ home, away *world }

func newRegions(t *testing.T, opts ...runtime.Option) regions {
	t.Helper()
	away := newWorld(t, nil, runtime.WithNamespace("west/"), runtime.WithEmptyGrace(time.Second))
	return regions{newWorld(t, nil, append(opts, runtime.WithFallback(away.registry))...), away}
}

// lend starts servers that are registered in the other cluster.
func (r regions) lend(names ...string) (all []*server) {
	r.away.t.Helper()
	for _, name := range names {
		s := r.away.serve(name)
		r.away.put("west/"+key+"/"+name, s.addr)
		all = append(all, s)
	}
	return all
}

// announce registers a server as a process of its own would, which withdraws it by stop.
func (w *world) announce(s *server) (stop func()) {
	w.t.Helper()
	registration, err := w.registry.Register(kit.Bounded(w.t, soon), key, runtime.Endpoint{Instance: s.name, Addr: s.addr})
	must(w.t, err)
	return sync.OnceFunc(func() { must(w.t, registration.Close(kit.Bounded(w.t, soon))) })
}

// retrying has a call that fails with Unavailable made once more.
var retrying = runtime.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":2,"initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}`)

// calling makes calls without a pause until stop, which returns how many were made. first has the time of each server's first answer.
func calling(t *testing.T, conn *grpc.ClientConn, callers int) (first *sync.Map, stop func() int64) {
	var calls atomic.Int64
	first = new(sync.Map)
	ctx, cancel := context.WithCancel(context.Background())
	var calling sync.WaitGroup
	for range callers {
		calling.Go(func() {
			for ctx.Err() == nil {
				name, err := within(conn, soon)
				if err != nil {
					t.Errorf("after %d calls: %v", calls.Load(), err)
					return
				}
				calls.Add(1)
				first.LoadOrStore(name, time.Now())
			}
		})
	}
	return first, sync.OnceValue(func() int64 { cancel(); calling.Wait(); return calls.Load() })
}

// since returns how long after a time the first of some servers answered.
func since(t *testing.T, at time.Time, first *sync.Map, names ...string) time.Duration {
	t.Helper()
	took := soon
	kit.Eventually(t, soon, fmt.Sprintf("a caller is answered by one of %q", names), func() bool {
		for _, name := range names {
			if answered, ok := first.Load(name); ok {
				took = min(took, answered.(time.Time).Sub(at))
			}
		}
		return took < soon
	})
	return took
}

// TestFallback_LeavesAndReturns takes the last server at home, in each of the ways in which one goes, and brings it back, while
// callers never pause.
func TestFallback_LeavesAndReturns(t *testing.T) {
	for _, tt := range []struct {
		name  string
		serve func(w *world, s *server) (stop func())
	}{
		{"withdrawn", func(w *world, s *server) func() {
			withdraw := w.announce(s)
			return func() { withdraw(); s.stop() }
		}},
		{"killed", func(w *world, s *server) func() { w.register(s); return s.stop }},
		{"killed and gone", func(w *world, s *server) func() {
			w.register(s)
			return func() { s.stop(); w.delete(key + "/" + s.name) }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reader := metric.NewManualReader()
			r := newRegions(t, metered(reader))
			r.lend("a1", "a2")
			last := tt.serve(r.home, r.home.serve("h1"))
			conn := r.home.conn(retrying)
			reached(t, conn, soon, "h1")
			if made := r.away.status().Connections; made != 0 {
				t.Errorf("a fallback counts as %d connections of the other registry's own", made)
			}
			first, stop := calling(t, conn, 4)
			last()
			reached(t, conn, soon, "a1", "a2")
			left := since(t, r.home.status().Changed, first, "a1", "a2")
			kit.Eventually(t, soon, "the status says that calls have left", func() bool { return r.home.status().Away == 1 })
			if p := awayPoint(t, reader); p != 1 {
				t.Errorf("the metric is %v, want 1 connection", p)
			}
			tt.serve(r.home, r.home.serve("h2"))
			reached(t, conn, soon, "h2")
			back := since(t, r.home.status().Changed, first, "h2")
			kit.Eventually(t, soon, "the status says that calls are back", func() bool { return r.home.status().Away == 0 })
			if p := awayPoint(t, reader); p != 0 {
				t.Errorf("the metric is %v, want none", p)
			}
			t.Logf("%d calls; since the change at home was seen, the first call away took %v, the first back %v", stop(), left, back)
			if a, b := r.home.logs.Count("calls go to the cluster to fall back on"), r.home.logs.Count("calls are back"); a != 1 || b != 1 {
				t.Errorf("lines that calls leave and are back: %d and %d, want one each: %s", a, b, r.home.logs.Lines())
			}
		})
	}
}

func awayPoint(t *testing.T, reader *metric.ManualReader) (n float64) {
	t.Helper()
	for _, m := range collect(t, reader) {
		if m.Name == "etcdrpc.discovery.away" {
			_, points := pointsOf(m.Data)
			for _, p := range points {
				n += p.value
			}
		}
	}
	return n
}

// TestFallback_HomeIsNeverCalled has a key that home never had: the first call waits for the other cluster's list.
func TestFallback_HomeIsNeverCalled(t *testing.T) {
	r := newRegions(t)
	r.lend("a1")
	if got, err := within(r.home.conn(), soon); got != "a1" {
		t.Errorf("the first call: %q, %v", got, err)
	}
}

// TestFallback_EtcdAwayIsNotEmpty takes etcd at home away: callers that know endpoints keep to them, and others wait.
func TestFallback_EtcdAwayIsNotEmpty(t *testing.T) {
	r := newRegions(t)
	r.lend("a1")
	conn := r.home.calling("h1")
	r.home.etcd.Stop()
	kit.Eventually(t, soon, "etcd is away", func() bool { return r.home.status().Err != nil })
	reached(t, conn, soon, "h1")
	fresh := dial(t, r.home.newRegistry(r.home.client, runtime.WithFallback(r.away.registry)), greeterAt(key))
	if got, err := within(fresh, 200*time.Millisecond); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a caller that home has told nothing: %q, %v; want it to wait", got, err)
	}
}

// TestFallback_StaysAtHome has what must not leave: calls that name their instance, Each, a live config, a split.
func TestFallback_StaysAtHome(t *testing.T) {
	r := newRegions(t)
	a := r.lend("a1")[0]
	instances, err := r.home.registry.NewInstances(greeterAt(key), insecurely)
	must(t, err)
	defer instances.Close()
	conn := r.home.conn()
	reached(t, conn, soon, "a1")
	if all, err := instances.All(kit.Bounded(t, soon)); len(all) > 0 || err != nil {
		t.Errorf("the instances at home: %v, %v; want none", all, err)
	}
	if _, err := call(runtime.WithTarget(kit.Bounded(t, soon), a.name), conn); status.Code(err) != codes.Unavailable {
		t.Errorf("a call that names the other cluster's instance: %v", err)
	}
	must(t, r.away.registry.SetServiceConfig(kit.Bounded(t, soon), key, hasty))
	kit.Eventually(t, soon, "the config is known there", func() bool { return r.away.status().ServiceConfig != "" })
	reached(t, conn, soon, "a1")
	r.home.live(`{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"version":"v2"},"weight":1},{"match":{"version":"v1"},"weight":1}]}}]}`)
	r.home.tag(r.home.serve("h1"), `{"version":"v1"}`)
	reached(t, conn, soon, "h1")
}

// TestFallback_OtherIsClosed closes the registry to fall back on: what it knew is not used any more.
func TestFallback_OtherIsClosed(t *testing.T) {
	r := newRegions(t, runtime.WithNamespace("east/"))
	r.lend("a1")
	conn := r.home.conn()
	reached(t, conn, soon, "a1")
	must(t, r.away.registry.Close(kit.Bounded(t, soon)))
	kit.Eventually(t, soon, "calls fail", func() bool {
		_, err := within(conn, soon)
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), `no endpoint is registered under "east/helloworld/greeter"`)
	})
	r.home.put("east/"+key+"/h1", r.home.serve("h1").addr)
	reached(t, conn, soon, "h1")
}

// TestFallback_NeitherServes has the error name both keys.
func TestFallback_NeitherServes(t *testing.T) {
	r := newRegions(t, runtime.WithNamespace("east/"))
	conn := r.home.conn()
	if _, err := within(conn, soon); !strings.Contains(fmt.Sprint(err), `no endpoint is registered under "east/helloworld/greeter"`) {
		t.Errorf("neither has one: %v", err)
	}
	dead := r.lend("a1")[0]
	dead.stop()
	kit.Eventually(t, soon, "the error names both", func() bool {
		_, err := within(conn, soon)
		return strings.Contains(fmt.Sprint(err), `under "east/helloworld/greeter"; nor in the cluster to fall back on: `)
	})
}

// TestFallback_SameInstances has servers that are in both clusters, and an instance id that another server has there.
func TestFallback_SameInstances(t *testing.T) {
	r := newRegions(t)
	s := r.home.register(r.home.serve("same"))
	r.away.put("west/"+key+"/same", s.addr)
	conn := r.home.conn()
	reached(t, conn, soon, "same")
	r.home.put(key+"/other", "127.0.0.1:1")
	r.home.delete(key + "/same")
	kit.Eventually(t, soon, "calls leave for the entry that is left of it", func() bool { return r.home.status().Away == 1 })
	reached(t, conn, soon, "same")
	r.home.register(s)
	kit.Eventually(t, soon, "calls are back", func() bool { return r.home.status().Away == 0 })
	reached(t, conn, soon, "same")
	s.stop()
	kit.Eventually(t, soon, "calls fail", func() bool { _, err := within(conn, soon); return err != nil })
	if n := r.home.status().Away; n != 0 {
		t.Errorf("%d connections have calls that leave for a server that home has as well", n)
	}
	twin := r.home.serve("twin")
	r.home.put(key+"/same", twin.addr) // another server of that name
	reached(t, conn, soon, "twin")
}

// TestFallback_OtherIsRestored has the other cluster become what it was: calls go where it then says.
func TestFallback_OtherIsRestored(t *testing.T) {
	r := newRegions(t)
	r.lend("a1")
	conn := r.home.conn()
	reached(t, conn, soon, "a1")
	backup, err := r.away.etcd.Backup()
	must(t, err)
	r.lend("a2", "a3")
	reached(t, conn, soon, "a1", "a2", "a3")
	r.away.delete("west/" + key + "/a1")
	reached(t, conn, soon, "a2", "a3")
	must(t, r.away.etcd.RestoreBackup(backup))
	reached(t, conn, soon, "a1")
}

// TestFallback_HalfInEachLayout has each cluster's servers written in two layouts for good.
func TestFallback_HalfInEachLayout(t *testing.T) {
	r := newRegions(t)
	r.lend("a1")
	r.away.put("west/"+key+"/a2", fmt.Sprintf(`{"Op":0,"Addr":%q}`, r.away.serve("a2").addr))
	conn := r.home.conn()
	reached(t, conn, soon, "a1", "a2")
	r.home.register(r.home.serve("h1"))
	r.home.put(key+"/h2", r.home.serve("h2").addr)
	reached(t, conn, soon, "h1", "h2")
}

// TestFallback_BesideThePolicy has drains, lanes and sticky calls meet a fallback.
func TestFallback_BesideThePolicy(t *testing.T) {
	for _, tt := range []struct {
		name, config string
		home, away   map[string]string // metadata by name
		ctx          func(context.Context) context.Context
		want         []string
	}{
		{"a drained home", `{"drain":["h1"]}`, map[string]string{"h1": `{}`, "h2": `{}`}, map[string]string{"a1": `{}`}, nil, []string{"h2"}},
		{"a strict lane that home lacks", `{"route":[{"lane":"blue","match":{"lane":"blue"},"strict":true}]}`,
			map[string]string{"h1": `{}`}, map[string]string{"a1": `{"lane":"blue"}`, "a2": `{}`},
			func(ctx context.Context) context.Context { return runtime.WithLane(ctx, "blue") }, []string{"a1"}},
		{"a lane that falls back on the base", `{"route":[{"lane":"blue","match":{"lane":"blue"}}]}`,
			map[string]string{"h1": `{}`}, map[string]string{"a1": `{"lane":"blue"}`},
			func(ctx context.Context) context.Context { return runtime.WithLane(ctx, "blue") }, []string{"h1"}},
		{"a split that home has half of", `{"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":9}]}`,
			map[string]string{"h1": `{"version":"v1"}`}, map[string]string{"a1": `{"version":"v2"}`}, nil, []string{"h1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRegions(t)
			for name, metadata := range tt.home {
				r.home.tag(r.home.serve(name), metadata)
			}
			for name, metadata := range tt.away {
				r.away.put("west/"+key+"/"+name, fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, r.away.serve(name).addr, metadata))
			}
			conn := r.home.conn(runtime.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"etcd":` + tt.config + `}]}`))
			kit.Eventually(t, soon, fmt.Sprintf("calls reach %q", tt.want), func() bool {
				seen := make(map[string]bool)
				for range 12 {
					ctx := kit.Bounded(t, soon)
					if tt.ctx != nil {
						ctx = tt.ctx(ctx)
					}
					name, err := call(ctx, conn)
					must(t, err)
					seen[name] = true
				}
				return slices.Equal(slices.Sorted(maps.Keys(seen)), tt.want)
			})
		})
	}
}

// TestFallback_UnderOtherPolicies has policies that are not ours, above and in our place.
func TestFallback_UnderOtherPolicies(t *testing.T) {
	for _, config := range []string{
		`{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"etcd":{}}]}}]}`,
		`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"x"}}]}}]}`,
		`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"least_request_experimental":{}}]}}]}`,
		`{"loadBalancingConfig":[{"pick_first":{}}]}`,
		`{"loadBalancingConfig":[{"round_robin":{}}]}`,
	} {
		t.Run(config, func(t *testing.T) {
			r := newRegions(t)
			r.lend("a1")
			conn := r.home.conn(runtime.WithDefaultServiceConfig(config))
			reached(t, conn, soon, "a1")
			stop := r.home.announce(r.home.serve("h1"))
			reached(t, conn, soon, "h1")
			stop()
			reached(t, conn, soon, "a1")
		})
	}
	t.Run("a bare resolver", func(t *testing.T) {
		r := newRegions(t)
		r.lend("a1")
		conn, err := grpc.NewClient("etcd:///"+key, insecurely, grpc.WithResolvers(r.home.registry.Resolver()))
		must(t, err)
		defer conn.Close()
		reached(t, conn, soon, "a1")
		stop := r.home.announce(r.home.serve("h1"))
		reached(t, conn, soon, "h1")
		stop()
		reached(t, conn, soon, "a1")
	})
}

// TestFallback_InACircle has the other registry fall back on home again, by a second registry there: calls leave once, and no further.
func TestFallback_InACircle(t *testing.T) {
	home := newWorld(t, nil, runtime.WithEmptyGrace(time.Second))
	away := newWorld(t, nil, runtime.WithNamespace("west/"), runtime.WithEmptyGrace(time.Second), runtime.WithFallback(home.registry))
	r := regions{home: home, away: away}
	from := dial(t, home.newRegistry(home.etcd.Client(t), runtime.WithEmptyGrace(time.Second), runtime.WithFallback(away.registry)), greeterAt(key))
	lent := r.lend("a1")[0]
	reached(t, from, soon, "a1")
	h1 := home.serve("h1")
	home.register(h1)
	reached(t, from, soon, "h1")
	reached(t, away.conn(), soon, "a1")
	away.delete("west/" + key + "/a1")
	lent.stop()
	reached(t, away.conn(), soon, "h1")
	home.delete(key + "/h1")
	h1.stop()
	kit.Eventually(t, soon, "calls fail, for none of the two knows one", func() bool {
		_, err := within(from, soon)
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "no endpoint is registered under")
	})
}

// TestFallback_HangingHome has what is at home take connections and never answer, as a stopped process does. Calls that wait for it
// leave after a second, and not when gRPC gives up, which takes an hour here.
func TestFallback_HangingHome(t *testing.T) {
	for _, policy := range []string{"round_robin", "pick_first"} {
		t.Run(policy, func(t *testing.T) {
			r := newRegions(t)
			r.lend("a1")
			for n := range 3 {
				r.home.put(fmt.Sprintf("%s/h%d", key, n), kit.Listen(t).Addr().String())
			}
			conn := r.home.conn(grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: time.Hour}),
				runtime.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"`+policy+`":{}}]}}]}`))
			if name, err := within(conn, soon); name != "a1" || err != nil {
				t.Errorf("calls go to %q, %v", name, err)
			}
		})
	}
}

// TestFallback_PassesTheDead has one place for connections, and at home one server that is not well. Away the first is dead.
func TestFallback_PassesTheDead(t *testing.T) {
	r := newRegions(t, runtime.WithLimits(runtime.Limits{Connections: 1}))
	lis, g, unwell := kit.Listen(t), grpc.NewServer(), health.NewServer()
	unwell.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(g, unwell)
	kit.Serve(t, g, lis)
	r.home.put(key+"/h1", lis.Addr().String())
	r.lend("a1", "a2")[0].stop()
	reached(t, r.home.conn(runtime.WithDefaultServiceConfig(`{"healthCheckConfig":{"serviceName":""}}`)), soon, "a2")
}
