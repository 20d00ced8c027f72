package registration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

func TestAddRemove(t *testing.T) {
	w := newWorld(t, nil, runtime.WithNamespace("ns/"))
	ctx := kit.Bounded(t, soon)
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
	kit.Eventually(t, soon, "put back by its live owner", func() bool { return len(w.keys("ns/svc")) == 3 })
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
		kit.Must(t, registry.Remove(kit.Bounded(t, soon), "svc", instance))
	}
	if keys := w.keys("svc/"); len(keys) != 39 || keys[0] != "svc/01" || keys[38] != "svc/39" {
		t.Errorf("left: %v", keys)
	}
	w.put("svc/large", strings.Repeat("x", 1<<20))
	err := registry.Remove(kit.Bounded(t, soon), "svc", "large")
	for _, part := range []string{"svc/39", "MaxCallRecvMsgSize"} {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("an entry that is too large: %v, want an error with %q", err, part)
		}
	}
}
