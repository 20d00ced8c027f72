package seeds

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

func TestHanjm_TheirWriterOurClient(t *testing.T) {
	kit.Night(t)
	w := newWorld(t, runtime.WithEmptyGrace(0))
	peer := hanjmResolver{w.theirs}
	a, b, c := w.serve("a"), w.serve("b"), w.serve("c")
	update := func(op uint8, s *server, opts ...clientv3.OpOption) {
		t.Helper()
		must(t, peer.update(bounded(t), greeterKey, namingUpdate{Op: op, Addr: s.addr}, opts...))
	}
	conn := w.generated()
	update(namingAdd, a)
	update(namingAdd, b)
	lease, err := w.theirs.Grant(bounded(t), 60)
	must(t, err)
	update(namingAdd, c, clientv3.WithLease(lease.ID))
	w.balanced(conn, "a", "b", "c")
	w.revoke(lease.ID)
	w.balanced(conn, "a", "b")

	// Deleted by force: theirs by theirs, and theirs by ours.
	update(namingDelete, b)
	w.balanced(conn, "a")
	update(namingAdd, b)
	w.balanced(conn, "a", "b")
	must(t, w.registry.Remove(bounded(t), greeterKey, b.addr))
	w.balanced(conn, "a")
	if err := w.registry.Remove(bounded(t), greeterKey, b.addr); err == nil {
		t.Error("the removal of what is not there is no error")
	}
}

func TestHanjm_OurWriterTheirReader(t *testing.T) {
	kit.Night(t)
	w := newWorld(t)
	peer := hanjmResolver{w.theirs}
	conn := w.dial("hanjm:///"+greeterKey, peer.resolver())
	desc := &runtime.ServiceDesc{Name: "basic.Greeter", Key: greeterKey}
	a, b := w.publish("a", desc, runtime.WithMetadata("team", "blue")), w.serve("b")
	w.balanced(conn, "a")
	if got := w.onlyEntry(greeterKey + "/"); got.key != greeterKey+"/"+a.addr || got.lease == 0 {
		t.Errorf("the entry is %+v", got)
	}

	must(t, w.registry.Add(bounded(t), greeterKey, runtime.Endpoint{Addr: b.addr}))
	w.balanced(conn, "a", "b")
	// Theirs deletes by force what ours has added.
	must(t, peer.update(bounded(t), greeterKey, namingUpdate{Op: namingDelete, Addr: b.addr}))
	w.balanced(conn, "a")
	w.publish("c", desc)
	w.balanced(conn, "a", "c")
	a.stop()
	w.balanced(conn, "c")
}
