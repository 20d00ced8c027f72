package discovery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// TestEverythingAtOnce flips live configs, brings instances and takes them away in order, under calls
// of connections of every kind. All servers go on to serve, so no call may fail.
func TestEverythingAtOnce(t *testing.T) {
	leak.Beside(t)
	f := newFleet(t, runtime.WithZone("x"))
	tags := func(i int) []runtime.RegisterOption {
		return []runtime.RegisterOption{runtime.WithVersion(fmt.Sprintf("v%d", i%2+1)), runtime.WithZoneTag([]string{"x", "y"}[i/2%2])}
	}
	f.start("s0", tags(0)...)
	f.start("s1", tags(3)...)
	var churn []*backend
	for i := range 5 {
		churn = append(churn, f.listen(fmt.Sprintf("c%d", i)))
	}
	all := newLoops()
	var calls, failed atomic.Int64
	caller := func(name string, pause time.Duration, opts ...grpc.DialOption) {
		conn := f.client(policy(`{"round_robin":{}}`), opts...)
		all.run(func() {
			time.Sleep(pause)
			began := time.Now()
			_, err := call(runtime.WithAffinity(kit.Bounded(t, soon), fmt.Sprint(rand.IntN(9))), conn)
			calls.Add(1)
			if took := time.Since(began); err != nil || took > 2*time.Second {
				if failed.Add(1) < 30 {
					t.Errorf("%s: after %v: %v", name, took, err)
				}
			}
			if _, err := call(runtime.WithTarget(kit.Bounded(t, soon), "s0"), conn); err != nil && failed.Add(1) < 30 {
				t.Errorf("%s: target: after %v: %v", name, time.Since(began), err)
			}
		})
	}
	caller("plain", 15*time.Millisecond)
	caller("subset of one", 15*time.Millisecond, runtime.WithSubset(1))
	caller("subset of two", 15*time.Millisecond, runtime.WithSubset(2))
	caller("selector", 15*time.Millisecond, runtime.WithSelector(func(e runtime.Endpoint) bool { return e.Version == "v1" }))
	caller("idle", 80*time.Millisecond, grpc.WithIdleTimeout(40*time.Millisecond))
	all.run(func() {
		desc := basic.Greeter_EtcdServiceDesc
		i, err := f.registry.NewInstances(&desc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Error(err)
			return
		}
		for range 20 {
			got := map[string]bool{}
			var mu sync.Mutex
			err := runtime.Each(kit.Bounded(t, soon), i, basic.NewGreeterClient, func(ctx context.Context, e runtime.Endpoint, c basic.GreeterClient) error {
				reply, err := c.SayHello(ctx, &basic.HelloRequest{})
				if err == nil && reply.GetMessage() != e.Instance {
					t.Errorf("each: %s answered for %s", reply.GetMessage(), e.Instance)
				}
				if err != nil && (e.Instance[0] == 's' || status.Code(err) != codes.Unavailable) {
					t.Errorf("each: %s: %v", e.Instance, err)
				}
				mu.Lock()
				defer mu.Unlock()
				got[e.Instance] = true
				return nil
			})
			if err != nil || !got["s0"] || !got["s1"] {
				t.Errorf("each: %v, %v", got, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		_ = i.Close()
	})
	all.run(func() {
		n := rand.IntN(len(churn))
		s := churn[n]
		if s.registration == nil {
			f.register(s, tags(rand.IntN(4))...)
		} else {
			s.leave(t)
			s.registration = nil
		}
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
	})
	children := []string{
		`{"round_robin":{}}`, `{"least_request_experimental":{}}`, `{"weighted_round_robin":{}}`, `{"etcd_weighted":{}}`, `{"pick_first":{}}`,
		`{"outlier_detection_experimental":{"interval":"0.1s","failurePercentageEjection":{},"childPolicy":[{"round_robin":{}}]}}`,
		`{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`,
	}
	parts := []string{``, `"preferZone":true,`, `"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":2}],`, `"drain":["s1","c0","c1"],`,
		`"preferZone":true,"drain":["c2"],"split":[{"match":{"zone":"x"},"weight":1}],`, `"split":[{"match":{"version":"v2"},"weight":1}],"preferZone":true,`}
	all.run(func() {
		config := policy(`{"etcd":{` + parts[rand.IntN(len(parts))] + `"childPolicy":[` + children[rand.IntN(len(children))] + `]}}`)
		if rand.IntN(6) == 0 {
			config = ""
		}
		if err := f.servers.SetServiceConfig(kit.Bounded(t, soon), key, config); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Duration(rand.IntN(600)) * time.Millisecond)
	})
	time.Sleep(8 * time.Second)
	all.stop()
	t.Logf("%d calls, %d failed", calls.Load(), failed.Load())
}

// TestOutagesAtOnce takes etcd away, wipes it and brings it back, under live configs that change and
// calls of connections of every kind, and closes the registry under them at last. All servers go on to
// serve, so no call may fail before that, and none may hang after.
func TestOutagesAtOnce(t *testing.T) {
	leak.Beside(t)
	f := newFleet(t, runtime.WithZone("x"), runtime.WithSnapshotDir(t.TempDir()))
	for i := range 6 {
		f.start(fmt.Sprintf("s%d", i), runtime.WithVersion(fmt.Sprintf("v%d", i%2+1)), runtime.WithZoneTag([]string{"x", "y"}[i/2%2]))
	}
	var closed atomic.Bool
	all := newLoops()
	var calls, failed atomic.Int64
	check := func(name string, do func(ctx context.Context) error) {
		began := time.Now()
		err := do(kit.Bounded(t, soon))
		calls.Add(1)
		if took := time.Since(began); (err != nil && !closed.Load() || took > 3*time.Second) && failed.Add(1) < 30 {
			t.Errorf("%s: after %v: %v", name, took, err)
		}
	}
	for name, opts := range map[string][]grpc.DialOption{
		"plain": nil, "subset of one": {runtime.WithSubset(1)}, "subset of two": {runtime.WithSubset(2)},
		"selector": {runtime.WithSelector(func(e runtime.Endpoint) bool { return e.Version == "v1" })},
		"idle":     {grpc.WithIdleTimeout(40 * time.Millisecond)},
		"callers":  {grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`)},
		"disabled": {grpc.WithDisableServiceConfig()},
	} {
		conn := f.client(policy(`{"round_robin":{}}`), opts...)
		if name != "idle" {
			share(t, conn, 10)
		}
		all.run(func() {
			time.Sleep(20 * time.Millisecond)
			if name == "idle" {
				time.Sleep(80 * time.Millisecond)
			}
			check(name, func(ctx context.Context) error {
				_, err := call(runtime.WithAffinity(ctx, fmt.Sprint(rand.IntN(9))), conn)
				return err
			})
			check(name+", target", func(ctx context.Context) error {
				got, err := call(runtime.WithTarget(ctx, "s0"), conn)
				if name == "callers" && status.Code(err) == codes.FailedPrecondition {
					return nil
				}
				if err == nil && got != "s0" {
					err = fmt.Errorf("answered by %s", got)
				}
				return err
			})
		})
	}
	all.run(func() {
		desc := basic.Greeter_EtcdServiceDesc
		i, err := f.registry.NewInstances(&desc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			if !closed.Load() {
				t.Error(err)
			}
			time.Sleep(10 * time.Millisecond)
			return
		}
		for range 20 {
			began := time.Now()
			_ = runtime.Each(kit.Bounded(t, soon), i, basic.NewGreeterClient, func(ctx context.Context, e runtime.Endpoint, c basic.GreeterClient) error {
				reply, err := c.SayHello(ctx, &basic.HelloRequest{})
				if err == nil && reply.GetMessage() != e.Instance {
					t.Errorf("each: %s answered for %s", reply.GetMessage(), e.Instance)
				}
				return err
			})
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("each took %v", took)
			}
			time.Sleep(20 * time.Millisecond)
		}
		_ = i.Close()
	})
	parts := []string{``, `"preferZone":true,`, `"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":2}],`, `"drain":["s1","s2"],`,
		`"preferZone":true,"drain":["s3"],"split":[{"match":{"zone":"x"},"weight":1}],`}
	children := []string{`{"round_robin":{}}`, `{"etcd_weighted":{}}`, `{"pick_first":{}}`, `{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`}
	flip := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		_ = f.servers.SetServiceConfig(ctx, key, policy(`{"etcd":{`+parts[rand.IntN(len(parts))]+`"childPolicy":[`+children[rand.IntN(len(children))]+`]}}`))
		time.Sleep(200 * time.Millisecond)
	}
	all.run(flip)
	time.Sleep(2 * time.Second)
	for round := range 3 {
		switch round {
		case 0:
			f.etcd.Cut()
			time.Sleep(3 * time.Second)
			f.etcd.Restore()
		case 1:
			if err := f.etcd.Wipe(); err != nil {
				t.Error(err)
			}
		case 2:
			f.etcd.Pause()
			time.Sleep(3 * time.Second)
			f.etcd.Resume()
		}
		time.Sleep(4 * time.Second)
	}
	closed.Store(true)
	began := time.Now()
	if err := f.registry.Close(kit.Bounded(t, soon)); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("close took %v", took)
	}
	time.Sleep(time.Second)
	all.stop()
	t.Logf("%d calls, %d failed", calls.Load(), failed.Load())
}

// TestP7_AHealthCheckThatALiveConfigBrings turns client-side health checks on live, with another policy,
// over connections that are shared: what says that it does not serve gets no calls.
func TestP7_AHealthCheckThatALiveConfigBrings(t *testing.T) {
	f := newFleet(t)
	checked := health.NewServer()
	f.start("a")
	sick := f.healthy("sick", checked)
	f.register(sick)
	checked.SetServingStatus("basic.Greeter", healthpb.HealthCheckResponse_NOT_SERVING)
	conn := f.client(policy(`{"round_robin":{}}`))
	only(t, conn, "a", "sick")
	if err := f.servers.SetServiceConfig(kit.Bounded(t, soon), key, `{"loadBalancingConfig":[{"etcd_weighted":{}}],"healthCheckConfig":{"serviceName":"basic.Greeter"}}`); err != nil {
		t.Fatal(err)
	}
	only(t, conn, "a")
	if err := f.servers.SetServiceConfig(kit.Bounded(t, soon), key, `{"loadBalancingConfig":[{"round_robin":{}}]}`); err != nil {
		t.Fatal(err)
	}
	only(t, conn, "a", "sick")
}

// healthy starts a server that answers health checks, and is not registered.
func (f *fleet) healthy(name string, checked *health.Server) *backend {
	f.t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	s := &backend{name: name, addr: lis.Addr().String(), grpc: grpc.NewServer()}
	basic.RegisterGreeterServer(s.grpc, s)
	healthpb.RegisterHealthServer(s.grpc, checked)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.grpc.Serve(lis) }()
	f.t.Cleanup(func() { s.grpc.Stop(); <-done })
	return s
}
