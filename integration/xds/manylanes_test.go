package xds

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// As many lanes as labels may make are hundreds of clusters, for each of which grpc-go asks again before it reads what it
// was told of the last.
func TestManyLanes(t *testing.T) {
	w := newWorld(t, policy(`"route":[{"label":"lane"}]`))
	w.add("a")
	var ops []clientv3.Op
	for i := range 256 {
		key := fmt.Sprintf("%s%s/pod-%d", w.namespace, w.desc.Key, i)
		ops = append(ops, clientv3.OpPut(key, fmt.Sprintf(`{"Addr":"127.1.0.%d:1","Metadata":{"lane":"lane-%d"}}`, i, i)))
		if len(ops) == 128 {
			_, err := etcd.Admin().Txn(kit.Bounded(t, soon)).Then(ops...).Commit()
			must(t, err)
			ops = nil
		}
	}
	o := calls(5)
	o.Wait, o.Timeout = true, int(time.Minute/time.Millisecond) // what hangs does so for ever, and grpc-go works for seconds
	eventually(t, w.goClient(""), o, "the base", only("a"))
}
