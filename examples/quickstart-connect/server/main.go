// Command server greets, and is found in etcd while it does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/connectetcd"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart-connect/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart-connect/gen/greeter/v1/greeterv1connect"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var (
	etcd = flag.String("etcd", "127.0.0.1:2379",
		"etcd `endpoints`, separated by commas")

	listen = flag.String("listen", "127.0.0.1:0",
		"`address` to serve on; port 0 is any free one")
)

type service struct {
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
	ctx context.Context,
	req *greeterv1.SayHellosRequest,
	stream *connect.ServerStream[greeterv1.SayHellosResponse],
) error {
	for {
		select {
		case <-s.draining:
			return connect.NewError(connect.CodeUnavailable,
				errors.New("the server drains: call again"))
		case <-ctx.Done():
			return ctx.Err()
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

	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // explicit plaintext
	server := connectetcd.NewServer(registry, &http.Server{Protocols: &protocols})
	greeterv1connect.RegisterGreeterServiceHandlerToEtcd(server,
		service{addr: listener.Addr().String(), draining: streams.Done()})
	fmt.Println("serving on", listener.Addr())

	return server.Serve(ctx, listener)
}
