package registration

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestRestoredFromABackup restores a backup with the lease of the process and
// its keys of that time. The process must put its present keys, and delete the
// keys of registrations that it has closed or paused.
func TestRestoredFromABackup(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	v1 := runtime.WithVersion("v1")
	v2 := runtime.WithVersion("v2")
	updated := w.register("svc/updated", addr(0), v1)
	closed := w.register("svc/closed", addr(0), v1)
	paused := w.register("svc/paused", addr(0), v1)
	resumed := w.register("svc/resumed", addr(0), v1)
	ctx := kit.Bounded(t, 2*kit.Soon)
	kit.Must(t, resumed.Pause(ctx))
	backup, err := w.etcd.Backup()
	kit.Must(t, err)

	kit.Must(t, updated.Update(ctx, v2))
	kit.Must(t, closed.Close(ctx))
	kit.Must(t, paused.Pause(ctx))
	kit.Must(t, resumed.Resume(ctx))
	w.register("svc/new", addr(0), v2)

	want := contents{
		"svc/updated/" + addr(0): "v2",
		"svc/resumed/" + addr(0): "v1",
		"svc/new/" + addr(0):     "v2",
	}

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
	w.is("svc/", want, "after Resume and Close")
	kit.Must(t, w.registry.Close(ctx))
	w.nothing("after Close")
}

// The restored backup is older than the process. In it the entry is that of a
// predecessor, on a lease that lives on (G21).
func TestRestoredFromAPredecessorsBackup(t *testing.T) {
	w := newWorld(t, nil)
	predecessor := w.newRegistry(w.etcd.Client(t))
	was := register(t, predecessor, key, addr(0), runtime.WithVersion("v1")).Status().LeaseID
	backup, err := w.etcd.Backup()
	kit.Must(t, err)
	kit.Must(t, predecessor.Close(kit.Context(t)))
	g := w.register(key, addr(0), runtime.WithVersion("v2"))
	w.etcd.Cut()
	kit.Must(t, w.etcd.RestoreBackup(backup))

	if got := w.get(entry); got == nil || got.lease != was {
		t.Fatalf("restored entry: %+v, want it on lease %x", got, was)
	}

	w.etcd.Restore()
	w.becomes(key, contents{entry: "v2"}, "after the restore")
	w.state(g, runtime.StateRegistered)

	if n := w.logs.Count("state=conflict"); n > 0 {
		t.Errorf("%d log lines about a conflict with the closed predecessor, want none: %v", n,
			w.logs.Lines())
	}
}

// One of three members becomes a black hole. The leases end before the
// keepalive of a connection detects that. No entry may be lost.
func TestOneMemberIsABlackHole(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, []etcdtest.Option{etcdtest.WithMembers(3)})
	const processes = 3

	var all []*runtime.Registration
	for i := range processes { // each renews its lease
		r := w.newRegistry(w.etcd.Client(t), runtime.WithLeaseTTL(3*time.Second))
		all = append(all, register(t, r, service(i), addr(0)))
	}

	check := w.untouched("svc/", clientv3.WithFilterPut())
	calls := w.etcd.Calls()
	kit.Must(t, calls.Wait(kit.Context(t), etcdtest.LeaseKeepAlive, "", 2*processes))

	var member *etcdtest.Member
	for _, call := range calls.All() {
		if call.Op == etcdtest.LeaseKeepAlive {
			member = w.etcd.Member(call.Member)
		}
	}

	member.Pause()
	calls.Reset()

	// a process makes three renewals in a TTL
	kit.Must(t, calls.Wait(kit.Bounded(t, 4*kit.Soon), etcdtest.LeaseKeepAlive, "", 8*processes))
	member.Resume()

	for _, g := range all {
		w.state(g, runtime.StateRegistered)
	}

	check()
}

// untouched watches the keys that begin with prefix. check fails the test for
// each change of them since the call of untouched.
func (w *world) untouched(prefix string, opts ...clientv3.OpOption) (check func()) {
	w.t.Helper()

	events := w.etcd.Admin().Watch(kit.Bounded(w.t, 10*kit.Soon), prefix,
		append(opts, clientv3.WithPrefix(), clientv3.WithCreatedNotify())...)
	<-events

	return func() {
		w.t.Helper()

		w.put(prefix+"end", "x")
		w.delete(prefix + "end")

		for answer := range events {
			for _, event := range answer.Events {
				if string(event.Kv.Key) == prefix+"end" {
					return
				}

				w.t.Errorf("%v of %s, want no change", event.Type, event.Kv.Key)
			}
		}

		w.t.Error("the watch ended, want a change of " + prefix + "end")
	}
}

