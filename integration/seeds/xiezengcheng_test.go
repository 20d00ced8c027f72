package seeds

import (
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var underEtcd = &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/etcd", Layout: runtime.Plain}

func TestXiezengcheng_TheirWriterOurClient(t *testing.T) {
	kit.Night(t)
	w := newWorld(t, runtime.WithEmptyGrace(0))
	a, b, users := w.serve("a"), w.serve("b"), w.serve("users")
	w.xieRegisterServer("/etcd/order-service-1", a.addr, 5*time.Second)
	second := w.xieRegisterServer("/etcd/order-service-2", b.addr, 5*time.Second)

	conn := w.conn(underEtcd)
	byTarget := w.dial("etcd:////etcd", w.registry.Resolver())
	w.balanced(conn, "a", "b")
	w.balanced(byTarget, "a", "b")

	// Where several services are under the one prefix, a selector tells them apart.
	w.xieRegisterServer("/etcd/user-service-1", users.addr, 5*time.Second)
	orders := w.conn(underEtcd, runtime.WithSelector(func(e runtime.Endpoint) bool {
		return strings.HasPrefix(e.Instance, "order-service-")
	}))
	w.balanced(conn, "a", "b", "users")
	w.balanced(orders, "a", "b")

	second.close()
	w.gone(second.lease)
	w.balanced(conn, "a", "users")
	w.balanced(orders, "a")
}

func TestXiezengcheng_OurWriterTheirReader(t *testing.T) {
	kit.Night(t)
	w := newWorld(t)
	registry := w.newRegistry()
	a := w.publishGreeter(registry, &greeter{name: "a"}, underEtcd, runtime.WithInstance("order-service-1"))
	b := w.publish("b", underEtcd, runtime.WithInstance("order-service-2"))
	if got := w.entryAt("/etcd/order-service-1"); got.value != a.addr || got.lease == 0 {
		t.Errorf("the entry is %+v", got)
	}
	conn := w.dial("etcd:///", w.xieResolver())
	w.balanced(conn, "a", "b")

	// Close revokes the lease.
	lease := a.lease()
	must(t, registry.Close(bounded(t)))
	w.gone(lease)
	w.balanced(conn, "b")
	if got := w.onlyEntry("/etcd/"); got.value != b.addr {
		t.Errorf("what is left is %+v", got)
	}
}
