package seeds

import (
	"fmt"
	"testing"

	"github.com/zeromicro/go-zero/core/discov"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var userRPC = &runtime.ServiceDesc{Name: "basic.Greeter", Key: "user.rpc", Layout: runtime.GoZero}

func TestGoZero_TheirWriterOurClient(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.serve("a"), w.serve("b"), w.serve("c")
	w.goZeroPublish(userRPC.Key, a.addr)
	inB := w.goZeroPublish(userRPC.Key, b.addr)
	w.goZeroPublish(userRPC.Key, c.addr, discov.WithId(7)) // an id in place of the lease's
	w.goZeroPublish("user.rpc2", w.serve("neighbour").addr)

	conn, seen := w.conn(userRPC), w.watch(userRPC.Key)
	w.balanced(conn, "a", "b", "c")
	for _, e := range seen.becomes(a.addr, b.addr, c.addr) {
		// A lease's id is none of the instance's: it changes with each registration.
		want := e.Addr
		if e.Addr == c.addr {
			want = "7"
		}
		if e.Instance != want {
			t.Errorf("the instance of %s is %q, want %q", e.Addr, e.Instance, want)
		}
	}

	// The publisher puts back what is deleted once it watches.
	must(t, w.etcd.Calls().Wait(bounded(t), etcdtest.Watch, userRPC.Key+"/7", 1))
	w.delete(userRPC.Key + "/7")
	w.entryAt(userRPC.Key + "/7")
	w.balanced(conn, "a", "b", "c")

	inB.Pause()
	w.balanced(conn, "a", "c")
	inB.Resume()
	w.balanced(conn, "a", "b", "c")
	inB.Stop()
	w.balanced(conn, "a", "c")
}

func TestGoZero_OurWriterTheirReader(t *testing.T) {
	kit.Night(t)
	w := newWorld(t)
	conn := w.dial("discov:///"+userRPC.Key, w.goZeroResolver())
	registry := w.newRegistry()
	a, b := w.publishGreeter(registry, &greeter{name: "a"}, userRPC), w.publish("b", userRPC)
	// A second one in the process has a lease of its own, for the lease is the key.
	c := w.publishGreeter(registry, &greeter{name: "c"}, userRPC)
	for _, s := range []*server{a, b, c} {
		got := w.entryAt(fmt.Sprintf("%s/%d", userRPC.Key, s.lease()))
		if got.value != s.addr || got.lease != s.lease() {
			t.Errorf("the entry is %+v", got)
		}
	}
	w.balanced(conn, "a", "b", "c")

	lost := b.lease()
	w.revoke(lost)
	w.eventually("b is on another lease", func() bool { return b.lease() != lost && b.lease() != 0 })
	w.balanced(conn, "a", "b", "c")
	c.stop()
	w.balanced(conn, "a", "b")
}
