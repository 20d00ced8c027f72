package seeds

import (
	"strconv"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// leaseSuffix is the lease-suffix registry: <service><lease id> holds host:port. A loop renews the lease, and puts the address
// under another key when that fails. A gateway lists what begins with the name of a service.
var leaseSuffix = system{
	name:      "lease suffix",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "hello", Layout: runtime.LeaseSuffix},
	target:    "etcd:///hello?layout=lease_suffix",
	neighbour: "hello2",
	register: func(w *world, key, addr string) (leave func()) {
		return w.keepEntry(func(lease clientv3.LeaseID) string { return key + strconv.FormatInt(int64(lease), 10) }, addr)
	},
	returns: true,
	dial:    func(w *world) *grpc.ClientConn { return w.dialReader("suffix:///hello", "hello", valueOf) },
}

func TestLeaseSuffix_TheirWriterOurClient(t *testing.T) {
	leaseSuffix.theirWriterOurClient(t)
}

func TestLeaseSuffix_OurWriterTheirReader(t *testing.T) {
	leaseSuffix.ourWriterTheirReader(t)
}
