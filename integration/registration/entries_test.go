package registration

import (
	"fmt"
	"slices"
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
		_, err := registry.Register(kit.Bounded(t, kit.Soon), name, runtime.Endpoint{Addr: addr(0)})
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
	kit.Must(t, g.Update(kit.Bounded(t, kit.Soon), runtime.WithVersion("v2")))
	w.is("b/", contents{"b/svc/" + addr(0): "v2"}, "after Update")
	w.there("b/svc/"+addr(0), was)
}

// The client sends no message over 64 KB, and 20 entries of 8 KB exceed that together.
func TestMessageLimit(t *testing.T) {
	w := newWorld(t, nil)
	client := w.etcd.Client(t, func(cfg *clientv3.Config) { cfg.MaxCallSendMsgSize = 64 << 10 })
	r := w.newRegistry(client)
	large := strings.Repeat("x", 8<<10)
	var all []*runtime.Registration
	want := make(contents)
	for i := range 20 {
		all = append(all, register(t, r, service(i), addr(0), runtime.WithMetadata("m", large)))
		want[service(i)+"/"+addr(0)] = large
	}
	w.revoke(all[0].Status().LeaseID)
	w.becomes("svc/", want, "after the lease was revoked")
}

func TestAddRemove(t *testing.T) {
	w := newWorld(t, nil, runtime.WithNamespace("ns/"))
	ctx := kit.Bounded(t, kit.Soon)
	kit.Must(t, w.registry.Add(ctx, "svc", runtime.Endpoint{Addr: "1.2.3.4"}))
	kit.Must(t, w.registry.Add(ctx, "svc", runtime.Endpoint{Addr: addr(1), Instance: "i"}, runtime.WithLayouts(runtime.Kratos, runtime.Kitex)))
	w.put("ns/svc/bad", "garbage")
	w.put("ns/svc-admin/i", "10.0.0.2:9000")
	w.put("ns/svc/nested/i", "10.0.0.2:9000")
	if got := w.get("ns/svc/1.2.3.4"); got.value != `{"Op":0,"Addr":"1.2.3.4"}` || got.lease != 0 {
		t.Errorf("added: %+v", got)
	}
	if n := len(w.keys("ns/svc")); n != 6 {
		t.Errorf("%v in etcd", w.keys("ns/svc"))
	}
	if err := w.registry.Add(ctx, "svc", runtime.Endpoint{Addr: addr(1)}, runtime.WithLayouts(runtime.GoZero)); err == nil {
		t.Error("Add succeeded without a lease in a layout that names entries by lease")
	}
	kit.Must(t, w.registry.Remove(ctx, "svc", "1.2.3.4"))
	kit.Must(t, w.registry.Remove(ctx, "svc", "bad"))
	kit.Must(t, w.registry.Remove(ctx, "svc", addr(1)))
	if got, want := w.keys("ns/"), []string{"ns/svc-admin/i", "ns/svc/nested/i"}; !slices.Equal(got, want) {
		t.Errorf("left: %v, want %v", got, want)
	}
	if err := w.registry.Remove(ctx, "svc", "nested/i"); err == nil {
		t.Error("Remove deleted an entry of another key")
	}
	if err := w.registry.Remove(ctx, "svc", addr(1)); err == nil || !strings.Contains(err.Error(), addr(1)) {
		t.Errorf("Remove of a missing entry: %v", err)
	}
	g := w.register("svc", addr(2), runtime.WithLayouts(runtime.LeaseSuffix))
	kit.Must(t, w.registry.Remove(ctx, "svc", addr(2)))
	w.state(g, runtime.StateRegistered)
	kit.Eventually(t, kit.Soon, "put back by its live owner", func() bool { return len(w.keys("ns/svc")) == 3 })
}

// TestRemoveReadsPages removes instances from a key with more bytes than the client may receive at
// once. The error names an entry that is larger than that by itself.
func TestRemoveReadsPages(t *testing.T) {
	w := newWorld(t, nil)
	registry := w.newRegistry(w.etcd.Client(t, func(c *clientv3.Config) { c.MaxCallRecvMsgSize = 1 << 20 }))
	for i := range 40 {
		w.put(fmt.Sprintf("svc/%02d", i), strings.Repeat("x", 100<<10))
	}
	w.put("svc/z", addr(1))
	for _, instance := range []string{"00", addr(1)} {
		kit.Must(t, registry.Remove(kit.Bounded(t, kit.Soon), "svc", instance))
	}
	if keys := w.keys("svc/"); len(keys) != 39 || keys[0] != "svc/01" || keys[38] != "svc/39" {
		t.Errorf("left: %v", keys)
	}
	w.put("svc/large", strings.Repeat("x", 1<<20))
	err := registry.Remove(kit.Bounded(t, kit.Soon), "svc", "large")
	for _, part := range []string{"svc/39", "MaxCallRecvMsgSize"} {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("an entry that is too large: %v, want an error with %q", err, part)
		}
	}
}
