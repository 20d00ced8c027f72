// Package code tests generated code as what uses it does. It is a package of its own so
// that code which does not compile does not keep the other tests from writing it anew.
package code

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/methods"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/policies"
)

// The four names of a service and their types.
var (
	_ *runtime.ServiceDesc                                                     = &basic.Greeter_EtcdServiceDesc
	_ func(*runtime.Registry, ...grpc.DialOption) (basic.GreeterClient, error) = basic.NewGreeterClientFromEtcd
	_ func(*runtime.Server, basic.GreeterServer, ...runtime.RegisterOption)    = basic.RegisterGreeterServerToEtcd
	_ func(context.Context, *runtime.Registry,
		func(context.Context, runtime.Endpoint, basic.GreeterClient) error, ...grpc.DialOption) error = basic.EachGreeterClientFromEtcd
)

// TestServiceConfigs says that gRPC takes the service configs.
func TestServiceConfigs(t *testing.T) {
	for _, desc := range []*runtime.ServiceDesc{
		&methods.Methods_EtcdServiceDesc,
		&policies.Unset_EtcdServiceDesc,
		&policies.Empty_EtcdServiceDesc,
		&policies.RoundRobin_EtcdServiceDesc,
		&policies.PickFirst_EtcdServiceDesc,
		&policies.Shuffled_EtcdServiceDesc,
		&policies.Least_EtcdServiceDesc,
		&policies.LeastOfFour_EtcdServiceDesc,
		&policies.Ring_EtcdServiceDesc,
		&policies.BigRing_EtcdServiceDesc,
	} {
		conn, err := grpc.NewClient("passthrough:///none", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultServiceConfig(desc.ServiceConfig))
		if err != nil {
			t.Errorf("%s: %v", desc.Name, err)
			continue
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}
