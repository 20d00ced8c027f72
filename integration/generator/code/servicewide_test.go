package code

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/servicewide"
)

// counter answers the calls of all services: it counts them, and ends them as it is told.
type counter struct {
	mu       sync.Mutex
	calls    int
	failures int           // how many calls are to fail from now on
	left     time.Duration // of the last call's time; 0: it had no deadline
}

func (s *counter) end(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.left = 0
	if deadline, ok := ctx.Deadline(); ok {
		s.left = time.Until(deadline)
	}
	if s.failures == 0 {
		return nil
	}
	s.failures--
	return status.Error(codes.Unavailable, "told to fail")
}

// fail has the next calls fail, and forgets those before.
func (s *counter) fail(failures int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.failures = 0, failures
}

// seen returns how many calls there were since fail, and what time the last one had.
func (s *counter) seen() (calls int, left time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls, s.left
}

func (s *counter) unary(ctx context.Context, _ any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if info.FullMethod == healthpb.Health_Check_FullMethodName {
		return handler(ctx, nil)
	}
	if info.FullMethod == servicewide.Defaults_Timeout_FullMethodName {
		<-ctx.Done()
		_ = s.end(ctx)
		return nil, status.FromContextError(ctx.Err()).Err() // the caller's own timer may go off later
	}
	return new(emptypb.Empty), s.end(ctx)
}

func (s *counter) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if info.FullMethod == healthpb.Health_Watch_FullMethodName {
		return handler(srv, stream)
	}
	return s.end(stream.Context())
}

func (s *counter) register(to *runtime.Server) {
	servicewide.RegisterDefaultsServerToEtcd(to, servicewide.UnimplementedDefaultsServer{})
	servicewide.RegisterCheckedServerToEtcd(to, servicewide.UnimplementedCheckedServer{})
	servicewide.RegisterCheckedZoneServerToEtcd(to, servicewide.UnimplementedCheckedZoneServer{})
}

func (s *counter) newGRPC() *grpc.Server {
	return grpc.NewServer(grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream))
}

// announce starts a server that has the given health service or none, and returns when it is in etcd. The runtime
// knows nothing of that health.
func announce(t *testing.T, registry *runtime.Registry, checks *health.Server) *counter {
	t.Helper()
	s := new(counter)
	g := s.newGRPC()
	announced := registry.NewServer(g)
	s.register(announced)
	if checks != nil {
		healthpb.RegisterHealthServer(g, checks)
	}
	lis := kit.Listen(t)
	kit.Serve(t, g, lis)
	must(t, announced.Announce(within(t, soon), lis.Addr().String()))
	return s
}

func clientOf[C any](t *testing.T, registry *runtime.Registry, newClient func(*runtime.Registry, ...grpc.DialOption) (C, error)) C {
	t.Helper()
	c, err := newClient(registry, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	return c
}

func TestDefaultMethod(t *testing.T) {
	registry := newRegistry(t)
	s := announce(t, registry, nil)
	c := clientOf(t, registry, servicewide.NewDefaultsClientFromEtcd)
	const most = 10 * time.Second // the default timeout
	for _, tt := range []struct {
		name     string
		call     func(context.Context, *emptypb.Empty, ...grpc.CallOption) (*emptypb.Empty, error)
		failures int
		calls    int
		code     codes.Code
	}{
		{"plain", c.Plain, 3, 4, codes.OK},
		{"plain, one failure too many", c.Plain, 4, 4, codes.Unavailable},
		{"an option without a field", c.Nothing, 3, 4, codes.OK},
		{"a retry of its own", c.Retry, 2, 2, codes.Unavailable},
		{"no retry", c.NoRetry, 1, 1, codes.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.fail(tt.failures)
			_, err := tt.call(t.Context(), new(emptypb.Empty))
			calls, left := s.seen()
			if status.Code(err) != tt.code || calls != tt.calls {
				t.Errorf("%v after %d calls; want %v after %d", err, calls, tt.code, tt.calls)
			}
			if left <= 0 || left > most {
				t.Errorf("the server had %v left; want at most %v", left, most)
			}
		})
	}
	t.Run("a stream", func(t *testing.T) {
		s.fail(3)
		replies, err := c.Watch(t.Context(), new(emptypb.Empty))
		if err == nil {
			err = ended(replies.Recv())
		}
		if calls, left := s.seen(); err != nil || calls != 4 || left <= 0 || left > most {
			t.Errorf("%v after %d calls, the last with %v left; want none after 4 with at most %v", err, calls, left, most)
		}
	})
	if _, err := c.Timeout(t.Context(), new(emptypb.Empty)); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a timeout of its own: %v", err)
	}
}

