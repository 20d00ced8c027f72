package seeds

import (
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// suffixed describes a service of the lease-suffix registry.
func suffixed(service string) *runtime.ServiceDesc {
	return &runtime.ServiceDesc{Name: "basic.Greeter", Key: service, Layout: runtime.LeaseSuffix}
}

func TestLeaseSuffix_TheirWriterOurClient(t *testing.T) {
	kit.Night(t)
	w := newWorld(t, runtime.WithEmptyGrace(0))
	a, b, c := w.serve("a"), w.serve("b"), w.serve("c")
	w.suffixRegister("hello", a.addr, 5*time.Second)
	inB := w.suffixRegister("hello", b.addr, 5*time.Second)
	inC := w.suffixRegister("hello", c.addr, 2*time.Second)

	conn := w.conn(suffixed("hello"))
	byTarget := w.dial("etcd:///hello?layout=lease_suffix", w.registry.Resolver())
	seen := w.watch("hello", runtime.LeaseSuffix) // for what is not gRPC
	w.balanced(conn, "a", "b", "c")
	w.balanced(byTarget, "a", "b", "c")
	seen.becomes(a.addr, b.addr, c.addr)

	// Its loop finds that the lease is gone, and puts the address under another key.
	before := inB.leaseID()
	w.revoke(before)
	w.eventually("b is registered again", func() bool { return inB.leaseID() != before })
	w.balanced(conn, "a", "b", "c")
	seen.becomes(a.addr, b.addr, c.addr)

	inC.crash() // and so stays until its lease is over
	w.balanced(conn, "a", "b")
	w.balanced(byTarget, "a", "b")
	seen.becomes(a.addr, b.addr)
	inB.unregister()
	w.balanced(conn, "a")
	seen.becomes(a.addr)
}

func TestLeaseSuffix_OurWriterTheirReader(t *testing.T) {
	kit.Night(t)
	w := newWorld(t)
	gateway := w.suffixGateway("hello")
	seen := w.watch("hello", runtime.LeaseSuffix) // what ours have for the gateway
	lists := func(servers ...*server) {
		t.Helper()
		var want []string
		for _, s := range servers {
			want = append(want, s.addr)
		}
		slices.Sort(want)
		w.eventuallyOr(func() string { return fmt.Sprintf("the gateway has %v: %v", want, gateway.list()) }, func() bool {
			return slices.Equal(gateway.list(), want)
		})
		seen.becomes(want...)
	}

	registry := w.newRegistry()
	a := w.publishGreeter(registry, &greeter{name: "a"}, suffixed("hello"))
	lists(a)
	b := w.publish("b", suffixed("hello"))
	// Two in one process: each has a lease of its own, for the lease is the key.
	c := w.publishGreeter(registry, &greeter{name: "c"}, suffixed("hello"))
	lists(a, b, c)
	for _, s := range []*server{a, b, c} {
		if got := w.entryAt(suffixKey("hello", s.lease())); got.value != s.addr || got.lease != s.lease() {
			t.Errorf("the entry is %+v", got)
		}
	}

	lost := b.lease()
	w.revoke(lost)
	w.eventually("b is registered again, on another lease", func() bool {
		status := b.ours.Status()[0]
		return status.State == runtime.StateRegistered && status.LeaseID != lost
	})
	w.entryAt(suffixKey("hello", b.lease()))
	lists(a, b, c)

	conn := w.dial("suffix:///hello", w.suffixResolver())
	w.balanced(conn, "a", "b", "c")
	b.stop()
	lists(a, c)
	w.balanced(conn, "a", "c")

	// What is no gRPC server of ours, such as one of HTTP, is registered by its address.
	web := &server{addr: "10.0.0.7:8080"}
	registration, err := w.registry.Register(bounded(t), "hello", runtime.Endpoint{Addr: web.addr}, runtime.WithLayouts(runtime.LeaseSuffix))
	must(t, err)
	lists(a, c, web)
	must(t, registration.Close(bounded(t)))
	lists(a, c)
}

// Every service calls others: ours finds theirs, which finds ours, which finds theirs.
func TestLeaseSuffix_EveryServiceCallsOthers(t *testing.T) {
	kit.Night(t)
	w := newWorld(t)
	ourClient := func(service string) basic.GreeterClient { return basic.NewGreeterClient(w.conn(suffixed(service))) }
	theirClient := func(service string) basic.GreeterClient {
		return basic.NewGreeterClient(w.dial("suffix:///"+service, w.suffixResolver()))
	}
	w.publishGreeter(w.registry, &greeter{name: "orders", next: ourClient("users")}, suffixed("orders"))
	users := w.serveGreeter(&greeter{name: "users", next: theirClient("stock")})
	w.suffixRegister("users", users.addr, 5*time.Second)
	w.publishGreeter(w.registry, &greeter{name: "stock", next: ourClient("mail")}, suffixed("stock"))
	w.suffixRegister("mail", w.serve("mail").addr, 5*time.Second)

	const path = "orders>users>stock>mail"
	w.balanced(w.dial("suffix:///orders", w.suffixResolver()), path)
	w.balanced(w.conn(suffixed("orders")), path)
}

// A lister of the prefix "hello" finds "hello2<lease id>" in it, too. Ours tells them apart: what
// follows the key of an entry is the very lease that it hangs on.
func TestLeaseSuffix_Neighbours(t *testing.T) {
	kit.Night(t)
	w := newWorld(t)
	theirs, theirs2 := w.serve("theirs"), w.serve("theirs2")
	w.suffixRegister("hello", theirs.addr, 5*time.Second)
	w.suffixRegister("hello2", theirs2.addr, 5*time.Second)
	ours := w.publish("ours", suffixed("hello"))
	ours2 := w.publish("ours2", suffixed("hello2"))
	admin := w.serve("admin")
	w.put("hello-admin/1", admin.addr)
	w.put("hello123", admin.addr) // on no lease
	lease, err := w.theirs.Grant(bounded(t), 60)
	must(t, err)
	w.put("hello123456", admin.addr, clientv3.WithLease(lease.ID)) // on another one

	w.balanced(w.conn(suffixed("hello")), "theirs", "ours")
	w.balanced(w.conn(suffixed("hello2")), "theirs2", "ours2")
	w.watch("hello", runtime.LeaseSuffix).becomes(theirs.addr, ours.addr)
	w.watch("hello2", runtime.LeaseSuffix).becomes(theirs2.addr, ours2.addr)
}
