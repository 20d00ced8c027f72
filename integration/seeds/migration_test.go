package seeds

import (
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/client/v3/naming/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// A fleet moves from go-zero's layout to etcd's own, under one key and under load: servers that write both layouts
// replace go-zero's, the readers move, and servers that write only the new layout replace those.
func TestMigration_FromGoZeroUnderLoad(t *testing.T) {
	w := newWorld(t)
	const key = "fleet/greeter"
	both := &runtime.ServiceDesc{Name: "basic.Greeter", Key: key}
	oldReader := w.goZeroConn(key)
	builder, err := resolver.NewBuilder(w.theirs)
	kit.Must(t, err)
	newReader := w.dial("etcd:///"+key, builder)

	// go-zero's servers alone.
	old1, old2 := w.serve("old 1"), w.serve("old 2")
	entry1, entry2 := w.goZeroPublish(key, old1.addr), w.goZeroPublish(key, old2.addr)
	theirs := w.load("go-zero's reader", oldReader)
	ours := w.load("our client", w.conn(both))
	theirs.reaches("old 1", "old 2")
	ours.reaches("old 1", "old 2")

	// Our servers write both layouts.
	dual := runtime.WithLayouts(runtime.GoZero, runtime.EndpointJSON)
	dual1, dual2 := w.publish("dual 1", both, dual), w.publish("dual 2", both, dual)
	theirs.reaches("old 1", "old 2", "dual 1", "dual 2")
	w.balanced(w.conn(both), "old 1", "old 2", "dual 1", "dual 2") // each of them once
	entry1.Stop()
	entry2.Stop()
	theirs.reaches("dual 1", "dual 2")
	ours.reaches("dual 1", "dual 2")
	old1.stop()
	old2.stop()

	// Readers move over.
	naming := w.load("etcd naming's reader", newReader)
	naming.reaches("dual 1", "dual 2")
	theirs.reaches("dual 1", "dual 2")
	theirs.stop()

	// Our servers write only the new layout.
	w.publish("new 1", both)
	w.publish("new 2", both)
	naming.reaches("dual 1", "dual 2", "new 1", "new 2")
	dual1.stop()
	dual2.stop()
	naming.reaches("new 1", "new 2")
	ours.reaches("new 1", "new 2")
	if left := w.entries(key); len(left) != 2 {
		t.Errorf("in etcd are %+v, want the new two", left)
	}
	naming.stop()
	ours.stop()
}

// If the old layout and the new one share a key, servers cannot write both. Our clients read both, so
// once all callers are ours, each server is replaced under the instance id of the old one.
func TestMigration_OneKeyUnderLoad(t *testing.T) {
	w := newWorld(t)
	plain := &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/etcd", Layout: runtime.Plain}
	json := &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/etcd"}
	ours := make([]*server, 2)
	for i := range ours {
		ours[i] = w.publish(fmt.Sprintf("old %d", i), plain, runtime.WithInstance(fmt.Sprintf("order-service-%d", i)))
	}
	calls := w.load("our client", w.conn(json))
	calls.reaches("old 0", "old 1")
	for i, old := range ours {
		w.publish(fmt.Sprintf("new %d", i), json, runtime.WithInstance(fmt.Sprintf("order-service-%d", i)), runtime.WithVersion("v2"))
		old.stop()
	}
	calls.reaches("new 0", "new 1")
	calls.stop()
	for _, left := range w.entries("/etcd/") {
		if !strings.Contains(left.value, `"version":"v2"`) {
			t.Errorf("left is %+v", left)
		}
	}
}
