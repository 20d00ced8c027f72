// Package code tests generated code as what uses it does: which names it has, the affinity of calls, what options say of
// all methods of a service, and outlier detection. It is a package of its own so that code which does not compile does not
// keep the other tests from writing it anew.
package code

import (
	"context"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// The three names of a service and their types.
var (
	_ *runtime.ServiceDesc                                                     = &basic.Greeter_EtcdServiceDesc
	_ func(*runtime.Registry, ...grpc.DialOption) (basic.GreeterClient, error) = basic.NewGreeterClientFromEtcd
	_ func(*runtime.Server, basic.GreeterServer, ...runtime.RegisterOption)    = basic.RegisterGreeterServerToEtcd
)

// soon bounds what is to happen at once: generous, for machines that are busy.
const soon = time.Minute

// etcd is shared by all tests, each of which has a namespace of its own.
var etcd *etcdtest.Cluster

func TestMain(m *testing.M) { os.Exit(kit.OnEtcd(m, &etcd)) }

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// newRegistry returns a registry in the test's namespace.
func newRegistry(t *testing.T, opts ...runtime.Option) *runtime.Registry {
	t.Helper()
	registry := runtime.NewRegistry(etcd.Client(t), append([]runtime.Option{runtime.WithNamespace(t.Name() + "/")}, opts...)...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		if err := registry.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return registry
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
