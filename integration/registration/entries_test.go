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

// service returns the key of service i, below 100. No such key is a prefix of
// another one.
func service(i int) string {
	return fmt.Sprintf("svc/%02d", i)
}

// services registers n services, whose entries have a text by opt, and returns
// the registrations and the contents that etcd should have.
func (w *world) services(
	r *runtime.Registry,
	n int,
	text string,
	opt runtime.RegisterOption,
) ([]*runtime.Registration, contents) {
	w.t.Helper()

	var all []*runtime.Registration

	want := make(contents)
	for i := range n {
		all = append(all, register(w.t, r, service(i), addr(0), opt))
		want[service(i)+"/"+addr(0)] = text
	}

	return all, want
}

// TestUnreadableKey registers 20 services that the etcd user may read and
// write. Services that it may not read, or neither read nor write, cannot be
// registered, and do not block the 20.
func TestUnreadableKey(t *testing.T) {
	leak.Parallel(t)
	const n = 20

	user := etcdtest.User{
		Name:     "svc",
		Password: "p",
		Permissions: []etcdtest.Permission{
			etcdtest.ReadWrite("svc/"),
			{Prefix: "blind/", Write: true},
		},
	}

	w := newWorld(t, []etcdtest.Option{etcdtest.WithAuth("root", user)})
	registry := w.newRegistry(w.etcd.Client(t, etcdtest.As("svc", "p")))
	_, want := w.services(registry, n, "v1", runtime.WithVersion("v1"))

	for _, name := range []string{"blind", "forbidden"} {
		_, err := registry.Register(kit.Context(t), name, runtime.Endpoint{Addr: addr(0)})
		if err == nil ||
			!strings.Contains(err.Error(), "permission denied") ||
			!strings.Contains(err.Error(), name+"/") {
			t.Errorf("Register(%q): %v, want permission denied on %s/", name, err, name)
		}
	}

	w.is("", want, "after Register")

	w.delete(service(3) + "/" + addr(0))
	w.becomes("svc/", want, "after an entry was deleted")
	w.put(service(4)+"/"+addr(0), "x", clientv3.WithIgnoreLease())
	w.becomes("svc/", want, "after an entry was overwritten")
}

// TestForeignKeyOnLease puts a foreign key on the lease of a process. As the
// process may not write that key, etcd rejects all puts of the process on the
// lease, so it must use another lease.
func TestForeignKeyOnLease(t *testing.T) {
	user := etcdtest.User{
		Name:        "b",
		Password:    "p",
		Permissions: []etcdtest.Permission{etcdtest.ReadWrite("b/")},
	}

	w := newWorld(t, []etcdtest.Option{etcdtest.WithAuth("root", user)})
	registry := w.newRegistry(w.etcd.Client(t, etcdtest.As("b", "p")))
	g := register(t, registry, "b/svc", addr(0), runtime.WithVersion("v1"))
	was := g.Status().LeaseID
	w.put("a/key", "x", clientv3.WithLease(was))
	kit.Must(t, g.Update(kit.Context(t), runtime.WithVersion("v2")))
	w.is("b/", contents{"b/svc/" + addr(0): "v2"}, "after Update")
	w.there("b/svc/"+addr(0), was)
}

// A client that may send at most 64 KB in a message registers 20 entries of 8
// KB.
func TestMessageLimit(t *testing.T) {
	w := newWorld(t, nil)
	client := w.etcd.Client(t, func(cfg *clientv3.Config) { cfg.MaxCallSendMsgSize = 64 << 10 })
	r := w.newRegistry(client)
	large := strings.Repeat("x", 8<<10)
	all, want := w.services(r, 20, large, runtime.WithMetadata("m", large))
	w.revoke(all[0].Status().LeaseID)
	w.becomes("svc/", want, "after the lease was revoked")
}

