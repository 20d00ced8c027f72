package harm

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// server is one server of a row. It answers with its name.
type server struct {
	leaderpb.UnimplementedCounterServer
	w      *world
	i      int
	name   string
	addr   string // as clients know it
	link   *link
	tags   map[string]any // of its entry, or of its registration
	listed bool           // gRPC's client has its address; guarded by w.mu
	health *health.Server
	states func() []runtime.Status // of its registration; nil: its entry is put by hand
	leads  *leader.Leadership      // nil: its entry is put by hand

	delay atomic.Int64 // how long a call takes
	code  atomic.Uint32
	mu    sync.Mutex
	stop  func(inOrder bool) // nil while it does not run
}

// answer is what all methods do.
func (s *server) answer(ctx context.Context) (*leaderpb.AddResponse, error) {
	if d := time.Duration(s.delay.Load()); d > 0 {
		late := time.NewTimer(d)
		defer late.Stop()
		select {
		case <-late.C:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	if code := codes.Code(s.code.Load()); code != codes.OK {
		return nil, status.Error(code, "asked to fail")
	}
	return &leaderpb.AddResponse{Server: s.name}, nil
}

func (s *server) Add(ctx context.Context, _ *leaderpb.AddRequest) (*leaderpb.AddResponse, error) {
	return s.answer(ctx)
}

func (s *server) Peek(ctx context.Context, _ *leaderpb.AddRequest) (*leaderpb.AddResponse, error) {
	return s.answer(ctx)
}

// Watch sends n messages, each as a call is answered.
func (s *server) Watch(req *leaderpb.AddRequest, stream leaderpb.Counter_WatchServer) error {
	for range req.GetN() {
		reply, err := s.answer(stream.Context())
		if err == nil {
			err = stream.Send(reply)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// start runs the server at its address.
func (s *server) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.w.t.Error(err)
		return
	}
	s.health = health.NewServer()
	if !s.w.unknown {
		s.health.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
	}
	s.stop = s.w.serve(s, lis)
	s.link.lead(lis.Addr().String())
}

// end ends the server: in order, or as kill -9 does. Entries that it has not written itself stay.
func (s *server) end(inOrder bool) {
	s.mu.Lock()
	stop := s.stop
	s.stop = nil
	s.mu.Unlock()
	if stop == nil {
		return
	}
	if !inOrder {
		s.link.lead("")
		s.link.reset()
	}
	stop(inOrder)
	s.link.lead("")
}

// replace starts a server at the same address, and then ends the old one: nobody finds the port closed.
func (s *server) replace(inOrder bool) {
	s.mu.Lock()
	old := s.stop
	s.mu.Unlock()
	s.start()
	if !inOrder {
		s.link.reset()
	}
	old(inOrder)
}

// restart ends the server and starts it d later.
func (s *server) restart(inOrder bool, d time.Duration) {
	s.end(inOrder)
	if s.w.sleep(d) {
		s.start()
	}
}

// put writes the server's entry, and has gRPC's client know its address.
func (s *server) put() {
	s.write()
	s.list(true)
}

// write writes the entry.
func (s *server) write() {
	value, err := json.Marshal(map[string]any{"Addr": s.addr, "Metadata": s.tags})
	must(s.w.t, err)
	kit.Eventually(s.w.t, time.Minute, "etcd, which may have restarted just now, takes the entry", func() bool {
		_, err := s.w.cluster.Admin().Put(s.w.t.Context(), s.w.namespace+key+"/"+s.name, string(value))
		return err == nil
	})
}

// remove takes the entry out again, and has gRPC's client forget the address.
func (s *server) remove() {
	_, err := s.w.cluster.Admin().Delete(s.w.t.Context(), s.w.namespace+key+"/"+s.name)
	must(s.w.t, err)
	s.list(false)
}

func (s *server) list(listed bool) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.listed = listed
	s.w.resolve()
}

// shape is how a server serves, until stop is called: at once, or in order.
type shape func(s *server, lis net.Listener) (stop func(inOrder bool))

// plain is a gRPC server, whose entry is put by hand.
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

// registered is a server of the registrar, which leaves with a drain delay.
func registered(drain time.Duration) shape {
	return func(s *server, lis net.Listener) func(bool) {
		registry := runtime.NewRegistry(s.w.cluster.Admin(), runtime.WithNamespace(s.w.namespace),
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
		serving.Go(func() { _ = g.Serve(ctx, lis) }) // calls that are cut are the callers' to count
		return func(inOrder bool) {
			if !inOrder {
				inner.Stop() // Serve then withdraws at once
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
	_ = r.Close(ctx) // etcd may be away
}

// counted stands for a front such as nginx: it ends each connection in order after n requests, by the HTTP/2 server of
// net/http, which sends GOAWAY after an answer that says "Connection: close".
func counted(n int64) shape {
	type perConn struct{}
	return func(s *server, lis net.Listener) func(bool) {
		g := grpc.NewServer()
		leaderpb.RegisterCounterServer(g, s)
		front := &http.Server{
			Protocols: new(http.Protocols),
			ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
				return context.WithValue(ctx, perConn{}, new(atomic.Int64))
			},
			ReadHeaderTimeout: time.Minute,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Context().Value(perConn{}).(*atomic.Int64).Add(1) >= n {
					w.Header().Set("Connection", "close")
				}
				g.ServeHTTP(w, r)
			}),
		}
		front.Protocols.SetUnencryptedHTTP2(true)
		var serving sync.WaitGroup
		serving.Go(func() { _ = front.Serve(lis) }) // ends with Close
		return func(bool) { _ = front.Close(); g.Stop(); serving.Wait() }
	}
}

// raw is a server of bytes: it is given each connection, which is closed when it returns. It ends with its client.
func raw(serve func(net.Conn)) shape {
	return func(_ *server, lis net.Listener) func(bool) {
		var serving sync.WaitGroup
		serving.Go(func() {
			for {
				c, err := lis.Accept()
				if err != nil {
					return
				}
				serving.Go(func() { serve(c); _ = c.Close() }) // the client may have closed it
			}
		})
		return func(bool) { _ = lis.Close(); serving.Wait() } // it ends Accept
	}
}

// settingsAndClose greets as an HTTP/2 server does, waits for what the client sends, and closes.
var settingsAndClose = raw(func(c net.Conn) {
	_, _ = c.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}) // an empty SETTINGS frame; the client may be gone
	_, _ = c.Read(make([]byte, 1024))
})

// slowly has it take a while to connect: gRPC connects without a pause to who ends connections, which keeps a machine busy.
func slowly(w *world) { w.links(func(q *quality) { q.slow = 20 * ms }, w.servers...) }

// partly has the first n servers be of another shape than the others.
func partly(n int, other shape) shape {
	return func(s *server, lis net.Listener) func(bool) {
		if s.i < n {
			return other(s, lis)
		}
		return plain(s, lis)
	}
}
