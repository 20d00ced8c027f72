// Command gozero runs the measured processes of go-zero. "make bench" builds
// it, and the benchmarks start it. It is a separate program because zrpc's
// statistics take about 2 ms of CPU a second in every program that links zrpc.
package main

import (
	"log"
	"net/url"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/zrpc" // registers p2c_ewma, too
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench"
)

func main() {
	logx.Disable() // otherwise go-zero logs the process's usage each minute

	if !bench.Child(goZero{}) {
		log.Fatal("this program measures nothing by itself: the benchmarks start it, see make bench")
	}
}

// goZero is go-zero with its users' defaults.
type goZero struct{}

func (goZero) Builder(etcd []string) (resolver.Builder, error) {
	// The client is created by the first request for a key.
	_, err := discov.NewSubscriber(etcd, "bench/warm")
	return discovBuilder{etcd}, err
}

// Dial uses zrpc's defaults: p2c_ewma, and interceptors for tracing, durations,
// metrics, its breaker and a timeout. Only the resolver differs: it uses all
// endpoints, because zrpc's 32 random endpoints may contain none that serves.
func (goZero) Dial(
	etcd []string,
	key string,
	opts ...grpc.DialOption,
) (*grpc.ClientConn, error) {
	var config zrpc.RpcClientConf
	if err := conf.FillDefault(&config); err != nil {
		return nil, err
	}

	builder := discovBuilder{etcd}
	config.Target = (&url.URL{Scheme: builder.Scheme(), Path: "/" + key}).String()

	clientOpts := []zrpc.ClientOption{zrpc.WithDialOption(grpc.WithResolvers(builder))}
	for _, opt := range opts {
		clientOpts = append(clientOpts, zrpc.WithDialOption(opt))
	}

	client, err := zrpc.NewClient(config, clientOpts...)
	if err != nil {
		return nil, err
	}

	return client.Conn(), nil
}

// discovBuilder is zrpc's resolver builder, except that it uses all endpoints,
// as the other peers do, instead of 32 random ones.
type discovBuilder struct{ etcd []string }

func (b discovBuilder) Scheme() string {
	return "discov"
}

func (b discovBuilder) Build(
	target resolver.Target,
	cc resolver.ClientConn,
	_ resolver.BuildOptions,
) (resolver.Resolver, error) {
	sub, err := discov.NewSubscriber(b.etcd, target.Endpoint())
	if err != nil {
		return nil, err
	}

	update := func() {
		values := sub.Values()
		addrs := make([]resolver.Address, 0, len(values))
		for _, value := range values {
			addrs = append(addrs, resolver.Address{Addr: value})
		}

		_ = cc.UpdateState(resolver.State{Addresses: addrs})
	}

	sub.AddListener(update)
	update()

	return discovResolver{sub}, nil
}

type discovResolver struct{ sub *discov.Subscriber }

func (discovResolver) ResolveNow(resolver.ResolveNowOptions) {}
func (r discovResolver) Close() {
	r.sub.Close()
}
