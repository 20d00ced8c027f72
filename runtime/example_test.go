package runtime_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os/signal"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	greeterpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

var (
	ctx        = context.Background()
	etcdClient *clientv3.Client
	registry   *runtime.Registry
	creds      = insecure.NewCredentials()
)

type greeter struct {
	greeterpb.UnimplementedGreeterServer
}

// Make one registry for each process and etcd cluster. Keepalive lets the etcd
// client notice a connection that died silently.
func ExampleNewRegistry() {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            []string{"etcd-0:2379", "etcd-1:2379", "etcd-2:2379"},
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	registry := runtime.NewRegistry(client, runtime.WithNamespace("prod/"),
		runtime.WithZone("eu-1a"))
	defer registry.Close(context.Background())
}

// A process dials only addresses in its own networks, whatever is written to
// etcd.
func ExampleWithAllowedAddresses() {
	registry := runtime.NewRegistry(etcdClient,
		runtime.WithAllowedAddresses(netip.MustParsePrefix("10.20.0.0/16"),
			netip.MustParsePrefix("fd00:20::/32")))
	defer registry.Close(context.Background())
}

// A service without generated code: its description is written by hand.
func ExampleRegistry_NewClient() {
	conn, err := registry.NewClient(&runtime.ServiceDesc{
		Name: "helloworld.Greeter",
		Key:  "helloworld/greeter",
	}, grpc.WithTransportCredentials(creds))
	if err != nil {
		log.Fatal(err)
	}

	client := greeterpb.NewGreeterClient(conn)
	reply, err := client.SayHello(ctx, &greeterpb.HelloRequest{Name: "world"})
	fmt.Println(reply, err)
}

// A server is registered while it serves, and is withdrawn before it stops.
func ExampleServer_Serve() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	lis, err := net.Listen("tcp", ":9000")
	if err != nil {
		log.Fatal(err)
	}

	server := registry.NewServer(grpc.NewServer(grpc.Creds(creds)),
		runtime.WithDrainDelay(2*time.Second))
	greeterpb.RegisterGreeterServerToEtcd(server, greeter{}, runtime.WithVersion("v2"),
		runtime.WithWeight(100))

	if err := server.Serve(ctx, lis); err != nil {
		log.Fatal(err)
	}
}

// An application that serves its gRPC server itself announces it when it is
// ready, and withdraws it before it stops.
func ExampleServer_Announce() {
	s := grpc.NewServer()
	server := registry.NewServer(s)
	greeterpb.RegisterGreeterServerToEtcd(server, greeter{})

	lis, err := net.Listen("tcp", ":9000")
	if err != nil {
		log.Fatal(err)
	}

	go func() {
		if err := s.Serve(lis); err != nil {
			log.Print(err)
		}
	}()

	if err := server.Announce(ctx, lis.Addr().String()); err != nil {
		log.Fatal(err)
	}

	// ...
	if err := server.Withdraw(ctx); err != nil {
		log.Print(err)
	}

	s.GracefulStop()
}

// Endpoints that are not gRPC servers can be registered, too.
func ExampleRegistry_Register() {
	registration, err := registry.Register(ctx, "acme/metrics",
		runtime.Endpoint{Addr: "10.0.0.7:8080"}, runtime.WithMetadata("path", "/metrics"))
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println(registration.Status().State)

	if err := registration.Close(ctx); err != nil {
		log.Print(err)
	}
}

// A gateway follows a service's endpoints without calling it through gRPC.
func ExampleRegistry_Watch() {
	for endpoints, err := range registry.Watch(ctx, "acme/user") {
		if err != nil {
			log.Print(err) // the endpoints yielded last stay the best known
			continue
		}

		for _, e := range endpoints {
			fmt.Println(e.Instance, e.Addr, e.Version)
		}
	}
}

// Every client sends five percent of its calls to version 2.
func ExampleRegistry_SetServiceConfig() {
	err := registry.SetServiceConfig(ctx, "helloworld/greeter", `{"loadBalancingConfig":[{"etcd":{
		"split": [{"match":{"version":"v2"},"weight":5}, {"match":{"version":"v1"},"weight":95}],
		"childPolicy": [{"round_robin":{}}]
	}}]}`)
	if err != nil {
		log.Fatal(err)
	}
}

// A client that calls only the canaries.
func ExampleWithSelector() {
	client, err := greeterpb.NewGreeterClientFromEtcd(registry,
		grpc.WithTransportCredentials(credentials.NewTLS(nil)),
		runtime.WithSelector(func(e runtime.Endpoint) bool { return e.Version == "canary" }))
	fmt.Println(client, err)
}

// Each calls every instance concurrently.
func ExampleEach() {
	instances, err := registry.NewInstances(&greeterpb.Greeter_EtcdServiceDesc,
		grpc.WithTransportCredentials(creds))
	if err != nil {
		log.Fatal(err)
	}
	defer instances.Close() // or keep instances for later calls: the connections stay open

	err = runtime.Each(ctx, instances, greeterpb.NewGreeterClient, func(
		ctx context.Context,
		e runtime.Endpoint,
		client greeterpb.GreeterClient,
	) error {
		_, err := client.SayHello(ctx, &greeterpb.HelloRequest{Name: e.Instance})
		return err
	})
	if err != nil {
		log.Print(err) // names the instances that failed
	}
}
