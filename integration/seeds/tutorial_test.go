package seeds

import (
	"fmt"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// tutorialLayout is the layout that "etcdrpc adopt" proposes for that system's entries.
var tutorialLayout = runtime.JSONLayout(runtime.JSONFields{Addr: "addr", Version: "version", Weight: "weight"})

// weighted is the service config for load_balancing: {weighted: {}}.
const weighted = `{"loadBalancingConfig":[{"etcd_weighted":{}}]}`

func TestTutorial_TheirWriterOurClient(t *testing.T) {
	kit.Night(t)
	w := newWorld(t, runtime.WithEmptyGrace(0))
	a, b, c := w.serve("a"), w.serve("b"), w.serve("c")
	w.tutorialRegister(tutorialServer{"user", a.addr, "v1", 1}, true, 5*time.Second)
	second := w.tutorialRegister(tutorialServer{"user", b.addr, "v1", 3}, true, 5*time.Second)
	w.tutorialRegister(tutorialServer{"user", c.addr, "v2", 1}, true, 5*time.Second)
	w.tutorialRegister(tutorialServer{"order", a.addr, "v1", 1}, false, 5*time.Second)
	w.tutorialRegister(tutorialServer{"order", b.addr, "v2", 3}, false, 5*time.Second)

	// With and without json_layout, and with the version in the key or only in the value.
	for _, layout := range []runtime.Layout{runtime.EndpointJSON, tutorialLayout} {
		w.balanced(w.conn(&runtime.ServiceDesc{Name: "basic.Greeter", Key: "/user/v1", Layout: layout}), "a", "b")
		w.balanced(w.conn(&runtime.ServiceDesc{Name: "basic.Greeter", Key: "/user/v2", Layout: layout}), "c")
		w.balanced(w.conn(&runtime.ServiceDesc{Name: "basic.Greeter", Key: "/order", Layout: layout}), "a", "b")
		for _, e := range w.watch("/order", layout).becomes(a.addr, b.addr) {
			if want := map[string]string{a.addr: "v1 1", b.addr: "v2 3"}[e.Addr]; fmt.Sprint(e.Version, " ", e.Weight) != want {
				t.Errorf("read as %+v, want %s", e, want)
			}
		}
	}
	one := w.load("our client", w.conn(&runtime.ServiceDesc{Name: "basic.Greeter", Key: "/user/v1", ServiceConfig: weighted}))
	one.shares("by weight", map[string]int{"a": 1, "b": 3})
	second.unregister()
	one.shares("alone", map[string]int{"a": 1})
	one.stop()
}

func TestTutorial_OurWriterTheirReader(t *testing.T) {
	kit.Night(t)
	w := newWorld(t)
	v1 := &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/user/v1", Layout: tutorialLayout}
	a := w.publish("a", v1, runtime.WithVersion("v1"), runtime.WithWeight(1))
	if got, want := w.onlyEntry("/user/"), (entry{"/user/v1/" + a.addr, fmt.Sprintf(`{"addr":%q,"version":"v1","weight":1}`, a.addr), a.lease()}); got != want {
		t.Errorf("the entry is\n%+v, want\n%+v", got, want)
	}
	b := w.publish("b", v1, runtime.WithVersion("v1"), runtime.WithWeight(3))
	theirs := w.load("the tutorial's client", w.tutorialConn("user"))
	theirs.shares("by weight", map[string]int{"a": 1, "b": 3})
	w.publish("c", &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/user/v2", Layout: tutorialLayout}, runtime.WithVersion("v2"), runtime.WithWeight(4))
	theirs.shares("of both versions", map[string]int{"a": 1, "b": 3, "c": 4})
	b.stop()
	theirs.shares("without b", map[string]int{"a": 1, "c": 4})

	// In the default layout they find the address, and no weight, which counts as 1.
	w.publish("d", &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/user/v3"}, runtime.WithVersion("v3"), runtime.WithWeight(5))
	theirs.shares("with one in the default layout", map[string]int{"a": 1, "c": 4, "d": 1})
	theirs.stop()
}
