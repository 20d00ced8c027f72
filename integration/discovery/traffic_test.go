package discovery

import (
	"context"
	"fmt"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// Routing: affinity, targets, changes of the policy, and fallback.

const ring = `{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]}`

func TestAffinityTravelsAsAHash(t *testing.T) {
	w := newWorld(t, nil)
	s := w.register(w.serve("a"))
	desc := greeterAt(key)
	desc.ServiceConfig = ring
	conn := dial(t, w.registry, desc)

	ctx := metadata.AppendToOutgoingContext(kit.Context(t), "mine", "kept")
	// WithAffinity replaces the affinity; "" removes it
	for _, name := range []string{"alice@example.com", "bob", ""} {
		ctx = runtime.WithAffinity(ctx, name)
		if got, ok := runtime.Affinity(ctx); got != name || ok != (name != "") {
			t.Errorf("Affinity = %q, %v, want %q, %v", got, ok, name, name != "")
		}

		_, err := call(ctx, conn)
		kit.Must(t, err)
		md := s.headers.Load().(metadata.MD)

		hashes := md.Get("etcd-affinity")
		if strings.Contains(fmt.Sprint(md), "alice") ||
			(len(hashes) == 1) != (name != "") ||
			len(md.Get("mine")) != 1 {
			t.Errorf("affinity %q: the request had %v, want \"mine\", and a hash unless the affinity is empty", name, md)
		}
	}
}

// A call with WithTarget reaches that instance or fails.
// grpc.WithDefaultServiceConfig has no effect (P5).
func TestTarget(t *testing.T) {
	w := newWorld(t, nil, runtime.WithEmptyGrace(0))
	a := w.register(w.serve("a"))
	w.registerAll("b")
	conn := w.conn(grpc.WithDefaultServiceConfig(
		`{"loadBalancingConfig":[{"pick_first":{}}],"methodConfig":[{"name":[{}],"timeout":"0s"}]}`))
	reached(t, conn, "a", "b")

	to := func(name string) (string, error) {
		return call(runtime.WithTarget(kit.Context(t), name), conn)
	}
	for _, name := range []string{"a", "b", "a", "b"} {
		if got, err := to(name); got != name || err != nil {
			t.Fatalf("a call to %s: answered by %q, error %v", name, got, err)
		}
	}

	w.delete(key + "/a")
	a.stop()

	kit.Eventually(t, "calls to the instance that has left fail", func() bool {
		name, err := to("a")
		if err == nil && name != "a" {
			t.Fatalf("a call to a: answered by %q, want a or an error", name)
		}

		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), `"a"`)
	})
}

// The context that an interceptor gets in a call of Each has no target, because
// the interceptor may use the context to call other services.
func TestInstances_TargetOneCall(t *testing.T) {
	w := newWorld(t, nil)
	w.registerAll("a", "b")
	other := w.conn(runtime.WithSelector(func(e runtime.Endpoint) bool {
		return e.Instance == "a"
	}))
	i := w.instances(grpc.WithChainUnaryInterceptor(
		func(
			ctx context.Context,
			method string,
			req, reply any,
			cc *grpc.ClientConn,
			invoker grpc.UnaryInvoker,
			opts ...grpc.CallOption,
		) error {
			if _, err := call(ctx, other); err != nil {
				return err
			}

			return invoker(ctx, method, req, reply, cc, opts...)
		}))

	names, err := ask(kit.Context(t), i)
	if err != nil || strings.Join(names, "") != "ab" {
		t.Errorf(
			"Each with calls in an interceptor: answers of %q, error %v, want answers of a and b",
			names, err)
	}
}

