// Package gozero has a zrpc server of go-zero that this project announces, and
// a zrpc client with this project's resolver. The tests move services from
// go-zero to this project under load, with this server and client, and with
// this project's own.
package gozero

import (
	"context"
	"time"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/core/proc"
	"github.com/zeromicro/go-zero/zrpc"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// NewServer returns a zrpc server that the registry announces while it runs.
// config has no etcd.
func NewServer(
	config zrpc.RpcServerConf,
	registry *runtime.Registry,
	impl basic.GreeterServer,
	opts ...runtime.RegisterOption,
) (*zrpc.RpcServer, error) {
	return zrpc.NewServer(config, func(g *grpc.Server) {
		server := registry.NewServer(g)
		basic.RegisterGreeterServerToEtcd(server, impl, opts...)

		// zrpc listens already, and serves as soon as this returns.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()

		if err := server.Announce(ctx, config.ListenOn); err != nil {
			panic(err) // zrpc's Start also panics when its own registration fails
		}

		// SIGTERM withdraws the server first. zrpc stops taking calls a second
		// later: Shutdown.WrapUpTime in its config.
		proc.AddWrapUpListener(func() {
			if err := server.Withdraw(context.Background()); err != nil {
				logx.Errorf("withdraw: %v", err)
			}
		})
	})
}

// NewClient returns a zrpc client with our resolver. It keeps zrpc's timeout,
// breaker, balancer, tracing and metrics.
func NewClient(registry *runtime.Registry, key string) (zrpc.Client, error) {
	var config zrpc.RpcClientConf
	if err := conf.FillDefault(&config); err != nil {
		return nil, err
	}

	config.Target = "etcd:///" + key

	return zrpc.NewClient(config,
		zrpc.WithDialOption(grpc.WithResolvers(registry.Resolver())))
}
