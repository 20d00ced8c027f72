package registration

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

func TestLayouts(t *testing.T) {
	w := newWorld(t, nil, runtime.WithNamespace("ns/"), runtime.WithZone("z"))
	g := w.register(key, addr(0), runtime.WithInstance("i"), runtime.WithLayouts(
		runtime.EndpointJSON, runtime.LeaseSuffix, runtime.GoZero, runtime.Kitex))
	id := strconv.FormatInt(int64(g.Status().LeaseID), 10)
	want := []string{"ns/" + key + "/10.0.0.1:9000", "ns/" + key + "/" + id, "ns/" + key + "/i", "ns/" + key + id}
	slices.Sort(want)
	if got := w.keys(""); !slices.Equal(got, want) {
		t.Errorf("in etcd: %v, want %v", got, want)
	}
	// On another lease two of the four keys are others.
	was := g.Status().LeaseID
	w.revoke(was)
	w.there("ns/"+key+"/i", was)
	w.state(g, runtime.StateRegistered)
	id = strconv.FormatInt(int64(g.Status().LeaseID), 10)
	if got := w.keys(""); len(got) != 4 || w.get("ns/"+key+id) == nil || w.get("ns/"+key+"/"+id) == nil {
		t.Errorf("after a new registration with lease %s: %v", id, got)
	}
	must(t, g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2")))
	if got := w.get("ns/" + key + "/i"); got.value != `{"Op":0,"Addr":"10.0.0.1:9000","Metadata":{"version":"v2","zone":"z"}}` {
		t.Errorf("after Update: %s", got.value)
	}
	must(t, g.Close(kit.Bounded(t, soon)))
	if got := w.keys(""); len(got) > 0 {
		t.Errorf("left after Close: %v", got)
	}
}

// Only a second registration of a key whose layout has the lease id in it takes a lease of its own.
func TestLeases(t *testing.T) {
	w := newWorld(t, nil)
	goZero := runtime.WithLayouts(runtime.GoZero)
	w.register("a", addr(0), goZero)
	w.register("b", addr(0), goZero)
	w.register("c", addr(0))
	w.register("c", addr(1))
	if n := len(w.leases()); n != 1 {
		t.Fatalf("%d leases, want 1", n)
	}
	own := w.register("a", addr(1), goZero)
	if n, keys := len(w.leases()), w.keys("a/"); n != 2 || len(keys) != 2 {
		t.Fatalf("%d leases for %v, want 2", n, keys)
	}
	must(t, own.Close(kit.Bounded(t, soon)))
	if n, keys := len(w.leases()), w.keys("a/"); n != 1 || len(keys) != 1 {
		t.Fatalf("%d leases for %v after Close, want 1", n, keys)
	}
}

func TestRegisterRefuses(t *testing.T) {
	w := newWorld(t, nil)
	w.register("a/b", addr(0))
	w.register("order", addr(0), runtime.WithLayouts(runtime.LeaseSuffix))
	tests := []struct {
		name, key, addr string
		want            []string
		opts            []runtime.RegisterOption
	}{
		{"bad key", "a//b", addr(0), []string{"a//b"}, nil},
		{"reserved key", "_grpc_config/a", addr(0), []string{"_grpc_config"}, nil},
		{"nested", "a/b/c", addr(0), []string{"a/b/c", `"a/b"`}, nil},
		{"outer", "a", addr(0), []string{`"a/b"`, `"a"`}, nil},
		{"digit", "order2", addr(0), []string{"order2", `"order"`}, nil},
		{"no address", "x", "", []string{"address"}, nil},
		{"unspecified", "x", "0.0.0.0:80", []string{"0.0.0.0"}, nil},
		{"unspecified IPv6", "x", "[::]:80", []string{"[::]"}, nil},
		{"port 0", "x", "h:0", []string{"h:0"}, nil},
		{"unix", "x", "unix:/x", []string{"unix:/x"}, nil},
		{"plain without port", "x", "h", []string{"plain"}, []runtime.RegisterOption{runtime.WithLayouts(runtime.Plain)}},
		{"reserved name", "x", addr(0), []string{"version"}, []runtime.RegisterOption{runtime.WithMetadata("version", "v")}},
		{"slash in instance", "x", addr(0), []string{"a/b"}, []runtime.RegisterOption{runtime.WithInstance("a/b")}},
		{"colliding layouts", "x", addr(0), []string{"endpoint_json", "kitex"}, []runtime.RegisterOption{runtime.WithLayouts(runtime.EndpointJSON, runtime.Kitex)}},
		{"nil layout", "x", addr(0), []string{"nil"}, []runtime.RegisterOption{runtime.WithLayouts(nil)}},
		{"instance twice", "a/b", addr(0), []string{"already registered"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.registry.Register(kit.Bounded(t, soon), tt.key, runtime.Endpoint{Addr: tt.addr}, tt.opts...)
			if err == nil {
				t.Fatal("Register succeeded")
			}
			for _, text := range append(tt.want, tt.key) {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error %q does not have %s", err, text)
				}
			}
		})
	}
	// Neighbours that can be told apart are none of these.
	w.register("a/b-admin", addr(0))
	w.register("order-2", addr(0))
	w.register("/a/b", addr(0))
}

