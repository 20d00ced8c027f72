package registration

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestRestoredFromABackup restores a backup with the lease of the process: no key seems lost, and each
// may be wrong.
func TestRestoredFromABackup(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	v1, v2 := runtime.WithVersion("v1"), runtime.WithVersion("v2")
	updated, closed, paused, resumed := w.register("svc/updated", addr(0), v1), w.register("svc/closed", addr(0), v1),
		w.register("svc/paused", addr(0), v1), w.register("svc/resumed", addr(0), v1)
	ctx := kit.Bounded(t, 2*soon)
	kit.Must(t, resumed.Pause(ctx))
	backup, err := w.etcd.Backup()
	kit.Must(t, err)

	kit.Must(t, updated.Update(ctx, v2))
	kit.Must(t, closed.Close(ctx))
	kit.Must(t, paused.Pause(ctx))
	kit.Must(t, resumed.Resume(ctx))
	w.register("svc/new", addr(0), v2)
	want := contents{"svc/updated/" + addr(0): "v2", "svc/resumed/" + addr(0): "v1", "svc/new/" + addr(0): "v2"}
	w.is("svc/", want, "before the restore")

	w.etcd.Cut()
	kit.Must(t, w.etcd.RestoreBackup(backup))
	w.etcd.Restore()
	w.becomes("svc/", want, "after the restore")
	w.state(updated, runtime.StateRegistered)
	w.state(paused, runtime.StatePaused)
	w.state(closed, runtime.StateClosed)

	kit.Must(t, paused.Resume(ctx))
	kit.Must(t, updated.Close(ctx))
	delete(want, "svc/updated/"+addr(0))
	want["svc/paused/"+addr(0)] = "v1"
	w.is("svc/", want, "later")
	kit.Must(t, w.registry.Close(ctx))
	w.nothing("after Close")
}

// The backup is older than the process, and has its predecessor's entry on a live lease (G21).
func TestRestoredFromAPredecessorsBackup(t *testing.T) {
	w := newWorld(t, nil)
	predecessor := w.newRegistry(w.etcd.Client(t))
	was := register(t, predecessor, key, addr(0), runtime.WithVersion("v1")).Status().LeaseID
	backup, err := w.etcd.Backup()
	kit.Must(t, err)
	kit.Must(t, predecessor.Close(kit.Bounded(t, soon)))
	g := w.register(key, addr(0), runtime.WithVersion("v2"))
	w.etcd.Cut()
	kit.Must(t, w.etcd.RestoreBackup(backup))
	if got := w.get(entry); got == nil || got.lease != was {
		t.Fatalf("restored: %+v, want it on lease %x", got, was)
	}
	w.etcd.Restore()
	w.becomes(key, contents{entry: "v2"}, "after the restore")
	w.state(g, runtime.StateRegistered)
	if n := w.logs.Count("state=conflict"); n > 0 {
		t.Errorf("%d conflicts with the process's own dead predecessor: %v", n, w.logs.Lines())
	}
}
