package registration

import (
	"context"
	"sync"
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

// TestRestoredFromABackup restores a backup with keys and the lease of the process. No key is missing
// then, but any may have an old value.
func TestRestoredFromABackup(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	v1, v2 := runtime.WithVersion("v1"), runtime.WithVersion("v2")
	updated, closed, paused, resumed := w.register("svc/updated", addr(0), v1), w.register("svc/closed", addr(0), v1),
		w.register("svc/paused", addr(0), v1), w.register("svc/resumed", addr(0), v1)
	ctx := kit.Bounded(t, 2*kit.Soon)
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
	kit.Must(t, predecessor.Close(kit.Bounded(t, kit.Soon)))
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
		t.Errorf("%d conflicts with the dead predecessor, want none: %v", n, w.logs.Lines())
	}
}

// busy sends other requests with the client until the test ends.
func busy(t *testing.T, client *clientv3.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	asking.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			call, done := context.WithTimeout(ctx, 500*time.Millisecond)
			_, _ = client.Get(call, "unrelated") // fails at the black hole
			done()
			<-tick.C
		}
	})
	t.Cleanup(func() {
		cancel()
		asking.Wait()
	})
}

// A member becomes a black hole for clients with other traffic, so that the connection's keepalive
// does not notice. The other two members are healthy.
func TestOneMemberIsABlackHole(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, []etcdtest.Option{etcdtest.WithMembers(3)})
	const processes, ttl = 3, 3 * time.Second
	var all []*runtime.Registration
	for i := range processes { // each has a stream of renewals at another member
		client := w.etcd.Client(t)
		busy(t, client)
		all = append(all, register(t, w.newRegistry(client, runtime.WithLeaseTTL(ttl)), service(i), addr(0)))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	gone := w.etcd.Admin().Watch(ctx, "svc/", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	<-gone
	calls := w.etcd.Calls()
	kit.Must(t, calls.Wait(kit.Bounded(t, kit.Soon), etcdtest.LeaseKeepAlive, "", 2*processes))
	var member *etcdtest.Member
	for _, call := range calls.All() {
		if call.Op == etcdtest.LeaseKeepAlive {
			member = w.etcd.Member(call.Member)
		}
	}
	member.Pause()
	calls.Reset()
	kit.Must(t, calls.Wait(kit.Bounded(t, 4*kit.Soon), etcdtest.LeaseKeepAlive, "", 8*processes)) // three renewals in the life of a lease
	member.Resume()
	for _, g := range all {
		w.state(g, runtime.StateRegistered)
	}
	w.put("svc/end", "x")
	w.delete("svc/end")
	n := 0
	for end := false; !end; {
		answer, ok := <-gone
		if !ok {
			t.Fatal("the watch of the test ended, want its events")
		}
		for _, event := range answer.Events {
			if end = string(event.Kv.Key) == "svc/end"; !end {
				n++
				t.Errorf("%s was deleted, want it kept", event.Kv.Key)
			}
		}
	}
}

// watchStreams counts the goroutines that serve watch streams in the etcd client.
func watchStreams() int { return len(leak.In("go.etcd.io/etcd/client/v3.(*watchG")) }

// connection waits until the connection to etcd is up, or down.
func connection(t *testing.T, conn *grpc.ClientConn, up bool) {
	t.Helper()
	ctx := kit.Bounded(t, kit.Soon)
	for state := conn.GetState(); (state == connectivity.Ready) != up; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			t.Fatalf("the connection stays %s, want it ready: %v", state, up)
		}
	}
}

// A server watches its own keys after each reconnect, and leaves none of the earlier watches.
func TestReconnectsLeaveNoWatch(t *testing.T) {
	w := newWorld(t, nil)
	g := w.register(key, addr(0))
	calls := w.etcd.Calls()
	watching := func() {
		t.Helper()
		kit.Must(t, calls.Wait(kit.Bounded(t, kit.Soon), etcdtest.Watch, "", 1))
	}
	watching()
	one := 0
	kit.Eventually(t, kit.Soon, "a stream is served", func() bool { one = watchStreams(); return one > 0 })
	const reconnects = 12
	for i := range reconnects {
		calls.Reset()
		if i%3 == 2 {
			w.etcd.Pause() // etcd answers no request until the connection is cut
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
	kit.Eventually(t, kit.Soon, "the earlier streams end", func() bool { return watchStreams() <= one })
	w.delete(entry)
	kit.Eventually(t, kit.Soon, "the entry is put back", func() bool { return w.get(entry) != nil })
}
