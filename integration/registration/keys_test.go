package registration

import (
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// service is the key of one of many services, none of which is a prefix of another.
func service(i int) string { return fmt.Sprintf("svc/%02d", i) }

// services registers n services and returns the registrations and the resulting contents of etcd.
func (w *world) services(r *runtime.Registry, n int) ([]*runtime.Registration, contents) {
	w.t.Helper()
	var all []*runtime.Registration
	want := make(contents)
	for i := range n {
		all = append(all, register(w.t, r, service(i), addr(0), runtime.WithVersion("v1")))
		want[service(i)+"/"+addr(0)] = "v1"
	}
	return all, want
}

// TestUnreadableKey registers 20 services that the user may write, and two that it may not: it
// cannot read one, and cannot touch the other.
func TestUnreadableKey(t *testing.T) {
	leak.Beside(t)
	const n = 20
	user := etcdtest.User{Name: "svc", Password: "p", Permissions: []etcdtest.Permission{etcdtest.ReadWrite("svc/"), {Prefix: "blind/", Write: true}}}
	w := newWorld(t, []etcdtest.Option{etcdtest.WithAuth("root", user)})
	registry := w.newRegistry(w.etcd.Client(t, etcdtest.As("svc", "p")))
	_, want := w.services(registry, n)
	for _, name := range []string{"blind", "forbidden"} {
		_, err := registry.Register(kit.Bounded(t, soon), name, runtime.Endpoint{Addr: addr(0)})
		if err == nil || !strings.Contains(err.Error(), "permission denied") || !strings.Contains(err.Error(), name+"/") {
			t.Errorf("Register of a key that is %s: %v", name, err)
		}
	}
	w.is("", want, "after Register")

	w.delete(service(3) + "/" + addr(0))
	w.becomes("svc/", want, "after one was deleted")
	w.put(service(4)+"/"+addr(0), "x", clientv3.WithIgnoreLease())
	w.becomes("svc/", want, "after one was overwritten")
}

// TestForeignKeyOnLease puts a foreign key on the lease of a process that may not write that
// key: etcd then refuses the process's own puts on the lease.
func TestForeignKeyOnLease(t *testing.T) {
	user := etcdtest.User{Name: "b", Password: "p", Permissions: []etcdtest.Permission{etcdtest.ReadWrite("b/")}}
	w := newWorld(t, []etcdtest.Option{etcdtest.WithAuth("root", user)})
	g := register(t, w.newRegistry(w.etcd.Client(t, etcdtest.As("b", "p"))), "b/svc", addr(0), runtime.WithVersion("v1"))
	was := g.Status().LeaseID
	w.put("a/key", "x", clientv3.WithLease(was))
	kit.Must(t, g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2")))
	w.is("b/", contents{"b/svc/" + addr(0): "v2"}, "after Update")
	w.there("b/svc/"+addr(0), was)
}
