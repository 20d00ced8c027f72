// Command server greets, and is found in etcd while it does.
package main

import (
	"context"
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

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/connectetcd"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart-connect/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart-connect/gen/greeter/v1/greeterv1connect"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var (
	etcd   = flag.String("etcd", "127.0.0.1:2379", "etcd `endpoints`, separated by commas")
	listen = flag.String("listen", "127.0.0.1:0", "`address` to serve on; port 0 is any free one")
)

type greeter struct {
	addr string
}

func (g greeter) SayHello(_ context.Context, req *greeterv1.SayHelloRequest) (*greeterv1.SayHelloResponse, error) {
	return &greeterv1.SayHelloResponse{Text: "hello, " + req.GetName(), Server: g.addr}, nil
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
	greeterv1connect.RegisterGreeterServiceHandlerToEtcd(server, greeter{addr: listener.Addr().String()})
	fmt.Println("serving on", listener.Addr())
	return server.Serve(ctx, listener)
}