func TestAddRemove(t *testing.T) {
	w := newWorld(t, nil, runtime.WithNamespace("ns/"))
	ctx := kit.Bounded(t, soon)
	must := func(err error) {
		t.Helper()
		must(t, err)
	}
	must(w.registry.Add(ctx, "svc", runtime.Endpoint{Addr: "1.2.3.4"}))
	must(w.registry.Add(ctx, "svc", runtime.Endpoint{Addr: addr(1), Instance: "i"}, runtime.WithLayouts(runtime.Kratos, runtime.Kitex)))
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
		t.Error("added without a lease what is named by one")
	}
	must(w.registry.Remove(ctx, "svc", "1.2.3.4"))
	must(w.registry.Remove(ctx, "svc", "bad"))
	must(w.registry.Remove(ctx, "svc", addr(1)))
	if got, want := w.keys("ns/"), []string{"ns/svc-admin/i", "ns/svc/nested/i"}; !slices.Equal(got, want) {
		t.Errorf("left: %v, want %v", got, want)
	}
	if err := w.registry.Remove(ctx, "svc", "nested/i"); err == nil {
		t.Error("removed what is under another key")
	}
	if err := w.registry.Remove(ctx, "svc", addr(1)); err == nil || !strings.Contains(err.Error(), addr(1)) {
		t.Errorf("Remove of what is not there: %v", err)
	}
	g := w.register("svc", addr(2), runtime.WithLayouts(runtime.LeaseSuffix))
	must(w.registry.Remove(ctx, "svc", addr(2)))
	w.state(g, runtime.StateRegistered)
	kit.Eventually(t, soon, "put back by its live owner", func() bool { return len(w.keys("ns/svc")) == 3 })
}

