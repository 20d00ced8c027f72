package seeds

import (
	"encoding/json"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// namingUpdate is naming.Update of gRPC before 1.30, whose JSON is what etcd's old clientv3/naming, and hanjm's after it, keeps
// in etcd.
type namingUpdate struct {
	Op       uint8 // 0 adds
	Addr     string
	Metadata any
}

// hanjm is hanjm's package, which adds and deletes by hand.
var hanjm = system{
	name:      "hanjm",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "my-service", Layout: runtime.EndpointJSON},
	neighbour: "my-service-2",
	register: func(w *world, key, addr string) (leave func()) {
		value, err := json.Marshal(namingUpdate{Addr: addr})
		must(w.t, err)
		w.put(key+"/"+addr, string(value))
		return func() { w.delete(key + "/" + addr) }
	},
	dial: func(w *world) *grpc.ClientConn {
		return w.dialReader("hanjm:///my-service", "my-service/", func(kv *mvccpb.KeyValue) string {
			var u namingUpdate
			_ = json.Unmarshal(kv.Value, &u) // what is no JSON is passed over
			return u.Addr
		})
	},
}

func TestHanjm_TheirWriterOurClient(t *testing.T) {
	hanjm.theirWriterOurClient(t)
}

func TestHanjm_OurWriterTheirReader(t *testing.T) {
	hanjm.ourWriterTheirReader(t)
}
