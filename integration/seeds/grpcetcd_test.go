package seeds

import (
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var callee = &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/grpcEtcd/callee", Layout: runtime.Plain}

func TestGrpcEtcd_TheirWriterOurClient(t *testing.T) {
	kit.Night(t)
	w := newWorld(t)
	peer := newGrpcEtcd(t, w.etcd.Endpoints()[0])
	a, b, c := w.serve("a"), w.serve("b"), w.serve("c")
	peer.register("callee", a.addr, time.Second)
	peer.register("callee", b.addr, time.Second)
	inC := peer.register("callee", c.addr, time.Second)
	peer.register("callee2", w.serve("neighbour").addr, time.Second)

	conn := w.conn(callee)
	w.balanced(conn, "a", "b", "c")
	// What was grpcEtcd://caller/callee in a caller's code, for one without a ServiceDesc.
	byTarget := w.dial("etcd:////grpcEtcd/callee", w.registry.Resolver())
	w.balanced(byTarget, "a", "b", "c")

	// An entry that is lost is back when the ticker looks.
	w.delete(inC.key)
	w.entryAt(inC.key) // the ticker has registered again
	w.balanced(conn, "a", "b", "c")

	inC.unregister()
	w.balanced(conn, "a", "b")
	w.balanced(byTarget, "a", "b")
}

func TestGrpcEtcd_OurWriterTheirReader(t *testing.T) {
	kit.Night(t)
	w := newWorld(t)
	peer := newGrpcEtcd(t, w.etcd.Endpoints()[0])
	conn := w.dial("grpcEtcd://caller/callee", peer.resolver())
	a, b := w.publish("a", callee), w.publish("b", callee)
	w.balanced(conn, "a", "b")
	for _, s := range []*server{a, b} {
		if got := w.entryAt(grpcEtcdKey("callee", s.addr)); got.value != s.addr || got.lease == 0 {
			t.Errorf("the entry is %+v", got)
		}
	}

	// Ours, too, is back when it is deleted, and when its lease is gone.
	w.delete(grpcEtcdKey("callee", a.addr))
	w.entryAt(grpcEtcdKey("callee", a.addr))
	w.revoke(b.lease())
	w.entryAt(grpcEtcdKey("callee", b.addr))
	w.balanced(conn, "a", "b")

	b.stop()
	w.balanced(conn, "a")
}

// The addresses of a cluster in one string with ";" between: theirs splits it, and so does the
// caller of ours, who makes the etcd client.
func TestGrpcEtcd_SeveralEtcdEndpoints(t *testing.T) {
	kit.Night(t)
	t.Parallel()
	cluster := etcdtest.Start(t, etcdtest.WithMembers(3))
	endpoints := strings.Join(cluster.Endpoints(), ";")

	config := cluster.Config()
	config.Endpoints = strings.Split(endpoints, ";")
	client, err := clientv3.New(config)
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	w := &world{t: t, etcd: cluster}
	w.registry = registryOn(t, client)

	peer := newGrpcEtcd(t, endpoints)
	peer.register("callee", w.serve("theirs").addr, time.Second)
	ours, theirs := w.conn(callee), w.dial("grpcEtcd://caller/callee", peer.resolver())
	w.publishGreeter(w.registry, &greeter{name: "ours"}, callee)
	w.balanced(ours, "theirs", "ours")
	w.balanced(theirs, "theirs", "ours")

	leader, err := cluster.Leader(bounded(t))
	must(t, err)
	leader.Stop()
	if _, err := cluster.Leader(bounded(t)); err != nil {
		t.Fatal(err)
	}
	late := newGrpcEtcd(t, endpoints)
	late.register("callee", w.serve("late").addr, time.Second)
	w.balanced(ours, "theirs", "ours", "late")
}
