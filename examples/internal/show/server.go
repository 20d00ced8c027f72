package show

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Plaintext is the dial option for connections without TLS.
var Plaintext = grpc.WithTransportCredentials(insecure.NewCredentials())

// Serve serves in the background the services that register adds, like a separate process, until stop
// or the end of the example. It returns once the server is in etcd.
func (s *Stage) Serve(ctx context.Context, g *grpc.Server, name string, registry *runtime.Registry, register func(*runtime.Server)) (stop func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	// The delay lets callers learn that the server leaves: here they learn at once.
	server := registry.NewServer(g, runtime.WithDrainDelay(100*time.Millisecond))
	register(server)
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(serving, listener) }()
	stop = sync.OnceValue(func() error {
		cancel()
		if err := <-ended; err != nil {
			return fmt.Errorf("server %s: %w", name, err)
		}
		return nil
	})
	s.Later(stop)
	return stop, s.Until(ctx, name+" is in etcd", func(context.Context) (bool, error) {
		entries := server.Status()
		return len(entries) > 0 && !slices.ContainsFunc(entries, func(entry runtime.Status) bool {
			return entry.State != runtime.StateRegistered
		}), nil
	})
}

// Greeter serves a Greeter with this name.
func (s *Stage) Greeter(ctx context.Context, g *grpc.Server, name string, registry *runtime.Registry, opts ...runtime.RegisterOption) (stop func() error, err error) {
	opts = append([]runtime.RegisterOption{runtime.WithInstance(name)}, opts...)
	return s.Serve(ctx, g, name, registry, func(server *runtime.Server) {
		greeterv1.RegisterGreeterServiceServerToEtcd(server, Greeter{Name: name}, opts...)
	})
}

// Greeter answers with its name.
type Greeter struct {
	greeterv1.UnimplementedGreeterServiceServer
	Name string
}

// SayHello answers a call.
func (g Greeter) SayHello(_ context.Context, req *greeterv1.SayHelloRequest) (*greeterv1.SayHelloResponse, error) {
	return &greeterv1.SayHelloResponse{Text: "hello, " + req.GetName(), Server: g.Name}, nil
}

// Client returns a client of the greeters, with a registry of its own.
func (s *Stage) Client() (greeterv1.GreeterServiceClient, error) {
	registry, err := s.Registry()
	if err != nil {
		return nil, err
	}
	return greeterv1.NewGreeterServiceClientFromEtcd(registry, Plaintext)
}

// Greet returns a call for Count.
func Greet(client greeterv1.GreeterServiceClient) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		reply, err := client.SayHello(ctx, &greeterv1.SayHelloRequest{Name: "world"})
		return reply.GetServer(), err
	}
}
