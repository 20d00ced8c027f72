// Command client makes a few calls, balanced over the servers that etcd lists.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var (
	etcd  = flag.String("etcd", "127.0.0.1:2379", "etcd `endpoints`, separated by commas")
	calls = flag.Int("calls", 6, "how many calls to make, two a second")
)

func main() {
	flag.Parse()

	if err := call(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func call(ctx context.Context) error {
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
	defer registry.Close(ctx)

	service, err := greeterv1.NewGreeterServiceClientFromEtcd(registry,
		grpc.WithTransportCredentials(insecure.NewCredentials())) // explicit plaintext
	if err != nil {
		return err
	}

	for range *calls {
		reply, err := service.SayHello(ctx, &greeterv1.SayHelloRequest{Name: "world"})
		if err != nil {
			return err
		}

		fmt.Printf("%s from %s\n", reply.GetText(), reply.GetServer())
		time.Sleep(time.Second / 2)
	}

	return nil
}
