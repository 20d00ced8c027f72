package registration

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// greeter is a service whose answers have its name.
type greeter struct {
	basic.UnimplementedGreeterServer
	name string
}

func (g *greeter) SayHello(context.Context, *basic.HelloRequest) (*basic.HelloReply, error) {
	return &basic.HelloReply{Message: g.name}, nil
}

// serving is a running server of the greeter, with clients for it.
type serving struct {
	*runtime.Server
	grpc *grpc.Server
	addr string
	stop func() error // ends Serve and returns its error

	greeter basic.GreeterClient // a client for this server, without discovery
	health  healthpb.HealthClient
}

// serve starts a server of the greeter and of the health service. It does not wait until the server is registered.
func (w *world) serve(impl basic.GreeterServer, lis net.Listener, opts ...runtime.ServerOption) *serving {
	w.t.Helper()
	g := grpc.NewServer()
	s := &serving{Server: w.registry.NewServer(g, append([]runtime.ServerOption{runtime.WithDrainDelay(0)}, opts...)...), grpc: g, addr: lis.Addr().String()}
	healthpb.RegisterHealthServer(s, health.NewServer())
	basic.RegisterGreeterServerToEtcd(s.Server, impl)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, lis) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	w.t.Cleanup(func() {
		if w.t.Failed() {
			g.Stop() // ends a drain that hangs
		}
		_ = s.stop()
	})
	conn, err := grpc.NewClient(s.addr, kit.Insecure)
	kit.Must(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	s.greeter, s.health = basic.NewGreeterClient(conn), healthpb.NewHealthClient(conn)
	return s
}

// registered starts a server as serve does, and waits until it is registered.
func (w *world) registered(impl basic.GreeterServer, opts ...runtime.ServerOption) *serving {
	w.t.Helper()
	s := w.serve(impl, kit.Listen(w.t), opts...)
	s.awaitRegistered(w.t)
	return s
}

func (s *serving) awaitRegistered(t *testing.T) {
	t.Helper()
	kit.Eventually(t, kit.Soon, "registered", func() bool {
		st := s.Status()
		return len(st) == 1 && st[0].State == runtime.StateRegistered
	})
}

// caller returns a client that finds the greeter in etcd.
func (w *world) caller(registry *runtime.Registry) basic.GreeterClient {
	w.t.Helper()
	client, err := basic.NewGreeterClientFromEtcd(registry, kit.Insecure)
	kit.Must(w.t, err)
	return client
}

// TestAdvertisedAddress starts servers that listen on all addresses. A server announces the local address of its connection to
// etcd, or that of an option or of the environment (G8). Only one server of a process can announce the latter.
func TestAdvertisedAddress(t *testing.T) {
	w := newWorld(t, nil)
	announced := func(want string, opts ...runtime.ServerOption) {
		t.Helper()
		lis, err := net.Listen("tcp", "0.0.0.0:0")
		kit.Must(t, err)
		s := w.serve(&greeter{}, lis, opts...)
		s.awaitRegistered(t)
		_, port, err := net.SplitHostPort(s.addr)
		kit.Must(t, err)
		want = strings.ReplaceAll(want, "PORT", port)
		if got := w.get(key + "/" + want); got == nil || !strings.Contains(got.value, `"`+want+`"`) {
			t.Errorf("keys in etcd: %v, want %s/%s, with the address in its value", w.keys(key), key, want)
		}
	}
	announced("127.0.0.1:PORT")
	announced("svc.local:80", runtime.WithAdvertiseAddress("svc.local:80"))
	t.Setenv("GRPC_ADVERTISE_ADDR", "10.1.2.3:9000")
	announced("10.1.2.3:9000")
	lis := kit.Listen(t)
	second := w.registry.NewServer(grpc.NewServer())
	second.Publish(&runtime.ServiceDesc{Name: "acme.Other", Key: "acme/other"})
	err := second.Serve(kit.Bounded(t, kit.Soon), lis)
	for _, text := range []string{"GRPC_ADVERTISE_ADDR", "10.1.2.3:9000", lis.Addr().String(), "WithAdvertiseAddress"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("Serve of the second server: %v, want an error with %q", err, text)
		}
	}
	if keys := w.keys("acme/other"); len(keys) > 0 {
		t.Errorf("keys of the second server: %v, want none", keys)
	}
}

// deaf is a service whose handler ignores the end of its context.
type deaf struct {
	basic.UnimplementedGreeterServer
	began, released chan struct{}
}

func newDeaf() *deaf { return &deaf{began: make(chan struct{}), released: make(chan struct{})} }

func (d *deaf) SayHello(context.Context, *basic.HelloRequest) (*basic.HelloReply, error) {
	close(d.began)
	<-d.released
	return &basic.HelloReply{}, nil
}