// While etcd stalls, connections are cut, or one entry comes and goes, a
// process neither writes nor deletes its other entries. Keys of GO_ZERO end in
// the lease, so they would change if the entries moved to another lease.
func TestOtherEntries_AreUntouched(t *testing.T) {
	for name, fault := range map[string]func(w *world, other func() *runtime.Registration){
		"a stall of 4 s": func(w *world, other func() *runtime.Registration) {
			g := other()
			written := make(chan error, 1)
			w.etcd.Pause()
			go func() { written <- g.Update(kit.Context(w.t), runtime.WithVersion("v2")) }()
			time.Sleep(4 * time.Second)
			w.etcd.Resume()

			if err := <-written; err != nil {
				w.t.Logf("Update during the stall: %v", err)
			}
		},
		"connections are cut again and again": func(w *world, _ func() *runtime.Registration) {
			for range 10 {
				w.etcd.Cut()
				time.Sleep(50 * time.Millisecond)
				w.etcd.Restore()
				time.Sleep(50 * time.Millisecond)
			}
		},
		"another entry comes and goes": func(w *world, other func() *runtime.Registration) {
			for range 150 {
				kit.Must(w.t, other().Close(kit.Context(w.t)))
			}
		},
	} {
		for _, layout := range []runtime.Layout{runtime.EndpointJSON, runtime.GoZero} {
			t.Run(fmt.Sprint(name, ", ", layout), func(t *testing.T) {
				leak.Parallel(t)

				w := newWorld(t, nil, runtime.WithLeaseTTL(time.Minute))
				for i := range 200 {
					w.register(fmt.Sprintf("kept/%03d", i), addr(0), runtime.WithLayouts(layout))
				}

				check := w.untouched("kept/")
				other := func() *runtime.Registration {
					return w.register("other", addr(0), runtime.WithLayouts(layout))
				}
				fault(w, other)
				w.register("last", addr(0)) // after what the fault makes the process write
				check()
			})
		}
	}
}

// watchStreams returns the number of goroutines in which etcd clients serve
// watch streams.
func watchStreams() int {
	return len(leak.In("go.etcd.io/etcd/client/v3.(*watchG"))
}

// connection waits until the connection is ready, or, if up is false, until it
// is not ready.
func connection(t *testing.T, conn *grpc.ClientConn, up bool) {
	t.Helper()

	ctx := kit.Context(t)
	for state := conn.GetState(); (state == connectivity.Ready) != up; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			t.Fatalf("the state of the connection stays %s, want Ready: %v", state, up)
		}
	}
}

// After each reconnect, a process watches its own keys again. The goroutines of
// earlier watches end.
func TestReconnectsLeaveNoWatch(t *testing.T) {
	w := newWorld(t, nil)
	g := w.register(key, addr(0))
	calls := w.etcd.Calls()
	watching := func() {
		t.Helper()
		kit.Must(t, calls.Wait(kit.Context(t), etcdtest.Watch, "", 1))
	}

	watching()
	one := 0
	kit.Eventually(t, "the client serves a watch stream", func() bool {
		one = watchStreams()
		return one > 0
	})

	const reconnects = 12
	for i := range reconnects {
		calls.Reset()

		if i%3 == 2 {
			w.etcd.Pause() // the request for a watch stays unanswered until Cut
		}

		if i%3 != 0 {
			w.delete(entry)
		}

		w.etcd.Cut()
		connection(t, w.client.ActiveConnection(), false)
		w.etcd.Resume()
		w.etcd.Restore()
		connection(t, w.client.ActiveConnection(), true)
		watching()
	}

	w.state(g, runtime.StateRegistered)
	kit.Eventually(t, "the goroutines of earlier watch streams have ended", func() bool {
		return watchStreams() <= one
	})
	w.delete(entry)
	kit.Eventually(t, "the entry is put back", func() bool { return w.get(entry) != nil })
}
