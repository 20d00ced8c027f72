// Command server is a catalog in Go, beside those in other languages.
package main

import (
	"context"
	"log"
	"net"
	"os/signal"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	shopv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

type catalog struct {
	shopv1.UnimplementedCatalogServer
}

func (catalog) Find(context.Context, *shopv1.FindRequest) (*shopv1.FindResponse, error) {
	return &shopv1.FindResponse{Server: "Go"}, nil
}

func main() {
	if err := serve(); err != nil {
		log.Fatal(err)
	}
}

func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:2379"}})
	if err != nil {
		return err
	}
	defer client.Close()
	registry := runtime.NewRegistry(client)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := registry.NewServer(grpc.NewServer())
	shopv1.RegisterCatalogServerToEtcd(server, catalog{})
	if err := server.Serve(ctx, lis); err != nil {
		return err
	}
	return registry.Close(context.Background())
}
