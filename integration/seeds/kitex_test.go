package seeds

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var kitexUser = &runtime.ServiceDesc{Name: "basic.Greeter", Key: "kitex/registry-etcd/user", Layout: runtime.Kitex}

func TestKitex_TheirWriterOurClient(t *testing.T) {
	w := newWorld(t)
	peer := w.kitex()
	a, b, c := w.serve("a"), w.serve("b"), w.serve("c")
	peer.register("user", kitexInstance{Network: "tcp", Address: a.addr, Weight: 10, Tags: map[string]string{"k": "v"}}, 5*time.Second)
	inB := peer.register("user", kitexInstance{Network: "tcp", Address: b.addr, Weight: 10}, 5*time.Second)
	peer.register("user", kitexInstance{Network: "tcp", Address: c.addr}, 5*time.Second)
	peer.register("user-admin", kitexInstance{Network: "tcp", Address: w.serve("neighbour").addr}, 5*time.Second)

	conn, seen := w.conn(kitexUser), w.watch(kitexUser.Key)
	w.balanced(conn, "a", "b", "c")
	for _, e := range seen.becomes(a.addr, b.addr, c.addr) {
		var want runtime.Endpoint
		switch e.Addr {
		case a.addr:
			want = runtime.Endpoint{Weight: 10, Metadata: map[string]string{"k": "v"}}
		case b.addr:
			want = runtime.Endpoint{Weight: 10}
		}
		if e.Instance != e.Addr || e.Weight != want.Weight || !maps.Equal(e.Metadata, want.Metadata) {
			t.Errorf("read as %+v", e)
		}
	}

	inB.deregister()
	w.balanced(conn, "a", "c")
}

func TestKitex_OurWriterTheirReader(t *testing.T) {
	w := newWorld(t)
	peer := w.kitex()
	conn := w.dial("kitex:///user", peer.resolver())
	a := w.publish("a", kitexUser, runtime.WithInstance("host-1"), runtime.WithVersion("v2"),
		runtime.WithZoneTag("eu-1a"), runtime.WithWeight(7), runtime.WithMetadata("k", "v"))
	b := w.publish("b", kitexUser)
	theirs := w.serve("theirs")
	peer.register("user", kitexInstance{Network: "tcp", Address: theirs.addr, Weight: 3}, 5*time.Second)
	w.balanced(conn, "a", "b", "theirs")
	if got := w.entryAt(kitexUser.Key + "/" + a.addr); got.lease == 0 {
		t.Errorf("the entry is %+v", got)
	}

	list, err := peer.resolve(bounded(t), "user")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []kitexInstance{
		{"tcp", a.addr, 7, map[string]string{"grpc_methods": "basic.Greeter/SayHello", "k": "v", "version": "v2", "zone": "eu-1a"}},
		{"tcp", b.addr, 10, map[string]string{"grpc_methods": "basic.Greeter/SayHello"}},
		{"tcp", theirs.addr, 3, nil},
	} {
		if !slices.ContainsFunc(list, func(got kitexInstance) bool {
			return got.Network == want.Network && got.Address == want.Address && got.Weight == want.Weight && maps.Equal(got.Tags, want.Tags)
		}) {
			t.Errorf("their list has no %+v: %+v", want, list)
		}
	}

	b.stop()
	w.balanced(conn, "a", "theirs")
}