// A panic in a call of Each reaches the caller of Each. Calls of a selector do
// not overlap.
func TestInstances_UserCode(t *testing.T) {
	w := newWorld(t, nil)
	w.registerAll("a", "b")
	var selecting, most atomic.Int64
	i := w.instances(runtime.WithSelector(func(e runtime.Endpoint) bool {
		if n := selecting.Add(1); n > 1 {
			most.Store(n)
		}

		goruntime.Gosched()
		selecting.Add(-1)

		return e.Instance == "a"
	}))

	var calls sync.WaitGroup
	for range 100 {
		calls.Go(func() { _, _ = ask(t.Context(), i) })
	}

	calls.Wait()

	if names, err := ask(kit.Context(t), i); err != nil ||
		strings.Join(names, "") != "a" ||
		most.Load() != 0 {
		t.Errorf("a selector of a: answers of %q, error %v, %d calls of it at once; want the answer of a, and 0",
			names, err, most.Load())
	}

	defer func() {
		if got := recover(); got != "bad call" {
			t.Errorf("recovered %v, want the panic of the call", got)
		}
	}()

	err := runtime.Each(kit.Context(t), i, basic.NewGreeterClient,
		func(context.Context, runtime.Endpoint, basic.GreeterClient) error { panic("bad call") })
	t.Errorf("Each returned %v, want a panic", err)
}

// Each uses one connection to each instance (K2). Its error names the instances
// that could not be called.
func TestInstances_OneConnectionEach(t *testing.T) {
	w := newWorld(t, nil)
	var servers []*server
	for _, name := range []string{"a", "b", "c"} {
		servers = append(servers, w.register(w.serve(name)))
	}

	i := w.instances()
	all, err := i.All(kit.Context(t))
	if err != nil || len(all) != 3 || servers[0].made.Load() != 0 {
		t.Fatalf(
			"All: instances %v, error %v, %d connections, want three instances and no connection",
			all, err, servers[0].made.Load())
	}

	for range 20 {
		names, err := ask(kit.Context(t), i)
		if err != nil || strings.Join(names, "") != "abc" {
			t.Fatalf("Each: answers of %q, error %v, want answers of a, b and c", names, err)
		}
	}

	a := servers[0].made.Load()
	b := servers[1].made.Load()

	c := servers[2].made.Load()
	if a != 1 || b != 1 || c != 1 {
		t.Errorf("20 times Each made %d, %d and %d connections, want 1 to each instance", a, b, c)
	}

	servers[1].stop()

	names, err := ask(kit.Context(t), i)
	if strings.Join(names, "") != "ac" ||
		err == nil ||
		!strings.Contains(err.Error(), `"b"`) ||
		strings.Contains(err.Error(), `"a"`) {
		t.Errorf("Each with b stopped: answers of %q, error %v, want answers of a and c, and an error that names b alone",
			names, err)
	}

	w.delete(key + "/a")
	servers[0].stop()

	kit.Eventually(
		t,
		"a call to the instance that has left fails with Unavailable and names a",
		func() bool {
			_, err := once(all[0].Conn)
			return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), `"a"`)
		},
	)

	kit.Must(t, i.Close())
	kit.Must(t, i.Close())

	if _, err := i.All(kit.Context(t)); status.Code(err) != codes.Canceled {
		t.Errorf("All after Close: %v, want Canceled", err)
	}
}

// Outlier detection ejects an instance on which every call times out, even if
// maxConcurrentRequests rejects most calls before they reach an instance.
func TestBound_RejectedCallsDoNotHideFailures(t *testing.T) {
	w := newWorld(t, nil)
	hangs := w.start(&server{name: "a", do: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}})

	w.register(hangs)
	w.registerAll("b", "c")
	conn := w.conn()

	// the registry follows the key from now on
	_, _ = call(kit.Bounded(t, 50*time.Millisecond), conn)
	kit.Must(t, w.registry.SetServiceConfig(kit.Context(
		t), key, `{"loadBalancingConfig":[{"outlier_detection_experimental":{"interval":"1s","baseEjectionTime":"60s","maxEjectionPercent":100,`+
		`"failurePercentageEjection":{"threshold":50,"enforcementPercentage":100,"minimumHosts":1,"requestVolume":1},"childPolicy":[{"etcd":{"maxConcurrentRequests":1}}]}}]}`))

	kit.Eventually(t, "20 calls in a row succeed at once", func() bool {
		for range 20 {
			if _, err := call(kit.Bounded(t, 500*time.Millisecond), conn); err != nil {
				code := status.Code(err)
				if code != codes.DeadlineExceeded && code != codes.Unavailable {
					t.Fatal(err)
				}

				return false
			}
		}

		return true
	})
}

