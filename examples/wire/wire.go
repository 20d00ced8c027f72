//go:build wireinject

package main

import (
	"github.com/google/wire"
	clientv3 "go.etcd.io/etcd/client/v3"

	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
)

// newApplication is written by wire. The generated constructor is a provider as it is.
func newApplication(cfg clientv3.Config) (*application, func(), error) {
	panic(wire.Build(
		newEtcdClient,
		newRegistry,
		dialOptions,
		greeterv1.NewGreeterServiceClientFromEtcd,
		newServer,
		wire.Struct(new(application), "*"),
	))
}
