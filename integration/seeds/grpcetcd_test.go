package seeds

import (
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// grpcEtcd is the grpcEtcd resolver with its registration: /grpcEtcd/<name>/<addr> holds the address, and a reader takes the
// address from the key. A ticker puts an entry back that is gone.
var grpcEtcd = system{
	name:      "grpcEtcd",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/grpcEtcd/callee", Layout: runtime.Plain},
	target:    "etcd:////grpcEtcd/callee", // what was grpcEtcd://caller/callee
	neighbour: "/grpcEtcd/callee2",
	register: func(w *world, key, addr string) (leave func()) {
		return w.keepEntry(func(clientv3.LeaseID) string { return key + "/" + addr }, addr)
	},
	returns: true,
	dial: func(w *world) *grpc.ClientConn {
		return w.dialReader("grpcEtcd://caller/callee", "/grpcEtcd/callee/", func(kv *mvccpb.KeyValue) string {
			return strings.TrimPrefix(string(kv.Key), "/grpcEtcd/callee/")
		})
	},
}

func TestGrpcEtcd_TheirWriterOurClient(t *testing.T) {
	grpcEtcd.theirWriterOurClient(t)
}

func TestGrpcEtcd_OurWriterTheirReader(t *testing.T) {
	grpcEtcd.ourWriterTheirReader(t)
}