// Calls go to the fallback cluster only while the primary cluster has no
// instance, and never if they name an instance (R10). The fallback registry's
// own fallback has no effect.
func TestFallback_OnlyWithoutPrimary(t *testing.T) {
	reader := metric.NewManualReader()
	home := newWorld(t, nil, runtime.WithNamespace("east/"), runtime.WithEmptyGrace(time.Second))
	away := newWorld(t, nil, runtime.WithNamespace("west/"), runtime.WithEmptyGrace(time.Second),
		runtime.WithFallback(home.registry))
	home.registry = home.newRegistry(home.client, runtime.WithNamespace("east/"),
		runtime.WithEmptyGrace(time.Second), runtime.WithFallback(away.registry), metered(reader))

	awayConns := func() float64 {
		n, _ := value(t, reader, "etcdrpc.discovery.away")
		return n
	}

	a1 := away.serve("a1")
	away.put("west/"+key+"/a1", a1.addr)
	conn := home.conn()
	instances := home.instances()

	if got, err := once(conn); got != "a1" {
		t.Errorf(
			"the first call, with no instance in the primary: answered by %q, error %v, want \"a1\"",
			got, err)
	}

	kit.Eventually(t, "the status says that calls have left", func() bool {
		return home.status().Away == 1
	})

	if n := awayConns(); n != 1 {
		t.Errorf("etcdrpc.discovery.away = %v, want 1", n)
	}

	if n := away.status().Connections; n != 0 {
		t.Errorf("the fallback's registry counts %d connections, want 0", n)
	}

	if all, err := instances.All(kit.Context(t)); len(all) > 0 || err != nil {
		t.Errorf("All of the primary: instances %v, error %v, want none", all, err)
	}

	if _, err := call(
		runtime.WithTarget(kit.Context(t), "a1"), conn); status.Code(err) != codes.Unavailable {
		t.Errorf("a call to the instance a1 of the fallback: %v, want Unavailable", err)
	}

	kit.Must(t, away.registry.SetServiceConfig(kit.Context(t), key, hasty))
	kit.Eventually(t, "the fallback registry has the config", func() bool {
		return away.status().ServiceConfig != ""
	})
	reached(t, conn, "a1")

	h1 := home.serve("h1")
	registration, err := home.registry.Register(kit.Context(t), key,
		runtime.Endpoint{Instance: "h1", Addr: h1.addr})
	kit.Must(t, err)
	reached(t, conn, "h1")
	kit.Eventually(t, "the status says that calls are back", func() bool {
		return home.status().Away == 0 && awayConns() == 0
	})
	load := underLoad(t, conn)
	load.More(100)
	kit.Must(t, registration.Close(kit.Context(t)))
	reached(t, conn, "a1")
	load.Stop()
	left := home.logs.Count("calls go to the cluster to fall back on")

	back := home.logs.Count("calls are back")
	if left != 2 || back != 1 {
		t.Errorf("%d log lines say that calls leave and %d that they are back, want 2 and 1: %s",
			left, back, home.logs.Lines())
	}

	fails := func(why string) {
		t.Helper()
		kit.Eventually(t, "calls fail: "+why, func() bool {
			_, err := once(conn)
			return status.Code(err) == codes.Unavailable && strings.Contains(fmt.Sprint(err), why)
		})
	}

	h1.stop()
	a1.stop()
	fails(`under "east/helloworld/greeter"; nor in the cluster to fall back on: `)
	kit.Must(t, away.registry.Close(kit.Context(t)))
	fails(`no endpoint is registered under "east/helloworld/greeter"`)
}
