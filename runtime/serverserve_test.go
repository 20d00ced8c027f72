package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/extension"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listener"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

func TestStopTimeoutOfZero(t *testing.T) {
	for range 20 {
		served := make(chan error, 1)
		served <- grpc.ErrServerStopped

		err := offline(t).NewServer(grpc.NewServer(), WithStopTimeout(0)).stop(served,
			new(listener.Conns))
		if err != nil {
			t.Fatalf("stop without open calls returned %v, want nil", err)
		}
	}
}

// deaf is a health service whose Check ignores the end of its context.
type deaf struct {
	healthpb.UnimplementedHealthServer
	began, released chan struct{}
}

func newDeaf() deaf {
	return deaf{began: make(chan struct{}), released: make(chan struct{})}
}

func (d deaf) Check(
	context.Context,
	*healthpb.HealthCheckRequest,
) (*healthpb.HealthCheckResponse, error) {
	close(d.began)
	<-d.released

	return &healthpb.HealthCheckResponse{}, nil
}

// called calls Check, and returns once that call is under way. The channel
// receives the call's error.
func (d deaf) called(t *testing.T, lis net.Listener) <-chan error {
	t.Helper()

	client := healthpb.NewHealthClient(dial(t, lis))
	answered := make(chan error, 1)
	go func() {
		_, err := client.Check(context.Background(), &healthpb.HealthCheckRequest{})
		answered <- err
	}()

	<-d.began

	return answered
}

// A stopping server lets a call under way finish, and does not wait for a
// connection without incoming data. After it cuts calls, it waits neither for a
// connection without a complete handshake nor for a handler, though gRPC waits
// for both.
func TestStopIsBounded(t *testing.T) {
	for sent, timeout := range map[string]time.Duration{
		"":               10 * time.Second,
		"PRI * HTTP/2.0": 100 * time.Millisecond,
	} {
		d := newDeaf()
		g := grpc.NewServer(grpc.WaitForHandlers(true))
		healthpb.RegisterHealthServer(g, d)
		tcp := listen(t)
		lis, conns := listener.Watch(tcp)
		served := make(chan error, 1)
		go func() { served <- g.Serve(lis) }()
		other, err := net.Dial("tcp", tcp.Addr().String())
		must(t, err)

		defer other.Close()

		fmt.Fprint(other, sent)
		answered := d.called(t, tcp) // on a connection accepted after the connection other
		release := sync.OnceFunc(func() { close(d.released) })
		defer release()

		if sent == "" {
			go func() {
				defer release()

				for { // until the server stops
					conn, err := net.Dial("tcp", tcp.Addr().String())
					if err != nil {
						return
					}

					conn.Close()
				}
			}()
		}

		err = offline(t).NewServer(g, WithStopTimeout(timeout)).stop(served, conns)
		call := <-answered

		clean := sent == ""
		if clean != (err == nil) || clean != (call == nil) {
			t.Errorf("with a connection that has sent %q, stop returned %v and the call %v, want no errors: %v",
				sent, err, call, clean)
		}
	}
}

// Misuse after Serve has begun ends neither Serve nor the process, though it
// would make gRPC end the process.
func TestServeLateMisuse(t *testing.T) {
	s := offline(t).NewServer(grpc.NewServer(), WithDrainDelay(0))
	h := health.NewServer()
	healthpb.RegisterHealthServer(s, h)
	s.Publish(service("a.A", "a"))
	stop := serveAnnounced(t, s)
	s.Publish(service("a.B", "b"))
	s.RegisterService(&handler, impl{})

	if err := s.Announce(t.Context(), "127.0.0.1:80"); err == nil {
		t.Error("Announce during Serve returned no error")
	}

	if err := s.group.Faults(); err != nil || len(s.Status()) != 1 {
		t.Errorf(
			"after late misuse the faults are %v and the statuses %v, want no fault and one status",
			err, s.Status())
	}

	if _, _, err := s.group.Companions("a"); err != nil {
		t.Errorf("Companions returned %v, want nil", err)
	}

	_ = stop() // an error, because etcd cannot be reached
}

// A server without published services serves and, when it drains, waits neither
// for the drain delay nor for a Watch of a health service, gRPC's own or the
// application's.
func TestServeNothing(t *testing.T) {
	for _, given := range []bool{false, true} {
		s := offline(t).NewServer(grpc.NewServer(), WithDrainDelay(time.Hour),
			WithStopTimeout(10*time.Second))
		if given {
			healthpb.RegisterHealthServer(s, health.NewServer())
		}

		client, stop := serve(t, s)
		watch, err := healthpb.NewHealthClient(client).Watch(t.Context(),
			&healthpb.HealthCheckRequest{Service: "a.Unknown"})
		must(t, err)
		_, err = watch.Recv()
		must(t, err)

		if err := stop(); err != nil {
			t.Errorf(
				"Serve without services returned %v, want nil (the health service is given: %v)",
				err, given)
		}

		if err := s.Serve(t.Context(), nil); err == nil {
			t.Error("Serve of a nil listener returned no error")
		}
	}

	ended, end := context.WithCancel(t.Context())
	end()

	err := offline(t).NewServer(grpc.NewServer(), WithDrainDelay(time.Hour)).Serve(ended, listen(t))
	if err != nil {
		t.Errorf("Serve with a context that has ended returned %v, want nil", err)
	}
}

