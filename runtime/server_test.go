package runtime

import (
	"context"
	"net"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
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

// plaintext lets a client connect without TLS.
var plaintext = grpc.WithTransportCredentials(insecure.NewCredentials())

func service(name, key string) *ServiceDesc {
	return &ServiceDesc{Name: name, Key: key}
}

// handler describes a gRPC service that impl implements.
var handler = grpc.ServiceDesc{ServiceName: "a.A", HandlerType: (*interface{ Do() })(nil)}

type impl struct{}

func (impl) Do() {}

// Serve and Announce return errors for misuse, also for misuse after which gRPC
// would end the process.
func TestServerMisuse(t *testing.T) {
	publish := func(descs ...*ServiceDesc) func(*Server) {
		return func(s *Server) {
			for _, desc := range descs {
				s.Publish(desc)
			}
		}
	}

	register := func(desc *grpc.ServiceDesc, impl any) func(*Server) {
		return func(s *Server) { s.RegisterService(desc, impl) }
	}
	below := grpc.NewServer()
	below.RegisterService(&handler, impl{})

	for _, tt := range []struct {
		name   string
		server GRPCServer
		misuse func(*Server)
		want   []string
	}{
		{"nil server", nil, func(s *Server) {
			register(&handler, impl{})(s)
			publish(service("a.A", "a"))(s)
		}, []string{"nil gRPC server"}},
		{"typed nil server", (*grpc.Server)(nil), publish(), []string{"nil gRPC server"}},
		{"registered twice", grpc.NewServer(), func(s *Server) {
			register(&handler, impl{})(s)
			register(&handler, impl{})(s)
		}, []string{"a.A", "twice"}},
		{"registered below", below, register(&handler, impl{}), []string{"a.A", "twice"}},
		{"wrong implementation", grpc.NewServer(), register(&handler, struct{}{}),
			[]string{"a.A", "does not implement"}},
		{"nil grpc description", grpc.NewServer(), register(nil, impl{}),
			[]string{"nil description"}},
		{"nil description", grpc.NewServer(), publish(nil), []string{"nil"}},
		{"a key that is no TLS name", grpc.NewServer(), publish(service("a.A", "acme/user:eu")),
			[]string{`"acme.user:eu"`, "set Authority"}},
		{"nested keys", grpc.NewServer(), publish(service("a.A", "a"), service("a.B", "a/b")),
			[]string{"a.A", "a.B", `"a"`, `"a/b"`}},
		{"both faults", grpc.NewServer(), publish(service("a.A", "a/"), service("a.B", "b/")),
			[]string{"a.A", "a.B"}},
		{"nil registry", grpc.NewServer(), nil, []string{"registry is nil"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := (*Registry)(nil).NewServer(tt.server)
			if tt.misuse != nil {
				s = offline(t).NewServer(tt.server)
				tt.misuse(s)
			}

			lis := listen(t)
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()

			for call, err := range map[string]error{
				"Serve":    s.Serve(ctx, lis),
				"Announce": s.Announce(ctx, "127.0.0.1:80"),
			} {
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

// dial returns a connection to the server at a listener.
func dial(t *testing.T, lis net.Listener) *grpc.ClientConn {
	t.Helper()

	client, err := grpc.NewClient(lis.Addr().String(), plaintext)
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })

	return client
}

// serve starts Serve, and returns a connection to s. stop ends Serve and
// returns its result.
func serve(t *testing.T, s *Server) (client *grpc.ClientConn, stop func() error) {
	t.Helper()

	lis := listen(t)
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { served <- s.Serve(ctx, lis) }()

	return dial(t, lis), func() error {
		cancel()
		return <-served
	}
}

// serveAnnounced starts Serve, and returns once s has begun to announce.
func serveAnnounced(t *testing.T, s *Server) (stop func() error) {
	t.Helper()

	_, stop = serve(t, s)

	for len(s.Status()) == 0 {
		goruntime.Gosched()
	}

	return stop
}

func must(t testing.TB, err error) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}
}
