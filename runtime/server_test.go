package runtime

import (
	"context"
	"net"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// offline returns a registry whose etcd cannot be reached.
func offline(t *testing.T, opts ...Option) *Registry {
	t.Helper()
	r := NewRegistry(away(t), opts...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = r.Close(ctx) // etcd cannot be reached
	})
	return r
}

// listen returns a listener on a free port of this host.
func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return lis
}

func service(name, key string) *ServiceDesc { return &ServiceDesc{Name: name, Key: key} }

// handler describes a gRPC service that impl implements.
var handler = grpc.ServiceDesc{ServiceName: "a.A", HandlerType: (*interface{ Do() })(nil)}

type impl struct{}

func (impl) Do() {}

// Serve and Announce return errors for misuse, also for misuse after which gRPC would end the process.
func TestServerMisuse(t *testing.T) {
	tests := []struct {
		name string
		make func() *Server
		want []string
	}{
		{"nil registry", func() *Server { return (*Registry)(nil).NewServer(grpc.NewServer()) }, []string{"registry is nil"}},
		{"nil server", func() *Server {
			s := offline(t).NewServer(nil)
			s.RegisterService(&handler, impl{})
			s.Publish(service("a.A", "a"))
			return s
		}, []string{"nil gRPC server"}},
		{"typed nil server", func() *Server { return offline(t).NewServer((*grpc.Server)(nil)) }, []string{"nil gRPC server"}},
		{"registered twice", func() *Server {
			s := offline(t).NewServer(grpc.NewServer())
			s.RegisterService(&handler, impl{})
			s.RegisterService(&handler, impl{})
			return s
		}, []string{"a.A", "twice"}},
		{"registered below", func() *Server {
			g := grpc.NewServer()
			g.RegisterService(&handler, impl{})
			s := offline(t).NewServer(g)
			s.RegisterService(&handler, impl{})
			return s
		}, []string{"a.A", "twice"}},
		{"wrong implementation", func() *Server {
			s := offline(t).NewServer(grpc.NewServer())
			s.RegisterService(&handler, struct{}{})
			return s
		}, []string{"a.A", "does not implement"}},
		{"nil grpc description", func() *Server {
			s := offline(t).NewServer(grpc.NewServer())
			s.RegisterService(nil, impl{})
			return s
		}, []string{"nil description"}},
		{"nil description", func() *Server { return publish(t, nil) }, []string{"nil"}},
		{"a key that is no TLS name", func() *Server { return publish(t, service("a.A", "acme/user:eu")) }, []string{`"acme.user:eu"`, "set Authority"}},
		{"nested keys", func() *Server { return publish(t, service("a.A", "a"), service("a.B", "a/b")) }, []string{"a.A", "a.B", `"a"`, `"a/b"`}},
		{"both faults", func() *Server { return publish(t, service("a.A", "a/"), service("a.B", "b/")) }, []string{"a.A", "a.B"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.make()
			lis := listen(t)
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			for call, err := range map[string]error{"Serve": s.Serve(ctx, lis), "Announce": s.Announce(ctx, "127.0.0.1:80")} {
				if err == nil {
					t.Errorf("%s returned nil, want an error with %q", call, tt.want)
					continue
				}
				for _, text := range tt.want {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("%s returned the error %q, want %q in it", call, err, text)
					}
				}
			}
			if conn, err := net.Dial("tcp", lis.Addr().String()); err == nil {
				conn.Close()
				t.Error("after Serve has failed, the listener is still open")
			}
		})
	}
}

func publish(t *testing.T, descs ...*ServiceDesc) *Server {
	t.Helper()
	s := offline(t).NewServer(grpc.NewServer())
	for _, desc := range descs {
		s.Publish(desc)
	}
	return s
}

// serveAnnounced starts Serve, and returns once s has begun to announce. stop ends Serve and returns its result.
func serveAnnounced(t *testing.T, s *Server) (ctx context.Context, stop func() error) {
	t.Helper()
	lis := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, lis) }()
	for len(s.Status()) == 0 {
		goruntime.Gosched()
	}
	return ctx, func() error {
		cancel()
		return <-served
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
