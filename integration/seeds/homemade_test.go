package seeds

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// namingUpdate is naming.Update of gRPC before 1.30. etcd's old clientv3/naming, and hanjm after it,
// store its JSON in etcd.
type namingUpdate struct {
	Op       uint8 // 0 adds
	Addr     string
	Metadata any
}

// hanjm is hanjm's package, which adds and deletes by explicit calls.
var hanjm = system{
	name:      "hanjm",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "my-service", Layout: runtime.EndpointJSON},
	neighbour: "my-service-2",
	register: func(w *world, key, addr string) (leave func()) {
		value, err := json.Marshal(namingUpdate{Addr: addr})
		kit.Must(w.t, err)
		w.put(key+"/"+addr, string(value))
		return func() { w.delete(key + "/" + addr) }
	},
	dial: func(w *world) *grpc.ClientConn {
		return w.dialReader("hanjm:///my-service", "my-service/", func(kv *mvccpb.KeyValue) string {
			var u namingUpdate
			_ = json.Unmarshal(kv.Value, &u) // skip values that are not JSON
			return u.Addr
		})
	},
}

// grpcEtcd is the grpcEtcd resolver with its registration. /grpcEtcd/<name>/<addr> holds the address,
// and readers take it from the key. A ticker restores a lost entry.
var grpcEtcd = system{
	name:      "grpcEtcd",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/grpcEtcd/callee", Layout: runtime.Plain},
	target:    "etcd:////grpcEtcd/callee", // formerly grpcEtcd://caller/callee
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

// xiezengcheng is xiezengcheng/grpc-etcd: all services are under the prefix /etcd, and callers dial
// "etcd:///". Instance names contain the service's name.
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

// leaseSuffix is the lease-suffix registry: <service><lease id> holds host:port. A loop renews the lease, and puts
// the address under another key if that fails. A gateway lists the keys that begin with the service's name.
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

// tutorial is a tutorial's registry that many services copied. The fleet has the version in its keys,
// and a reader accepts all keys below "/user/", whatever the version.
var tutorial = system{
	name: "a tutorial's",
	desc: &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/user/v1",
		Layout: runtime.JSONLayout(runtime.JSONFields{Addr: "addr", Version: "version", Weight: "weight"})},
	neighbour: "/user/v2",
	register: func(w *world, key, addr string) (leave func()) {
		value := fmt.Sprintf(`{"name":"user","addr":%q,"version":%q,"weight":1}`, addr, strings.TrimPrefix(key, "/user/"))
		return w.keepEntry(func(clientv3.LeaseID) string { return key + "/" + addr }, value)
	},
	returns: true,
	dial: func(w *world) *grpc.ClientConn {
		return w.dialReader("tutorial:///user", "/user/", func(kv *mvccpb.KeyValue) string {
			var s struct {
				Addr string `json:"addr"`
			}
			_ = json.Unmarshal(kv.Value, &s) // skip values that are not JSON
			return s.Addr
		})
	},
}