// call calls the deaf service, once a test, and returns when the handler runs. answered receives the error of the call.
func (d *deaf) call(t *testing.T, s *serving) (answered <-chan error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := s.greeter.SayHello(kit.Bounded(t, kit.Soon), &basic.HelloRequest{})
		done <- err
	}()
	<-d.began
	return done
}

// TestDrainIsBounded drains a server while etcd does not answer, and while a handler ignores its context.
func TestDrainIsBounded(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	d := newDeaf()
	s := w.registered(d, runtime.WithStopTimeout(100*time.Millisecond))
	defer close(d.released)
	d.call(t, s)
	w.etcd.Pause()
	hangs := time.AfterFunc(6*time.Second, w.etcd.Resume) // if the drain waits for etcd, Serve returns nil
	err := s.stop()
	hangs.Stop()
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "expires") || !strings.Contains(err.Error(), "calls") {
		t.Errorf("Serve: %v, want DeadlineExceeded with \"expires\" and \"calls\"", err)
	}
}

// TestDrainOrder checks that, when the key is gone, the health service reports NOT_SERVING and the server still takes calls.
func TestDrainOrder(t *testing.T) {
	w := newWorld(t, nil)
	s := w.registered(&greeter{}, runtime.WithDrainDelay(time.Hour))
	go func() { _ = s.stop() }()
	kit.Eventually(t, kit.Soon, "the entry has left etcd", func() bool { return len(w.keys(key)) == 0 })
	resp, err := s.health.Check(kit.Bounded(t, kit.Soon), &healthpb.HealthCheckRequest{Service: "basic.Greeter"})
	if err != nil || resp.Status != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health during the drain: %v, error %v, want NOT_SERVING", resp, err)
	}
	if _, err := s.greeter.SayHello(kit.Bounded(t, kit.Soon), &basic.HelloRequest{}); err != nil {
		t.Errorf("call during the drain: %v, want success", err)
	}
	s.grpc.Stop()
	if err := s.stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// A call that began before the drain can still finish after the server accepts no new connection.
func TestCallsUnderWayFinish(t *testing.T) {
	w := newWorld(t, nil)
	d := newDeaf()
	s := w.registered(d, runtime.WithStopTimeout(2*kit.Soon))
	answered := d.call(t, s)
	go func() { _ = s.stop() }()
	kit.Eventually(t, kit.Soon, "the server takes no new connection", func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			return true
		}
		c.Close()
		return false
	})
	close(d.released)
	if err := <-answered; err != nil {
		t.Errorf("the call under way: %v, want success", err)
	}
	if err := s.stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// child is the environment variable with the etcd endpoint. If it is set, the test binary is a server instead of a test.
const child = "REGISTRATION_TEST_ETCD"

func TestMain(m *testing.M) {
	endpoint := os.Getenv(child)
	if endpoint == "" {
		os.Exit(leak.Main(4, m.Run))
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
	if err != nil {
		panic(err)
	}
	s := runtime.NewRegistry(client, runtime.WithLeaseTTL(5*time.Second)).NewServer(grpc.NewServer())
	basic.RegisterGreeterServerToEtcd(s, &greeter{name: "child"})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	panic(s.Serve(context.Background(), lis))
}

// process starts a server in a child process and returns the process and the key of its entry.
func (w *world) process() (*os.Process, string) {
	w.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), child+"="+w.etcd.Endpoints()[0])
	cmd.Stderr = os.Stderr
	kit.Must(w.t, cmd.Start())
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	kit.Eventually(w.t, kit.Soon, "registered", func() bool { return len(w.keys(key)) == 1 })
	return cmd.Process, w.keys(key)[0]
}

// After a server was killed, calls reach another server before the lease of the killed server ends (G10).
func TestKilledProcess(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	p, etcdKey := w.process()
	w.registered(&greeter{name: "other"})
	client := w.caller(w.registry)
	reached := func(name string) func() bool {
		return func() bool {
			reply, err := client.SayHello(kit.Bounded(t, kit.Soon), &basic.HelloRequest{})
			return err == nil && reply.Message == name
		}
	}
	kit.Eventually(t, kit.Soon, "callers reach the child", reached("child"))
	kit.Must(t, p.Kill())
	kit.Eventually(t, kit.Soon, "callers reach the other server", reached("other"))
	if w.get(etcdKey) == nil {
		t.Error("the entry of the killed server was gone before callers switched, want it in etcd")
	}
}

