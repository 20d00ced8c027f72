package seeds

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// xiezengcheng is xiezengcheng/grpc-etcd: all services are under the prefix /etcd, and "etcd:///" is all that its callers say.
// The instances of a service have its name in theirs.
var xiezengcheng = system{
	name: "xiezengcheng",
	desc: &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/etcd", Layout: runtime.Plain},
	opts: []grpc.DialOption{runtime.WithSelector(func(e runtime.Endpoint) bool {
		return !strings.HasPrefix(e.Instance, "user-service-")
	})},
	neighbour: "/etcd/user-service-",
	register: func(w *world, key, addr string) (leave func()) {
		if key == "/etcd" {
			key = "/etcd/order-service-"
		}
		return w.keepEntry(func(clientv3.LeaseID) string { return key + addr }, addr)
	},
	dial: func(w *world) *grpc.ClientConn { return w.dialReader("etcd:///", "/etcd", valueOf) },
}

func TestXiezengcheng_TheirWriterOurClient(t *testing.T) {
	xiezengcheng.theirWriterOurClient(t)
}

func TestXiezengcheng_OurWriterTheirReader(t *testing.T) {
	xiezengcheng.ourWriterTheirReader(t)
}
