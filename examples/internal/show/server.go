package show

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Server is a server that serves in the background, as if it were a process.
type Server struct {
	Name, Addr string

	Stop func() error // drains it; calling it again does nothing
}

// Serve serves what register puts on the server until Stop, or the example is over. It returns when
// the server is in etcd.
func (s *Stage) Serve(ctx context.Context, name string, registry *runtime.Registry, register func(*runtime.Server), opts ...runtime.ServerOption) (*Server, error) {
	return s.ServeOn(ctx, grpc.NewServer(), name, registry, register, opts...)
}

// ServeOn is Serve on a gRPC server that the caller made.
func (s *Stage) ServeOn(ctx context.Context, g *grpc.Server, name string, registry *runtime.Registry, register func(*runtime.Server), opts ...runtime.ServerOption) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	// The delay is for callers to hear that the server leaves: here they hear at once.
	opts = append([]runtime.ServerOption{runtime.WithDrainDelay(100 * time.Millisecond)}, opts...)
	server := registry.NewServer(g, opts...)
	register(server)
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(serving, listener) }()
	stop := sync.OnceValue(func() error {
		cancel()
		if err := <-ended; err != nil {
			return fmt.Errorf("server %s: %w", name, err)
		}
		return nil
	})
	s.later(stop)
	return &Server{Name: name, Addr: listener.Addr().String(), Stop: stop},
		s.Until(ctx, name+" is in etcd", func(context.Context) (bool, error) {
			entries := server.Status()
			return len(entries) > 0 && !slices.ContainsFunc(entries, func(entry runtime.Status) bool {
				return entry.State != runtime.StateRegistered
			}), nil
		})
}

// Greeter serves the quickstart's greeter, which answers with its name.
func (s *Stage) Greeter(ctx context.Context, name string, registry *runtime.Registry, opts ...runtime.RegisterOption) (*Server, error) {
	return s.GreeterOn(ctx, grpc.NewServer(), name, registry, opts...)
}

// GreeterOn is Greeter on a gRPC server that the caller made.
func (s *Stage) GreeterOn(ctx context.Context, g *grpc.Server, name string, registry *runtime.Registry, opts ...runtime.RegisterOption) (*Server, error) {
	opts = append([]runtime.RegisterOption{runtime.WithInstance(name)}, opts...)
	return s.ServeOn(ctx, g, name, registry, func(server *runtime.Server) {
		greeterv1.RegisterGreeterServiceServerToEtcd(server, greeter{name: name}, opts...)
	})
}

// Down puts an address in etcd where nobody serves, as a server leaves it that crashed a moment ago.
func (s *Stage) Down(ctx context.Context, name, key string, registry *runtime.Registry) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, err = registry.Register(ctx, key, runtime.Endpoint{Instance: name, Addr: listener.Addr().String()})
	return errors.Join(err, listener.Close())
}

type greeter struct {
	greeterv1.UnimplementedGreeterServiceServer
	name string
}

func (g greeter) SayHello(_ context.Context, req *greeterv1.SayHelloRequest) (*greeterv1.SayHelloResponse, error) {
	return &greeterv1.SayHelloResponse{Text: "hello, " + req.GetName(), Server: g.name}, nil
}

// Greet returns a call for Count.
func Greet(client greeterv1.GreeterServiceClient) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		reply, err := client.SayHello(ctx, &greeterv1.SayHelloRequest{Name: "world"})
		return reply.GetServer(), err
	}
}
