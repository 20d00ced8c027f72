package seeds

import (
	"testing"

	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// etcdNaming is etcd's own client/v3/naming.
var etcdNaming = system{
	name:      "etcd naming",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "my-service", Layout: runtime.EndpointJSON},
	target:    "etcd:///my-service",
	neighbour: "my-service-2",
	register: func(w *world, key, addr string) (leave func()) {
		manager, err := endpoints.NewManager(w.theirs, key)
		must(w.t, err)
		must(w.t, manager.AddEndpoint(bounded(w.t), key+"/"+addr, endpoints.Endpoint{Addr: addr, Metadata: "..."}))
		return func() { must(w.t, manager.DeleteEndpoint(bounded(w.t), key+"/"+addr)) }
	},
	dial: func(w *world) *grpc.ClientConn {
		builder, err := resolver.NewBuilder(w.theirs)
		must(w.t, err)
		return w.dial("etcd:///my-service", builder)
	},
}

func TestEtcdNaming_TheirWriterOurClient(t *testing.T) { etcdNaming.theirWriterOurClient(t) }

func TestEtcdNaming_OurWriterTheirReader(t *testing.T) { etcdNaming.ourWriterTheirReader(t) }