func TestAddRemove(t *testing.T) {
	w := newWorld(t, nil, runtime.WithNamespace("ns/"))
	ctx := kit.Context(t)
	for range 2 {
		kit.Must(t, w.registry.Add(ctx, "svc", runtime.Endpoint{Addr: "1.2.3.4"}))
	}

	kit.Must(t, w.registry.Add(ctx, "svc", runtime.Endpoint{Addr: addr(1), Instance: "i"},
		runtime.WithLayouts(runtime.Kratos, runtime.Kitex)))
	w.put("ns/svc/bad", "garbage")
	w.put("ns/svc-admin/i", "10.0.0.2:9000")
	w.put("ns/svc/nested/i", "10.0.0.2:9000")

	got := w.get("ns/svc/1.2.3.4")
	if got.value != `{"Op":0,"Addr":"1.2.3.4"}` || got.lease != 0 {
		t.Errorf("entry after Add: %+v, want the address 1.2.3.4 without a lease", got)
	}

	if n := len(w.keys("ns/svc")); n != 6 {
		t.Errorf("keys in etcd: %v, want 6 keys", w.keys("ns/svc"))
	}

	kit.Must(t, w.registry.Remove(ctx, "svc", "1.2.3.4"))
	kit.Must(t, w.registry.Remove(ctx, "svc", "bad"))
	kit.Must(t, w.registry.Remove(ctx, "svc", addr(1)))

	keys := w.keys("ns/")

	want := []string{"ns/svc-admin/i", "ns/svc/nested/i"}
	if !slices.Equal(keys, want) {
		t.Errorf("keys after Remove: %v, want %v", keys, want)
	}

	g := w.register("svc", addr(2), runtime.WithLayouts(runtime.LeaseSuffix, runtime.Plain))

	for part, err := range map[string]error{
		"go_zero needs a lease": w.registry.Add(ctx, "svc", runtime.Endpoint{Addr: addr(1)},
			runtime.WithLayouts(runtime.GoZero)),
		`"ns/svc/10.0.0.3:9000"] has an entry on a lease`: w.registry.Add(
			ctx, "svc", runtime.Endpoint{Addr: addr(2)}),
		"nested/i": w.registry.Remove(ctx, "svc", "nested/i"), // the entry of another key
		addr(1):    w.registry.Remove(ctx, "svc", addr(1)),    // a missing entry
	} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("Add or Remove: %v, want an error with %q", err, part)
		}
	}

	kit.Must(t, w.registry.Remove(ctx, "svc", addr(2)))
	w.state(g, runtime.StateRegistered)
	kit.Eventually(t, "the live owner has put its entry back", func() bool {
		return len(w.keys("ns/svc")) == 4
	})
}

// TestRemoveReadsPages removes instances of a service whose entries have 4 MB,
// with a client that may receive 1 MB in a message. If one entry alone is
// larger, the error says after which key.
func TestRemoveReadsPages(t *testing.T) {
	w := newWorld(t, nil)
	registry := w.newRegistry(w.etcd.Client(t, func(c *clientv3.Config) {
		c.MaxCallRecvMsgSize = 1 << 20
	}))

	for i := range 40 {
		w.put(fmt.Sprintf("svc/%02d", i), strings.Repeat("x", 100<<10))
	}

	w.put("svc/z", addr(1))

	for _, instance := range []string{"00", addr(1)} {
		kit.Must(t, registry.Remove(kit.Context(t), "svc", instance))
	}

	keys := w.keys("svc/")
	if len(keys) != 39 || keys[0] != "svc/01" || keys[38] != "svc/39" {
		t.Errorf("keys after Remove: %v, want svc/01 to svc/39", keys)
	}

	w.put("svc/large", strings.Repeat("x", 1<<20))

	err := registry.Remove(kit.Context(t), "svc", "large")
	for _, part := range []string{"svc/39", "MaxCallRecvMsgSize"} {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("Remove of an entry that is too large: %v, want an error with %q", err, part)
		}
	}
}
