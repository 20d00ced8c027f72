package seeds

import (
	"testing"

	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
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
		kit.Must(w.t, err)
		kit.Must(w.t, manager.AddEndpoint(bounded(w.t), key+"/"+addr, endpoints.Endpoint{Addr: addr, Metadata: "..."}))
		return func() { kit.Must(w.t, manager.DeleteEndpoint(bounded(w.t), key+"/"+addr)) }
	},
	dial: func(w *world) *grpc.ClientConn { return w.etcdNamingConn("my-service") },
}

// etcdNamingConn returns a connection with etcd's own resolver.
func (w *world) etcdNamingConn(key string) *grpc.ClientConn {
	w.t.Helper()
	builder, err := resolver.NewBuilder(w.theirs)
	kit.Must(w.t, err)
	return w.dial("etcd:///"+key, builder)
}

// A server that replaces another one at its address takes its entry over, also an entry without a lease.
func TestEtcdNaming_InPlace(t *testing.T) {
	w := newWorld(t)
	old := w.serve("old")
	etcdNaming.register(w, etcdNaming.desc.Key, old.addr)
	server := w.newRegistry().NewServer(grpc.NewServer())
	server.Publish(etcdNaming.desc)
	kit.Must(t, server.Announce(bounded(t), old.addr))
	if status, entry := server.Status()[0], w.entryOf(old); status.State != runtime.StateRegistered || entry.lease != status.LeaseID {
		t.Errorf("it is %+v, and in etcd %+v", status, entry)
	}
	kit.Must(t, server.Withdraw(bounded(t)))
	if left := w.entries(etcdNaming.desc.Key); len(left) > 0 {
		t.Errorf("left are %+v", left)
	}
}
