package seeds

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var kratosUser = &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/microservices/user", Layout: runtime.Kratos}

// kratosServer is what a kratos application registers of a server that speaks gRPC and HTTP.
func kratosServer(name string, s *server) kratosInstance {
	return kratosInstance{
		ID: s.name, Name: name, Version: "v1", Metadata: map[string]string{"k": "v", "weight": "7"},
		Endpoints: []string{"http://127.0.0.1:8000", "grpc://" + s.addr + "?isSecure=false"},
	}
}

func TestKratos_TheirWriterOurClient(t *testing.T) {
	w := newWorld(t)
	peer := w.kratos()
	a, b := w.serve("a"), w.serve("b")
	peer.register(kratosServer("user", a), 5*time.Second)
	inB := peer.register(kratosServer("user", b), 5*time.Second)
	peer.register(kratosServer("user-admin", w.serve("neighbour")), 5*time.Second)

	conn, seen := w.conn(kratosUser), w.watch(kratosUser.Key)
	w.balanced(conn, "a", "b")
	for i, e := range seen.becomes(a.addr, b.addr) {
		want := runtime.Endpoint{Instance: []string{"a", "b"}[i], Addr: e.Addr, Version: "v1", Weight: 7, Metadata: map[string]string{"k": "v"}}
		if fmt.Sprint(e) != fmt.Sprint(want) {
			t.Errorf("read as %+v, want %+v", e, want)
		}
	}

	// It registers again on a new lease when the old one is gone.
	lost := w.entryAt(inB.key).lease
	w.revoke(lost)
	w.entryAt(inB.key)
	w.balanced(conn, "a", "b")
	inB.deregister()
	w.balanced(conn, "a")
}

func TestKratos_OurWriterTheirReader(t *testing.T) {
	w := newWorld(t)
	peer := w.kratos()
	conn := w.dial("discovery:///user", peer.resolver())
	a := w.publish("a", kratosUser, runtime.WithInstance("host-1"), runtime.WithVersion("v2"),
		runtime.WithZoneTag("eu-1a"), runtime.WithWeight(7), runtime.WithMetadata("k", "v"))
	b := w.publish("b", kratosUser)
	theirs := w.serve("theirs")
	peer.register(kratosServer("user", theirs), 5*time.Second)
	w.balanced(conn, "a", "b", "theirs")

	list, err := peer.service(bounded(t), "user")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(instance kratosInstance) bool { return instance.ID == "host-1" })
	if i < 0 {
		t.Fatalf("their list has no host-1: %+v", list)
	}
	want := map[string]string{"k": "v", "zone": "eu-1a", "weight": "7", "grpc_methods": "basic.Greeter/SayHello"}
	if got := list[i]; got.Name != "user" || got.Version != "v2" || !maps.Equal(got.Metadata, want) {
		t.Errorf("their list has %+v", got)
	}
	if got := w.entryAt("/microservices/user/host-1"); got.lease == 0 {
		t.Errorf("the entry is %+v", got)
	}
	// Whether ours speaks TLS only its callers know.
	ours := slices.Sorted(slices.Values([]string{a.addr, b.addr}))
	if got := kratosAddrs(list, "grpcs"); !slices.Equal(got, ours) {
		t.Errorf("one that dials with TLS finds %v, want %v", got, ours)
	}

	b.stop()
	w.balanced(conn, "a", "theirs")
}

// Their reader of "user" lists what begins so, and gives up on one value that does not parse as an
// instance: of our JSON that is ENDPOINT_JSON with a weight, which is a number there.
func TestKratos_OurNeighboursParse(t *testing.T) {
	w := newWorld(t)
	peer := w.kratos()
	conn := w.dial("discovery:///user", peer.resolver())
	w.publish("a", kratosUser)
	for i, layout := range []runtime.Layout{runtime.Kratos, runtime.Kitex, runtime.EndpointJSON} {
		desc := &runtime.ServiceDesc{Name: "basic.Greeter", Key: fmt.Sprintf("/microservices/user-%d", i), Layout: layout}
		w.publish(layout.String(), desc, runtime.WithVersion("v2"), runtime.WithMetadata("k", "v"))
	}
	w.balanced(conn, "a")
	list, err := peer.service(bounded(t), "user")
	if err != nil || len(list) != 1 {
		t.Errorf("their list is %+v, %v", list, err)
	}
	if err := w.registry.Add(bounded(t), "/microservices/user-3", runtime.Endpoint{Addr: "10.0.0.7:9000", Weight: 7}); err != nil {
		t.Fatal(err)
	}
	if list, err := peer.service(bounded(t), "user"); err == nil {
		t.Errorf("kratos lists %+v beside a weight: it bears more than docs/layouts.md says", list)
	}
}
