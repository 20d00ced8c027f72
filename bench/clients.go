package bench

import (
	"context"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	etcdrpc "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// dial connects to the child's service with all defaults of the peer's users. The floor connects to the backends.
func (c *child) dial(opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	switch c.Peer {
	case peerFloor:
		return fixedConn(c.Backends, policyOf[peerFloor], opts...)
	case peerGoZero:
		return goZero.Dial(c.Etcd, c.Key, opts...)
	}
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	if c.Peer == peerOurs {
		desc := &etcdrpc.ServiceDesc{Name: grpc_health_v1.Health_ServiceDesc.ServiceName, Key: c.Key}
		return newRegistry(client).NewClient(desc, append(opts, plaintext)...)
	}
	builder, err := builderOf(c.Peer, client)
	if err != nil {
		return nil, err
	}
	target := (&url.URL{Scheme: builder.Scheme(), Path: "/" + c.Key}).String()
	return grpc.NewClient(target, append(opts, plaintext, grpc.WithResolvers(builder), configOf(policyOf[peerFloor]))...)
}

var plaintext = grpc.WithTransportCredentials(insecure.NewCredentials())

// configOf sets the load balancing policy of a connection.
func configOf(policy string) grpc.DialOption {
	return grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"` + policy + `":{}}]}`)
}

// fixedConn connects to a fixed list of addresses.
func fixedConn(addrs []string, policy string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	m := manual.NewBuilderWithScheme("fixed")
	var state resolver.State
	for _, addr := range addrs {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: addr}) // which policies of gRPC's package base read
	}
	m.InitialState(state)
	return grpc.NewClient("fixed:///"+serviceKey, append(opts, plaintext, grpc.WithResolvers(m), configOf(policy))...)
}

// check makes a call with small messages.
func check(conn *grpc.ClientConn) error {
	return conn.Invoke(context.Background(), grpc_health_v1.Health_Check_FullMethodName,
		&grpc_health_v1.HealthCheckRequest{}, &grpc_health_v1.HealthCheckResponse{})
}

// serving answers calls after a delay, and counts them.
type serving struct {
	grpc_health_v1.UnimplementedHealthServer
	takes time.Duration
	calls atomic.Int64
}

func (s *serving) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	s.calls.Add(1)
	time.Sleep(s.takes)
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

// serve starts n servers, which run until the process ends, and returns them with their addresses.
func serve(n int, takes time.Duration) (servers []*serving, addrs []string, err error) {
	for range n {
		lis, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		s, health := grpc.NewServer(), &serving{takes: takes}
		grpc_health_v1.RegisterHealthServer(s, health)
		go func() { _ = s.Serve(lis) }() // until the process ends
		servers, addrs = append(servers, health), append(addrs, lis.Addr().String())
	}
	return servers, addrs, nil
}
