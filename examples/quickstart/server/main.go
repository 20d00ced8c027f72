// Command server greets, and is found in etcd while it does.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var (
	etcd = flag.String("etcd", "127.0.0.1:2379",
		"etcd `endpoints`, separated by commas")

	listen = flag.String("listen", "127.0.0.1:0",
		"`address` to serve on; port 0 is any free one")
)

type service struct {
	greeterv1.UnimplementedGreeterServiceServer
	addr     string
	draining <-chan struct{} // closed a second after a drain has begun
}

func (s service) SayHello(
	_ context.Context,
	req *greeterv1.SayHelloRequest,
) (*greeterv1.SayHelloResponse, error) {
	return &greeterv1.SayHelloResponse{
		Text:   "hello, " + req.GetName(),
		Server: s.addr,
	}, nil
}

// SayHellos ends once its server drains. Otherwise the server would cut it,
// after the stop timeout.
func (s service) SayHellos(
	req *greeterv1.SayHellosRequest,
	stream grpc.ServerStreamingServer[greeterv1.SayHellosResponse],
) error {
	for {
		select {
		case <-s.draining:
			return status.Error(codes.Unavailable, "the server drains: call again")
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-time.After(time.Second):
		}

		err := stream.Send(&greeterv1.SayHellosResponse{
			Text:   "hello, " + req.GetName(),
			Server: s.addr,
		})
		if err != nil {
			return err
		}
	}
}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if err := serve(ctx); err != nil {
		log.Fatal(err)
	}
}

// serve returns when ctx ends and the calls under way are done.
func serve(ctx context.Context) error {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            strings.Split(*etcd, ","),
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
	})
	if err != nil {
		return fmt.Errorf("connect to etcd: %w", err)
	}
	defer client.Close()

	// A caller whose stream ends calls again. After a second it has seen that
	// this server is leaving, and reaches another.
	streams, endStreams := context.WithCancel(context.Background())
	defer endStreams()
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, endStreams) })

	registry := runtime.NewRegistry(client)
	defer registry.Close(context.Background())

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}

	server := registry.NewServer(grpc.NewServer())
	greeterv1.RegisterGreeterServiceServerToEtcd(server,
		service{addr: listener.Addr().String(), draining: streams.Done()})
	fmt.Println("serving on", listener.Addr())

	return server.Serve(ctx, listener)
}
