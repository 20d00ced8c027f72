package discovery

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestInstancesHeldAtTheirOldAddress has the sole instance vanish and come back elsewhere: what calls
// name is the new address.
func TestInstancesHeldAtTheirOldAddress(t *testing.T) {
	w := newWorld(t, nil)
	first := w.register(w.serve("a"))
	w.register(w.serve("b"))
	i, conn := w.instances(), w.conn()
	if _, err := ask(kit.Bounded(t, soon), i); err != nil {
		t.Fatal(err)
	}
	reached(t, conn, soon, "a", "b")
	if _, err := w.etcd.Admin().Delete(kit.Bounded(t, soon), key+"/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	kit.Eventually(t, soon, "none is left", func() bool { all, _ := i.All(kit.Bounded(t, soon)); return len(all) == 0 })
	reached(t, conn, soon, "a", "b")
	first.stop()
	w.register(w.serve("a"))
	kit.Eventually(t, soon, "a is called", func() bool {
		names, err := ask(kit.Bounded(t, soon), i)
		return err == nil && fmt.Sprint(names) == "[a]"
	})
	if held := w.registry.Status().Keys[0].Held; held != 1 {
		t.Errorf("%d endpoints are held, want b alone, for a is back at another address", held)
	}
	if got, err := call(runtime.WithTarget(kit.Bounded(t, soon), "a"), conn); err != nil || got != "a" {
		t.Errorf("a target: %q, %v", got, err)
	}
	if got, err := call(runtime.WithTarget(kit.Bounded(t, soon), "b"), conn); err != nil || got != "b" {
		t.Errorf("a held target: %q, %v", got, err)
	}
}