func TestPermissions(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	users := []etcdtest.User{
		{Name: "prefix", Password: "p", Permissions: []etcdtest.Permission{etcdtest.ReadWrite(key + "/")}},
		{Name: "writer", Password: "p", Permissions: []etcdtest.Permission{{Prefix: key + "/", Write: true}}},
		{Name: "nobody", Password: "p"},
	}
	w := newWorld(t, []etcdtest.Option{etcdtest.WithAuth("root", users...)})
	for _, user := range []string{"prefix", "writer"} {
		t.Run(user, func(t *testing.T) {
			r := w.newRegistry(w.etcd.Client(t, etcdtest.As(user, "p")))
			g := register(t, r, key, addr(0))
			second := register(t, r, key, addr(1))
			was := g.Status().LeaseID
			w.revoke(was)
			took := w.there(entry, was)
			report.Took(t, "G1", "back after the lease was revoked, as user "+user, took)
			if err := second.Update(kit.Bounded(t, soon), runtime.WithVersion("v2")); err != nil {
				t.Error(err)
			}
			if err := second.Close(kit.Bounded(t, soon)); err != nil {
				t.Error(err)
			}
			kit.Eventually(t, soon, "one key left", func() bool { return slices.Equal(w.keys(key), []string{entry}) })
			if err := r.Close(kit.Bounded(t, soon)); err != nil {
				t.Error(err)
			}
			if keys, leases := w.keys(""), w.leases(); len(keys)+len(leases) > 0 {
				t.Errorf("left: %v, %v", keys, leases)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		r := w.newRegistry(w.etcd.Client(w.t, etcdtest.As("nobody", "p")))
		_, err := r.Register(context.Background(), key, runtime.Endpoint{Addr: addr(0)})
		if err == nil || !strings.Contains(err.Error(), "permission denied") || !strings.Contains(err.Error(), entry) {
			t.Errorf("Register without a permission: %v", err)
		}
	})
	t.Run("one denied among many", func(t *testing.T) {
		r := w.newRegistry(w.etcd.Client(w.t, etcdtest.As("prefix", "p")))
		errs := make(chan error)
		for i := range 20 {
			go func() {
				k := key
				if i == 7 {
					k = "forbidden"
				}
				_, err := r.Register(kit.Bounded(t, soon), k, runtime.Endpoint{Addr: addr(i)})
				errs <- err
			}()
		}
		denied := 0
		for range 20 {
			if err := <-errs; err != nil {
				denied++
				if !strings.Contains(err.Error(), "forbidden") {
					t.Error(err)
				}
			}
		}
		if denied != 1 || len(w.keys(key)) != 19 {
			t.Errorf("%d denied, %d registered", denied, len(w.keys(key)))
		}
	})
}

// With auth on and no user, etcd answers with an error that no patience cures.
func TestNoUser(t *testing.T) {
	kit.Night(t)
	w := newWorld(t, []etcdtest.Option{etcdtest.WithAuth("root")})
	r := w.newRegistry(w.etcd.Client(t, etcdtest.As("", "")))
	_, err := r.Register(kit.Bounded(t, soon), key, runtime.Endpoint{Addr: addr(0)})
	if err == nil || errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded {
		t.Errorf("Register without a user: %v", err)
	}
}

// The client is closed under a registry: nothing spins, and Close does not hang.
func TestClientClosed(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	w := newWorld(t, nil)
	client := w.etcd.Client(t)
	r := w.newRegistry(client)
	g := register(t, r, key, addr(0))
	must(t, client.Close())
	w.state(g, runtime.StateLost)
	if err := r.Close(kit.Bounded(t, time.Second)); err == nil {
		t.Error("Close says that all is withdrawn")
	}
}

func TestGoroutines(t *testing.T) {
	kit.Night(t)
	w := newWorld(t, nil)
	client := w.etcd.Client(t)
	if _, err := client.Get(kit.Bounded(t, soon), "x"); err != nil {
		t.Fatal(err)
	}
	// What etcd's side needs for the streams runs in this process, too.
	count := func() int {
		n := 0
		for _, stack := range strings.Split(stacks(), "\n\n") {
			if strings.Contains(stack, "protoc-gen-go-etcd/runtime") || strings.Contains(stack, "client/v3.") {
				n++
			}
		}
		return n
	}
	before := count()
	r := w.newRegistry(client)
	for i := range 100 {
		register(t, r, fmt.Sprintf("svc%d-", i), addr(i))
	}
	// Two more where the etcd client keeps open a stream that nothing is watched on: it does so when a
	// watch is given up while it is being opened.
	kit.Eventually(t, soon, "few goroutines", func() bool { return count()-before <= 10 })
	report.Count(t, "G5", "goroutines for 100 registrations", count()-before)
	must(t, r.Close(kit.Bounded(t, soon)))
	// The client's own lessor stays.
	kit.Eventually(t, soon, "none of the runtime's left", func() bool { return !strings.Contains(stacks(), "protoc-gen-go-etcd/runtime") })
}

func stacks() string {
	buf := make([]byte, 4<<20)
	return string(buf[:goruntime.Stack(buf, true)])
}
