package migrate

import (
	"context"
	"errors"
	"fmt"
	"net"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
)

// startOld starts a server that registers itself as go-zero does: its address
// under <key>/<lease id>.
func startOld(
	ctx context.Context,
	stage *show.Stage,
	name string,
) (withdraw func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}

	server := grpc.NewServer()
	greeterv1.RegisterGreeterServiceServer(server, show.Greeter{Name: name})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	stage.Later(func() error {
		server.GracefulStop()
		return <-served
	})

	etcd := stage.Etcd.Admin()
	lease, err := etcd.Grant(ctx, 60) // longer than the example runs: nothing renews it
	if err != nil {
		return nil, err
	}

	_, err = etcd.Put(ctx, fmt.Sprintf("%s/%d", key, lease.ID), listener.Addr().String(),
		clientv3.WithLease(lease.ID))

	return func() error {
		_, err := etcd.Revoke(ctx, lease.ID)
		return err
	}, err
}

// oldClient finds servers as go-zero does: it lists and watches the key, and
// uses every value as an address. A value that is not an address, such as a
// JSON entry, cannot be dialled, and round robin leaves it out.
func oldClient(stage *show.Stage) (greeterv1.GreeterServiceClient, error) {
	builder := manual.NewBuilderWithScheme("discov")
	builder.InitialState(resolver.State{})

	conn, err := grpc.NewClient("discov:///"+key,
		grpc.WithResolvers(builder),
		show.Plaintext,
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[{"name":[{}],"waitForReady":true}]}`))
	if err != nil {
		return nil, err
	}

	conn.Connect()
	ctx, cancel := context.WithCancel(context.Background())
	followed := make(chan error, 1)
	go func() { followed <- follow(ctx, stage.Etcd.Admin(), builder) }()

	stage.Later(func() error {
		cancel()
		return errors.Join(<-followed, conn.Close())
	})

	return greeterv1.NewGreeterServiceClient(conn), nil
}

// follow sends gRPC the addresses under the key, at once and at each change.
func follow(ctx context.Context, etcd *clientv3.Client, to *manual.Resolver) error {
	now, err := etcd.Get(ctx, key+"/", clientv3.WithPrefix())
	if err != nil {
		return err
	}

	values := make(map[string]string)
	for _, kv := range now.Kvs {
		values[string(kv.Key)] = string(kv.Value)
	}

	changes := etcd.Watch(ctx, key+"/", clientv3.WithPrefix(),
		clientv3.WithRev(now.Header.Revision+1))
	for open := true; open; {
		var addresses []resolver.Address
		for _, value := range values {
			addresses = append(addresses, resolver.Address{Addr: value})
		}

		to.UpdateState(resolver.State{Addresses: addresses})

		var change clientv3.WatchResponse
		change, open = <-changes
		for _, event := range change.Events {
			if event.Type == clientv3.EventTypeDelete {
				delete(values, string(event.Kv.Key))
			} else {
				values[string(event.Kv.Key)] = string(event.Kv.Value)
			}
		}
	}

	return nil
}
