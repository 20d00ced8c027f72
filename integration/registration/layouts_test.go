package registration

import (
	"context"
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

// TestS19_RemoveReadsPages removes instances from a key that holds far more than the client may receive at once. An entry that
// is larger than that itself is named.
func TestS19_RemoveReadsPages(t *testing.T) {
	w := newWorld(t, nil)
	registry := w.newRegistry(w.etcd.Client(t, func(c *clientv3.Config) { c.MaxCallRecvMsgSize = 1 << 20 }))
	for i := range 40 {
		w.put(fmt.Sprintf("svc/%02d", i), strings.Repeat("x", 100<<10))
	}
	w.put("svc/z", addr(1))
	for _, instance := range []string{"00", addr(1)} {
		must(t, registry.Remove(kit.Bounded(t, soon), "svc", instance))
	}
	if keys := w.keys("svc/"); len(keys) != 39 || keys[0] != "svc/01" || keys[38] != "svc/39" {
		t.Errorf("left: %v", keys)
	}
	w.put("svc/large", strings.Repeat("x", 1<<20))
	err := registry.Remove(kit.Bounded(t, soon), "svc", "large")
	for _, part := range []string{"svc/39", "MaxCallRecvMsgSize"} {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("of an entry that is too large: %v, want %q named", err, part)
		}
	}
}

// compacting writes, and compacts etcd, after the first read.
type compacting struct {
	clientv3.KV
	done bool
}

func (c *compacting) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	resp, err := c.KV.Get(ctx, key, opts...)
	if err != nil || c.done {
		return resp, err
	}
	c.done = true
	var put *clientv3.PutResponse
	for range 2 {
		if put, err = c.Put(ctx, "other", ""); err != nil {
			return nil, err
		}
	}
	_, err = c.Compact(ctx, put.Header.Revision)
	return resp, err
}

// TestRemoveThroughACompaction removes an instance on a later page, while etcd compacts the history that the first was read of.
func TestRemoveThroughACompaction(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 100 {
		w.put(fmt.Sprintf("svc/%03d", i), addr(i))
	}
	client := w.etcd.Client(t)
	client.KV = &compacting{KV: client.KV}
	must(t, w.newRegistry(client).Remove(kit.Bounded(t, soon), "svc", addr(90)))
	if w.get("svc/090") != nil {
		t.Error("it is still there")
	}
}
