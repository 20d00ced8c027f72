package migrate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
)

// oldServer registers itself as go-zero does: its address under <key>/<lease id>.
type oldServer struct {
	greeterv1.UnimplementedGreeterServiceServer
	name  string
	etcd  *clientv3.Client
	lease clientv3.LeaseID
	stop  func()
}

func startOld(ctx context.Context, etcd *clientv3.Client, name string) (*oldServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &oldServer{name: name, etcd: etcd}
	server := grpc.NewServer()
	greeterv1.RegisterGreeterServiceServer(server, s)
	s.stop = server.GracefulStop
	go func() { _ = server.Serve(listener) }() // ends with stop, and whoever calls it finds out otherwise

	lease, err := etcd.Grant(ctx, 60) // longer than the example runs: nothing renews it
	if err != nil {
		return nil, err
	}
	s.lease = lease.ID
	_, err = etcd.Put(ctx, fmt.Sprintf("%s/%d", key, lease.ID), listener.Addr().String(), clientv3.WithLease(lease.ID))
	return s, err
}

func (s *oldServer) withdraw(ctx context.Context) error {
	_, err := s.etcd.Revoke(ctx, s.lease)
	return err
}

func (s *oldServer) SayHello(context.Context, *greeterv1.SayHelloRequest) (*greeterv1.SayHelloResponse, error) {
	return &greeterv1.SayHelloResponse{Server: s.name}, nil
}

// oldCaller finds servers as go-zero does: it lists and watches the key, and takes every value for an
// address. What is none, such as an entry in JSON, cannot be dialled, and round robin leaves it out.
type oldCaller struct {
	client greeterv1.GreeterServiceClient
	close  func()
}

func newOldCaller(etcd *clientv3.Client) (*oldCaller, error) {
	builder := manual.NewBuilderWithScheme("discov")
	builder.InitialState(resolver.State{})
	conn, err := grpc.NewClient("discov:///"+key, grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[{"name":[{}],"waitForReady":true}]}`))
	if err != nil {
		return nil, err
	}
	conn.Connect()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { follow(ctx, etcd, builder) })
	return &oldCaller{client: greeterv1.NewGreeterServiceClient(conn), close: func() {
		cancel()
		running.Wait()
		conn.Close()
	}}, nil
}

// follow tells gRPC the addresses under the key, now and at each change.
func follow(ctx context.Context, etcd *clientv3.Client, to *manual.Resolver) {
	values := make(map[string]string)
	tell := func() {
		var addresses []resolver.Address
		for _, value := range values {
			addresses = append(addresses, resolver.Address{Addr: value})
		}
		to.UpdateState(resolver.State{Addresses: addresses})
	}
	now, err := etcd.Get(ctx, key+"/", clientv3.WithPrefix())
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			to.CC().ReportError(err)
		}
		return
	}
	for _, kv := range now.Kvs {
		values[string(kv.Key)] = string(kv.Value)
	}
	tell()
	for changes := range etcd.Watch(ctx, key+"/", clientv3.WithPrefix(), clientv3.WithRev(now.Header.Revision+1)) {
		for _, event := range changes.Events {
			if event.Type == clientv3.EventTypeDelete {
				delete(values, string(event.Kv.Key))
			} else {
				values[string(event.Kv.Key)] = string(event.Kv.Value)
			}
		}
		tell()
	}
}
