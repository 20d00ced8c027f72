package seeds

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loadtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/migrationtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// load starts a caller on a connection. The test must call Stop before it stops
// the last server.
func (w *world) load(name string, conn *grpc.ClientConn) *loadtest.Caller {
	w.t.Helper()

	return loadtest.Start(w.t, name, func(ctx context.Context) (string, error) {
		return sayHello(ctx, conn)
	})
}

// TestRoad moves from etcd naming's servers and callers to ours under load, one
// process after another, and back. Other systems need no row: they use the same
// layout, have a TestMigration of their own, or are in module compat.
func TestRoad(t *testing.T) {
	migrationtest.Run(t, etcdNaming.road)
}

// road returns the servers and callers of the system, and ours.
func (s system) road(t *testing.T) (from, to migrationtest.Kind) {
	w := startWorld(t)
	from = migrationtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			old := w.serve(name)
			return s.register(w, s.desc.Key, old.addr), old.stop
		},
		Dial: func() (migrationtest.Call, func()) {
			conn := s.dial(w)

			// go-zero's client fails until it has read etcd
			kit.Eventually(w.t, "a call of their client succeeds", func() bool {
				_, err := sayHello(kit.Context(t), conn)
				return err == nil
			})

			return calls(conn)
		},
	}

	to = migrationtest.Kind{
		Serve: func(name string) (leave, stop func()) { return nil, w.publish(name, s.desc).stop },
		Dial:  func() (migrationtest.Call, func()) { return calls(w.conn(s.desc, s.opts...)) },
	}

	return from, to
}

func calls(conn *grpc.ClientConn) (migrationtest.Call, func()) {
	call := func(ctx context.Context) (string, error) { return sayHello(ctx, conn) }

	return call, func() { _ = conn.Close() }
}

// A service moves from go-zero's layout to that of etcd naming, with the same
// key and under load. First our servers with both layouts replace go-zero's,
// then readers of etcd naming replace go-zero's, then our servers stop writing
// go-zero's layout.
func TestMigration_FromGoZeroUnderLoad(t *testing.T) {
	w := newWorld(t)
	const key = "fleet/greeter"
	both := &runtime.ServiceDesc{Name: "basic.Greeter", Key: key}
	oldReader := w.goZeroConn(key)
	newReader := w.etcdNamingConn(key)

	// There are only go-zero's servers.
	old1 := w.serve("old 1")
	old2 := w.serve("old 2")
	entry1 := w.goZeroPublish(key, old1.addr)
	entry2 := w.goZeroPublish(key, old2.addr)
	theirs := w.load("go-zero's reader", oldReader)
	ours := w.load("our client", w.conn(both))
	theirs.Reaches("old 1", "old 2")
	ours.Reaches("old 1", "old 2")

	// Our servers, which write both layouts, replace go-zero's.
	dual := runtime.WithLayouts(runtime.GoZero, runtime.EndpointJSON)
	dual1 := w.publish("dual 1", both, dual)
	dual2 := w.publish("dual 2", both, dual)
	theirs.Reaches("old 1", "old 2", "dual 1", "dual 2")

	// a server with two entries counts once
	w.balanced(w.conn(both), "old 1", "old 2", "dual 1", "dual 2")
	entry1.Stop()
	entry2.Stop()
	theirs.Reaches("dual 1", "dual 2")
	ours.Reaches("dual 1", "dual 2")
	old1.stop()
	old2.stop()

	// A reader of etcd naming replaces go-zero's.
	naming := w.load("etcd naming's reader", newReader)
	naming.Reaches("dual 1", "dual 2")
	theirs.Reaches("dual 1", "dual 2")
	theirs.Stop()

	// Our servers that write only the new layout replace those that write both.
	w.publish("new 1", both)
	w.publish("new 2", both)
	naming.Reaches("dual 1", "dual 2", "new 1", "new 2")
	dual1.stop()
	dual2.stop()
	naming.Reaches("new 1", "new 2")
	ours.Reaches("new 1", "new 2")

	if remaining := w.entries(key); len(remaining) != 2 {
		t.Errorf("etcd has the entries %+v, want those of new 1 and new 2", remaining)
	}

	naming.Stop()
	ours.Stop()
}

// If an instance has the same key in the old and the new layout, servers cannot
// write both. Once all callers are our clients, which read both, a server with
// the new layout replaces each server with the old layout and takes over its
// instance id.
func TestMigration_OneKeyUnderLoad(t *testing.T) {
	w := newWorld(t)
	plain := &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/etcd", Layout: runtime.Plain}
	json := &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/etcd"}

	ours := make([]*server, 2)
	for i := range ours {
		ours[i] = w.publish(fmt.Sprintf("old %d", i), plain,
			runtime.WithInstance(fmt.Sprintf("order-service-%d", i)))
	}

	calls := w.load("our client", w.conn(json))
	calls.Reaches("old 0", "old 1")

	for i, old := range ours {
		w.publish(fmt.Sprintf("new %d", i), json,
			runtime.WithInstance(fmt.Sprintf("order-service-%d", i)), runtime.WithVersion("v2"))
		old.stop()
	}

	calls.Reaches("new 0", "new 1")
	calls.Stop()

	for _, e := range w.entries("/etcd/") {
		if !strings.Contains(e.value, `"version":"v2"`) {
			t.Errorf("etcd has the entry %+v, want only entries of version v2", e)
		}
	}
}