// TestDefaultWait says that calls wait for a server by default, and that a call says otherwise.
func TestDefaultWait(t *testing.T) {
	registry := newRegistry(t)
	c := clientOf(t, registry, servicewide.NewDefaultsClientFromEtcd)
	if _, err := c.Plain(within(t, soon), new(emptypb.Empty), grpc.WaitForReady(false)); status.Code(err) != codes.Unavailable {
		t.Errorf("%v; want it to be unavailable at once", err)
	}
	answer := make(chan error, 1)
	go func() {
		_, err := c.Plain(t.Context(), new(emptypb.Empty), grpc.WaitForReady(true))
		answer <- err
	}()
	waiting := within(t, 200*time.Millisecond)
	if _, err := c.Plain(waiting, new(emptypb.Empty)); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%v; want it to wait until its deadline", err)
	}
	announce(t, registry, nil)
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

// TestHealthCheck says that a server whose service is not healthy gets no calls while it is in etcd, and that the
// health service that the runtime registers knows the service.
func TestHealthCheck(t *testing.T) {
	registry := newRegistry(t)
	checks := health.NewServer()
	services := []string{servicewide.Checked_ServiceDesc.ServiceName, servicewide.CheckedZone_ServiceDesc.ServiceName}
	set := func(status healthpb.HealthCheckResponse_ServingStatus) {
		for _, service := range services {
			checks.SetServingStatus(service, status)
		}
	}
	set(healthpb.HealthCheckResponse_NOT_SERVING)
	sick := announce(t, registry, checks)
	well := serveCounter(t, registry)
	ctx := within(t, 3*soon)
	type method func(context.Context, *emptypb.Empty, ...grpc.CallOption) (*emptypb.Empty, error)
	for name, newMethod := range map[string]func() method{
		"round_robin":             func() method { return clientOf(t, registry, servicewide.NewCheckedClientFromEtcd).Get },
		"etcd over etcd_weighted": func() method { return clientOf(t, registry, servicewide.NewCheckedZoneClientFromEtcd).Get },
	} {
		t.Run(name, func(t *testing.T) {
			set(healthpb.HealthCheckResponse_NOT_SERVING)
			get := newMethod()
			reaches := func(s *counter, least int) {
				t.Helper()
				for s.fail(0); ; {
					if _, err := get(ctx, new(emptypb.Empty), grpc.WaitForReady(true)); err != nil {
						t.Fatal(err)
					}
					if calls, _ := s.seen(); calls >= least {
						return
					}
				}
			}
			sick.fail(0)
			reaches(well, 20)
			if calls, _ := sick.seen(); calls > 0 {
				t.Errorf("the server that is not healthy had %d calls", calls)
			}
			set(healthpb.HealthCheckResponse_SERVING)
			reaches(sick, 5)
		})
	}
}

// serveCounter starts a server that the runtime serves.
func serveCounter(t *testing.T, registry *runtime.Registry) *counter {
	t.Helper()
	s := new(counter)
	r := registry.NewServer(s.newGRPC(), runtime.WithDrainDelay(0))
	s.register(r)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	lis := kit.Listen(t)
	go func() { done <- r.Serve(ctx, lis) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}