// After a failure of the listener, its accepted connections are still open.
// Serve ends the calls on them before it returns.
func TestServeFailsBesideACall(t *testing.T) {
	d := newDeaf()
	g := grpc.NewServer()

	defer close(d.released)

	s := offline(t).NewServer(g, WithStopTimeout(0))
	healthpb.RegisterHealthServer(g, d)
	s.Publish(service("a.A", "a"))
	lis := listen(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), lis) }()
	answered := d.called(t, lis)
	lis.Close()

	err := <-served
	if !errors.Is(err, net.ErrClosed) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Serve on a failed listener, with an open call, returned %v, want net.ErrClosed and DeadlineExceeded", err)
	}

	if err := <-answered; err == nil {
		t.Error("the open call returned nil, want an error")
	}
}

// companion is an extension, and the companion of the entries of its services.
type companion struct {
	registrar.Companion                    // nil: a test calls only the methods below
	grace               chan time.Duration // the time that End may take
}

func (c companion) Extend(string) (extension.Hooks, error) {
	return extension.Hooks{Companion: func(
		_ *extension.Host,
		_ registrar.Entry,
		grace time.Duration,
		_ func(),
	) (registrar.Companion, error) {
		c.grace <- grace
		return c, nil
	}}, nil
}

func (companion) Registered(bool) {}
func (companion) End()            {}
func (companion) Err() error {
	return nil
}
func (companion) Wait(context.Context) error {
	return nil
}
func (companion) Close(context.Context) error {
	return nil
}

// A leader's calls may take half of the stop timeout.
func TestServe_LeavesTimeToOtherCalls(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{
		time.Minute:     30 * time.Second,
		4 * time.Second: 2 * time.Second,
	} {
		c := companion{grace: make(chan time.Duration, 1)}
		s := offline(t).NewServer(grpc.NewServer(), WithDrainDelay(0), WithStopTimeout(timeout))
		s.Publish(&ServiceDesc{Name: "a.A", Key: "a", Extension: c})
		_ = serveAnnounced(t, s)() // an error, because etcd cannot be reached

		if got := <-c.grace; got != want {
			t.Errorf("with a stop timeout of %v, the leader's calls may take %v, want %v", timeout,
				got, want)
		}
	}
}

// served returns g once it serves.
func served(t *testing.T, g *grpc.Server) *grpc.Server {
	t.Helper()

	lis := listen(t)
	done := make(chan error, 1)
	go func() { done <- g.Serve(lis) }()

	t.Cleanup(func() {
		g.Stop()

		if err := <-done; err != nil {
			t.Errorf("Serve of the gRPC server returned %v, want nil", err)
		}
	})

	conn, err := net.Dial("tcp", lis.Addr().String())
	must(t, err)

	defer conn.Close()

	if _, err := conn.Read(make([]byte, 1)); err != nil { // gRPC speaks first
		t.Fatal(err)
	}

	return g
}

// Serve works with a gRPC server that already serves another listener, if a
// health service is registered on the gRPC server.
func TestServe_AnotherListener(t *testing.T) {
	own := grpc.NewServer()
	healthpb.RegisterHealthServer(own, health.NewServer())

	_, stop := serve(t, offline(t).NewServer(served(t, own)))
	if err := stop(); err != nil {
		t.Errorf("Serve on another listener, with a health service, returned %v, want nil", err)
	}
}

// Several servers share a health service. A server that drains sets NOT_SERVING
// only for services that no other server has, and the status stays. A server
// that starts later sets SERVING for its services. No server has an entry yet,
// because none has found its address.
func TestServe_SharesAHealthService(t *testing.T) {
	h := health.NewServer()
	registry := offline(t)
	start := func(services ...string) (stop func() error) {
		s := registry.NewServer(grpc.NewServer(), WithAdvertiseAddress("203.0.113.9/32"))
		healthpb.RegisterHealthServer(s, h)

		for _, name := range services {
			s.Publish(service(name, name))
		}

		client, stop := serve(t, s)
		_, err := healthpb.NewHealthClient(client).Check(t.Context(),
			&healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
		must(t, err)

		return stop
	}

	names := []string{"", "a.A", "a.B", "a.C"}
	for _, name := range names {
		h.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}

	first := start("a.A", "a.B")
	second := start("a.B", "a.C")

	want := func(when, want string) {
		t.Helper()

		got := ""
		for _, name := range names {
			resp, _ := h.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
			got += " " + resp.GetStatus().String()
		}

		if got != " "+want {
			t.Errorf("%s, the server and the services are%s, want %s", when, got, want)
		}
	}

	must(t, first())
	want("after the first server", "SERVING NOT_SERVING SERVING SERVING")
	must(t, second())
	want("after both", "NOT_SERVING NOT_SERVING NOT_SERVING NOT_SERVING")
	third := start("a.B")
	want("when the next serves", "SERVING NOT_SERVING SERVING NOT_SERVING")
	must(t, third())
}

// slowHealth takes long to set NOT_SERVING.
type slowHealth struct{ *health.Server }

func (s slowHealth) SetServingStatus(
	service string,
	status healthpb.HealthCheckResponse_ServingStatus,
) {
	if status == healthpb.HealthCheckResponse_NOT_SERVING {
		time.Sleep(time.Second)
	}

	s.Server.SetServingStatus(service, status)
}

// The last reported status of RegistrationHealth stays, though the one before
// was slow to set.
func TestReporter_TheLastStatusStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := slowHealth{health.NewServer()}
		report := (&serverHealth{setter: h}).reporter()
		report(false)
		report(true)
		time.Sleep(time.Minute) // a late change would come by then

		resp, _ := h.Check(t.Context(), &healthpb.HealthCheckRequest{Service: RegistrationHealth})
		if got := resp.GetStatus(); got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("the status is %s, want SERVING", got)
		}
	})
}
