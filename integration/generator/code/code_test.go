// Package code tests generated code as what uses it does. It is a package of its own so
// that code which does not compile does not keep the other tests from writing it anew.
package code

import (
	"errors"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/affinity"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/lanes"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/methods"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/policies"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/servicewide"
)

// The three names of a service and their types.
var (
	_ *runtime.ServiceDesc                                                     = &basic.Greeter_EtcdServiceDesc
	_ func(*runtime.Registry, ...grpc.DialOption) (basic.GreeterClient, error) = basic.NewGreeterClientFromEtcd
	_ func(*runtime.Server, basic.GreeterServer, ...runtime.RegisterOption)    = basic.RegisterGreeterServerToEtcd
)

// TestServiceConfigs says that gRPC takes the service configs.
func TestServiceConfigs(t *testing.T) {
	for _, desc := range []*runtime.ServiceDesc{
		&methods.Methods_EtcdServiceDesc,
		&servicewide.Defaults_EtcdServiceDesc,
		&servicewide.AffinityBeside_EtcdServiceDesc,
		&servicewide.Throttled_EtcdServiceDesc,
		&servicewide.Checked_EtcdServiceDesc,
		&servicewide.CheckedZone_EtcdServiceDesc,
		&policies.Unset_EtcdServiceDesc,
		&policies.Empty_EtcdServiceDesc,
		&policies.RoundRobin_EtcdServiceDesc,
		&policies.PickFirst_EtcdServiceDesc,
		&policies.Shuffled_EtcdServiceDesc,
		&policies.Least_EtcdServiceDesc,
		&policies.LeastOfFour_EtcdServiceDesc,
		&policies.Ring_EtcdServiceDesc,
		&policies.BigRing_EtcdServiceDesc,
		&policies.Weighted_EtcdServiceDesc,
		&policies.Zone_EtcdServiceDesc,
		&policies.ZoneAndAffinity_EtcdServiceDesc,
		&lanes.Labelled_EtcdServiceDesc,
		&lanes.Named_EtcdServiceDesc,
		&affinity.Kinds_EtcdServiceDesc,
		&affinity.Places_EtcdServiceDesc,
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

// TestWithoutOutlierDetection says that a service config with a policy that is not
// linked, which no generated code has, is an error that names the policy.
func TestWithoutOutlierDetection(t *testing.T) {
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	registry := runtime.NewRegistry(etcd)
	defer func() {
		if err := errors.Join(registry.Close(t.Context()), etcd.Close()); err != nil {
			t.Error(err)
		}
	}()
	_, err = registry.NewClient(&runtime.ServiceDesc{
		Name: "demo.Demo", Key: "demo",
		ServiceConfig: `{"loadBalancingConfig":[{"outlier_detection_experimental":{"failurePercentageEjection":{},"childPolicy":[{"round_robin":{}}]}}]}`,
	}, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil || !strings.Contains(err.Error(), `"demo.Demo"`) || !strings.Contains(err.Error(), "outlier_detection_experimental") {
		t.Errorf("%v; want an error that names the service and the policy", err)
	}
	t.Log(err)
}
