package harm

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// server is one server of a row. Its answers have its name.
type server struct {
	leaderpb.UnimplementedCounterServer
	w      *world
	i      int
	name   string
	addr   string // the address that clients use
	link   *link
	tags   map[string]any // metadata of its entry or registration
	listed bool           // whether gRPC's client gets its address; guarded by w.mu
	health *health.Server
	states func() []runtime.Status // status of its registration; nil if the test puts its entry
	leads  *leader.Leadership      // nil if the test puts its entry

	mu   sync.Mutex
	stop func(inOrder bool) // nil while the server does not run
}

func (s *server) Add(context.Context, *leaderpb.AddRequest) (*leaderpb.AddResponse, error) {
	return &leaderpb.AddResponse{Server: s.name}, nil
}

func (s *server) Peek(
	ctx context.Context,
	req *leaderpb.AddRequest,
) (*leaderpb.AddResponse, error) {
	return s.Add(ctx, req)
}

// start starts the server and points its link at it.
func (s *server) start() {
	s.mu.Lock()
	defer s.mu.Unlock()

	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.w.t.Error(err)
		return
	}

	s.health = health.NewServer()
	s.health.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
	s.stop = s.w.serve(s, lis)
	s.link.point(lis.Addr().String())
}

// end ends the server, in order or as kill -9 does. An entry that the test has
// put stays in etcd.
func (s *server) end(inOrder bool) {
	s.mu.Lock()
	stop := s.stop
	s.stop = nil
	s.mu.Unlock()

	if stop == nil {
		return
	}

	if !inOrder {
		s.link.point("")
		s.link.reset()
	}

	stop(inOrder)
	s.link.point("")
}

// restart ends the server, sleeps for d, and starts the server.
func (s *server) restart(inOrder bool, d time.Duration) {
	s.end(inOrder)

	if s.w.sleep(d) {
		s.start()
	}
}

// put puts the server's entry into etcd, and gives gRPC's client its address.
func (s *server) put() {
	value, err := json.Marshal(map[string]any{"Addr": s.addr, "Metadata": s.tags})
	kit.Must(s.w.t, err)

	_, err = etcd.Admin().Put(s.w.t.Context(), s.w.namespace+key+"/"+s.name, string(value))
	kit.Must(s.w.t, err)
	s.list(true)
}

// remove deletes the server's entry from etcd, and takes the address from
// gRPC's client.
func (s *server) remove() {
	_, err := etcd.Admin().Delete(s.w.t.Context(), s.w.namespace+key+"/"+s.name)
	kit.Must(s.w.t, err)
	s.list(false)
}

func (s *server) list(listed bool) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()

	s.listed = listed
	s.w.resolve()
}

// shape starts a gRPC server for s, and returns a function that stops the gRPC
// server, in order or at once.
type shape func(s *server, lis net.Listener) (stop func(inOrder bool))

// plain is the shape of a server that does not register: the test puts its
// entry.
func plain(s *server, lis net.Listener) func(bool) {
	g := grpc.NewServer(s.w.opts...)
	leaderpb.RegisterCounterServer(g, s)
	healthpb.RegisterHealthServer(g, s.health)

	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(lis) }) // ends with Stop

	return func(inOrder bool) {
		if inOrder {
			g.GracefulStop()
		}

		g.Stop()
		serving.Wait()
	}
}

// registered returns the shape of a server that registers, with a drain delay.
func registered(drain time.Duration) shape {
	return func(s *server, lis net.Listener) func(bool) {
		registry := runtime.NewRegistry(etcd.Admin(), runtime.WithNamespace(s.w.namespace),
			runtime.WithLogger(slog.New(slog.DiscardHandler)), runtime.WithLeaseTTL(10*time.Second))

		inner := grpc.NewServer(s.w.opts...)
		g := registry.NewServer(inner, runtime.WithAdvertiseAddress(s.addr),
			runtime.WithDrainDelay(drain), runtime.WithStopTimeout(time.Second))
		leaderpb.RegisterCounterServer(g, s)
		healthpb.RegisterHealthServer(g, s.health)

		opts := []runtime.RegisterOption{runtime.WithInstance(s.name)}
		for name, value := range s.tags {
			opts = append(opts, runtime.WithMetadata(name, fmt.Sprint(value)))
		}

		g.Publish(s.w.desc(), opts...)
		s.states = g.Status
		s.leads = leader.Of(g, s.w.desc())

		ctx, cancel := context.WithCancel(context.Background())
		var serving sync.WaitGroup
		serving.Go(func() { _ = g.Serve(ctx, lis) }) // callers count the calls that a stop cuts

		return func(inOrder bool) {
			if !inOrder {
				inner.Stop() // ends the calls, so that Serve does not wait for them
			}

			cancel()
			serving.Wait()
			closeRegistry(registry)
		}
	}
}

func closeRegistry(r *runtime.Registry) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	_ = r.Close(ctx) // etcd may be down
}
