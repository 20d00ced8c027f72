package bench

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	etcdnaming "go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	etcdrpc "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// dial connects to the child's service with the peer's defaults. The floor
// connects to the addresses in Backends.
func (c *child) dial(opts ...grpc.DialOption) *grpc.ClientConn {
	switch c.Peer {
	case peerFloor:
		return fixedConn(c.Backends, policyOf[peerFloor], opts...)
	case peerGoZero:
		return valueOf(goZero.Dial(c.Etcd, c.Key, opts...))

	case peerOurs:
		desc := &etcdrpc.ServiceDesc{
			Name: grpc_health_v1.Health_ServiceDesc.ServiceName,
			Key:  c.Key,
		}

		registry := newRegistry(c.client())

		return valueOf(registry.NewClient(desc, append(opts, plaintext)...))
	}

	builder := builderOf(c.Peer, c.client())
	target := (&url.URL{Scheme: builder.Scheme(), Path: "/" + c.Key}).String()

	opts = append(opts, plaintext, grpc.WithResolvers(builder),
		configOf(policyOf[peerFloor]))

	return valueOf(grpc.NewClient(target, opts...))
}

var plaintext = grpc.WithTransportCredentials(insecure.NewCredentials())

// configOf returns the dial option that sets a connection's load balancing
// policy.
func configOf(policy string) grpc.DialOption {
	return grpc.WithDefaultServiceConfig(
		`{"loadBalancingConfig":[{"` + policy + `":{}}]}`)
}

// fixedConn connects to a fixed list of addresses.
func fixedConn(addrs []string, policy string, opts ...grpc.DialOption) *grpc.ClientConn {
	m := manual.NewBuilderWithScheme("fixed")

	var state resolver.State
	for _, addr := range addrs {
		// policies of gRPC's package base read Addresses
		state.Addresses = append(state.Addresses, resolver.Address{Addr: addr})
	}

	m.InitialState(state)

	opts = append(opts, plaintext, grpc.WithResolvers(m), configOf(policy))

	return valueOf(grpc.NewClient("fixed:///"+serviceKey, opts...))
}

// check makes a call with small messages.
func check(conn *grpc.ClientConn) error {
	return conn.Invoke(context.Background(), grpc_health_v1.Health_Check_FullMethodName,
		&grpc_health_v1.HealthCheckRequest{}, &grpc_health_v1.HealthCheckResponse{})
}

// serving is a health service that answers calls after a delay, and counts
// them.
type serving struct {
	grpc_health_v1.UnimplementedHealthServer
	takes time.Duration
	calls atomic.Int64
}

func (s *serving) Check(
	context.Context,
	*grpc_health_v1.HealthCheckRequest,
) (*grpc_health_v1.HealthCheckResponse, error) {
	s.calls.Add(1)
	time.Sleep(s.takes)

	return &grpc_health_v1.HealthCheckResponse{
		Status: grpc_health_v1.HealthCheckResponse_SERVING,
	}, nil
}

// serve starts n servers, which run until the process ends, and returns them
// with their addresses.
func serve(n int, takes time.Duration) (servers []*serving, addrs []string) {
	for range n {
		lis := valueOf(net.Listen("tcp4", "127.0.0.1:0"))
		s := grpc.NewServer()
		health := &serving{takes: takes}
		grpc_health_v1.RegisterHealthServer(s, health)
		go func() { _ = s.Serve(lis) }() // until the process ends
		servers = append(servers, health)
		addrs = append(addrs, lis.Addr().String())
	}

	return servers, addrs
}

// newRegistry returns this project's registry. Like the other peers, it logs
// nothing.
func newRegistry(client *clientv3.Client) *etcdrpc.Registry {
	return etcdrpc.NewRegistry(client, etcdrpc.WithLogger(slog.New(slog.DiscardHandler)))
}

// builderOf returns a peer's resolver builder. The floor has none.
func builderOf(peer string, client *clientv3.Client) resolver.Builder {
	switch peer {
	case peerOurs:
		return newRegistry(client).Resolver()
	case peerGoZero:
		return valueOf(goZero.Builder(client.Endpoints()))
	}

	return valueOf(etcdnaming.NewBuilder(client))
}

// opener opens n more connections to a service in a group, and waits until all
// connections of the group have size endpoints.
type opener func(g *group, service string, n, size int)

// open connects to etcd and returns the peer's opener. The floor opens one
// watch for any number of connections.
func (c *child) open() opener {
	client := c.client()
	if c.Peer == peerFloor {
		return func(g *group, service string, _, _ int) { follow(g, client, service) }
	}

	builder := builderOf(c.Peer, client)

	return func(g *group, service string, n, size int) {
		target := resolver.Target{
			URL: url.URL{Scheme: builder.Scheme(), Path: "/" + service},
		}

		stubs := make([]*stub, n)
		for i := range stubs {
			stubs[i] = g.add()
		}

		for _, s := range stubs {
			valueOf(builder.Build(target, s, resolver.BuildOptions{}))
		}

		within(g.expect(size))
	}
}

// naked is the floor: it lists and watches a service, and does nothing but
// decode the values.
type naked struct {
	report func(size int)
	known  map[string]nakedEndpoint
}

type nakedEndpoint struct {
	Op       uint8
	Addr     string
	Metadata any
}

// follow lists and watches a service as the floor does.
func follow(g *group, client *clientv3.Client, service string) {
	ctx := client.Ctx()
	s := g.add()
	resp := valueOf(client.Get(ctx, service+"/", clientv3.WithPrefix()))

	f := &naked{
		report: func(size int) { g.record(s, resolver.State{}, size) },
		known:  map[string]nakedEndpoint{},
	}

	for _, kv := range resp.Kvs {
		f.put(kv.Key, kv.Value)
	}

	f.report(len(f.known))
	go f.watch(ctx, client, service, resp.Header.Revision)
}

func (f *naked) watch(
	ctx context.Context,
	client *clientv3.Client,
	service string,
	revision int64,
) {
	responses := client.Watch(ctx, service+"/", clientv3.WithPrefix(),
		clientv3.WithRev(revision+1))
	for resp := range responses {
		must(resp.Err())

		for _, event := range resp.Events {
			if event.Type == clientv3.EventTypeDelete {
				delete(f.known, string(event.Kv.Key))
			} else {
				f.put(event.Kv.Key, event.Kv.Value)
			}
		}

		f.report(len(f.known))
	}
}

func (f *naked) put(key, value []byte) {
	var e nakedEndpoint
	must(json.Unmarshal(value, &e))
	f.known[string(key)] = e
}