func TestUnhealthyServiceLeavesEtcd(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	s := w.registry.NewServer(grpc.NewServer(), runtime.WithDrainDelay(0))
	h := health.NewServer()
	const name = "basic.Greeter"
	if got := basic.Greeter_EtcdServiceDesc.Name; got != name {
		t.Fatalf("name of the service: %s, want %s", got, name)
	}
	h.SetServingStatus(name, healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(s, h)
	basic.RegisterGreeterServerToEtcd(s, &greeter{})
	kit.Must(t, s.Announce(kit.Bounded(t, kit.Soon), "127.0.0.1:80"))
	state := func(want runtime.State, keys int) {
		t.Helper()
		kit.Eventually(t, kit.Soon, want.String(), func() bool {
			return s.Status()[0].State == want && len(w.keys(key)) == keys
		})
	}
	state(runtime.StatePaused, 0)
	h.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	state(runtime.StateRegistered, 1)
	h.SetServingStatus(name, healthpb.HealthCheckResponse_NOT_SERVING)
	state(runtime.StatePaused, 0)
	// A service without a status in the health service has the status of the server, "".
	h.SetServingStatus(name, healthpb.HealthCheckResponse_SERVICE_UNKNOWN)
	state(runtime.StateRegistered, 1)
	h.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	state(runtime.StatePaused, 0)
	h.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	state(runtime.StateRegistered, 1)
	kit.Must(t, s.Withdraw(kit.Bounded(t, kit.Soon)))
	w.nothing("after Withdraw")
}

func TestSteadyStateIsSilent(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	g := w.register(key, addr(0))
	since := g.Status().Since
	// Register may return just before the line is logged.
	kit.Eventually(t, kit.Soon, "one log line for one registration", func() bool { return w.logs.Count("msg=") == 1 })
	kit.Must(t, w.etcd.Calls().Wait(kit.Bounded(t, kit.Soon), "Txn", "", 2)) // the put, and then a check of the key
	if n := w.logs.Count("msg="); n != 1 || g.Status().Since != since {
		t.Errorf("%d log lines, registered since %v; want 1 line and %v: %v", n, g.Status().Since, since, w.logs.Lines())
	}
	w.revoke(g.Status().LeaseID)
	kit.Eventually(t, kit.Soon, "the second registration is logged", func() bool { return w.logs.Count("state=registered") == 2 })
	if w.logs.Count("level=WARN") != 1 || w.logs.Count("state=lost") != 1 || w.logs.Count(entry) != 3 {
		t.Errorf("log of a lost lease: %v, want one warning, one line with state=lost, and three with %s", w.logs.Lines(), entry)
	}
}

// If the health service has no status for a service with healthCheckConfig, or is registered on the gRPC server, where the registry
// cannot read it, an error in the status and a log line say so.
func TestQuestionableHealthService_Warns(t *testing.T) {
	leak.Parallel(t)
	h := health.NewServer()
	for cure, register := range map[string]func(s *runtime.Server, g *grpc.Server){
		`SetServingStatus("basic.Greeter", healthpb.HealthCheckResponse_SERVING)`: func(s *runtime.Server, _ *grpc.Server) { healthpb.RegisterHealthServer(s, h) },
		"healthpb.RegisterHealthServer(server, healthServer)":                     func(_ *runtime.Server, g *grpc.Server) { healthpb.RegisterHealthServer(g, h) },
	} {
		w := newWorld(t, nil)
		g := grpc.NewServer()
		s := w.registry.NewServer(g)
		register(s, g)
		basic.RegisterGreeterServer(s, &greeter{})
		s.Publish(&runtime.ServiceDesc{Name: "basic.Greeter", Key: key, ServiceConfig: `{"healthCheckConfig":{"serviceName":"basic.Greeter"}}`})
		kit.Must(t, s.Announce(kit.Bounded(t, kit.Soon), addr(0)))
		if st := s.Status()[0]; st.State != runtime.StateRegistered || st.Err == nil || !strings.Contains(st.Err.Error(), cure) {
			t.Errorf("state %s, error %v, want registered, and an error with %q", st.State, st.Err, cure)
		}
		if strings.HasPrefix(cure, "Set") {
			h.SetServingStatus("basic.Greeter", healthpb.HealthCheckResponse_SERVING)
			kit.Eventually(t, kit.Soon, "the error is gone", func() bool { return s.Status()[0].Err == nil })
			h.SetServingStatus("basic.Greeter", healthpb.HealthCheckResponse_SERVICE_UNKNOWN)
			kit.Eventually(t, kit.Soon, "the error is back", func() bool { return s.Status()[0].Err != nil })
		}
		if n := w.logs.Count("questionable health service"); n != 1 {
			t.Errorf("%d warnings, want 1", n)
		}
		kit.Must(t, s.Withdraw(kit.Bounded(t, kit.Soon)))
	}
}
