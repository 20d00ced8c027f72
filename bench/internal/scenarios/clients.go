package scenarios

import (
	"context"
	"net"
	"net/url"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	etcdrpc "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// dialer makes a connection to a service, with everything that a peer's users get.
type dialer func(key string, opts ...grpc.DialOption) (*grpc.ClientConn, error)

// dialerOf returns a peer's. Static goes to addrs, whatever the key.
func dialerOf(peer string, client *clientv3.Client, addrs []string) (dialer, error) {
	if peer == peerGoZero {
		return func(key string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
			return goZero.Dial(client.Endpoints(), key, opts...)
		}, nil
	}
	return roundRobinOf(peer, client, addrs)
}

// roundRobinOf is dialerOf, but go-zero's resolver gets a plain connection with round robin, as the others have.
func roundRobinOf(peer string, client *clientv3.Client, addrs []string) (dialer, error) {
	switch peer {
	case peerOurs:
		registry := newRegistry(client)
		return func(key string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
			return registry.NewClient(healthAt(key), append(opts, plaintext)...)
		}, nil
	case peerStatic:
		return func(_ string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
			return staticConn(addrs, append(opts, grpc.WithDefaultServiceConfig(roundRobin))...)
		}, nil
	}
	builder, err := builderOf(peer, client)
	if err != nil {
		return nil, err
	}
	return func(key string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
		target := (&url.URL{Scheme: builder.Scheme(), Path: "/" + key}).String()
		return grpc.NewClient(target, append(opts, plaintext, grpc.WithResolvers(builder), grpc.WithDefaultServiceConfig(roundRobin))...)
	}, nil
}

const roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`

var plaintext = grpc.WithTransportCredentials(insecure.NewCredentials())

// healthAt describes the service that is called, at a key.
func healthAt(key string) *etcdrpc.ServiceDesc {
	return &etcdrpc.ServiceDesc{Name: grpc_health_v1.Health_ServiceDesc.ServiceName, Key: key}
}

// countDials has the attempts to connect counted.
func countDials(attempts *atomic.Int64) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		attempts.Add(1)
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	})
}

// staticConn goes to a fixed list of addresses.
func staticConn(addrs []string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	m := manual.NewBuilderWithScheme("static")
	var state resolver.State
	for _, addr := range addrs {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr}}})
	}
	m.InitialState(state)
	return grpc.NewClient("static:///"+serviceKey, append(opts, plaintext, grpc.WithResolvers(m))...)
}

// method is what is called: the health check, whose messages are small.
const method = grpc_health_v1.Health_Check_FullMethodName

func check(ctx context.Context, conn *grpc.ClientConn) error { return checkAs(ctx, conn, "") }

// checkAs is check with a text that the backends see.
func checkAs(ctx context.Context, conn *grpc.ClientConn, text string) error {
	return conn.Invoke(ctx, method, &grpc_health_v1.HealthCheckRequest{Service: text}, &grpc_health_v1.HealthCheckResponse{})
}
