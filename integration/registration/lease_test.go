package registration

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const entry = key + "/" + "10.0.0.1:9000"

// TestG1_LeaseRevoked has one service and then twenty, as many as are not watched one by one.
func TestG1_LeaseRevoked(t *testing.T) {
	leak.Beside(t)
	for _, n := range []int{1, 20} {
		w := newWorld(t, nil)
		all, want := w.services(w.registry, n)
		for range 3 {
			was := all[0].Status().LeaseID
			w.revoke(was)
			w.there(service(0)+"/"+addr(0), was)
			w.becomes("svc/", want, "on another lease")
			for _, g := range all {
				w.state(g, runtime.StateRegistered)
			}
		}
		kit.Eventually(t, soon, "one lease", func() bool { return len(w.leases()) == 1 })
	}
}

// TestCloseGoesOnTrying closes a registration with a lease of its own while etcd is away for longer than Close waits.
func TestCloseGoesOnTrying(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil, runtime.WithLeaseTTL(time.Hour))
	layouts := runtime.WithLayouts(runtime.LeaseSuffix)
	w.register("acme/legacy", addr(0), layouts)
	kept := w.values("acme/legacy")
	g := w.register("acme/legacy", addr(1), layouts)
	w.etcd.Cut()
	if err := g.Close(t.Context()); err == nil {
		t.Error("Close says that the entry is out of etcd, which is away")
	}
	w.etcd.Restore()
	kit.Eventually(t, soon, "the entry is out of etcd", func() bool { return maps.Equal(w.values("acme/legacy"), kept) })
}

// TestG2_DeletedAfterWipe deletes a server's key, and again in a wiped etcd, whose revision is lower than the one that the
// server's watch was at.
func TestG2_DeletedAfterWipe(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	g := w.register(key, addr(0))
	deleted := func() {
		t.Helper()
		w.delete(entry)
		kit.Eventually(t, soon, "put back", func() bool { return w.get(entry) != nil })
	}
	deleted()
	for range 100 {
		w.put("unrelated", "x")
	}
	was := g.Status().LeaseID
	w.put(entry, "x", clientv3.WithLease(was))
	w.becomes(entry, contents{entry: addr(0)}, "after it was overwritten, so the watch is beyond all of that")
	w.etcd.Calls().Reset()
	must(t, w.etcd.Wipe())
	w.there(entry, was)
	kit.Eventually(t, soon, "watched from a revision that the wiped etcd has", func() bool {
		now := w.get(entry).rev
		return slices.ContainsFunc(w.etcd.Calls().All(), func(call etcdtest.Call) bool {
			return call.Op == etcdtest.Watch && call.Key == entry && call.Revision <= now+1
		})
	})
	w.state(g, runtime.StateRegistered)
	deleted()
}

// failingLease is a Lease whose KeepAlive channels can be closed as by a client that gives up.
type failingLease struct {
	clientv3.Lease
	halt  chan struct{}
	begun chan struct{} // receives at each KeepAlive
}

func (l *failingLease) KeepAlive(ctx context.Context, id clientv3.LeaseID) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case l.begun <- struct{}{}:
		case <-ctx.Done():
		}
		select {
		case <-l.halt:
		case <-ctx.Done():
		}
	}()
	return l.Lease.KeepAlive(ctx, id)
}

func TestG3_KeepAliveEnds(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	client := w.etcd.Client(t)
	lease := &failingLease{client.Lease, make(chan struct{}), make(chan struct{})}
	client.Lease = lease
	g := register(t, w.newRegistry(client), key, addr(0))
	was := g.Status().LeaseID
	begun := func() {
		t.Helper()
		select {
		case <-lease.begun:
		case <-time.After(soon):
			t.Fatal("no keepalive was begun")
		}
	}
	begun()
	for range 3 {
		lease.halt <- struct{}{}
		begun()
	}
	if id := g.Status().LeaseID; id != was {
		t.Errorf("on lease %x, want %x", id, was)
	}
	w.state(g, runtime.StateRegistered)
}

func TestG4_NewerTakesOver(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	older := w.register(key, addr(0), runtime.WithVersion("old"))
	other := w.newRegistry(w.etcd.Client(t))
	newer := register(t, other, key, addr(0), runtime.WithVersion("new"))
	w.state(older, runtime.StateConflict)
	if st := older.Status(); st.Err == nil || !strings.Contains(st.Err.Error(), entry) {
		t.Errorf("error of the conflict: %v", st.Err)
	}
	rev := w.get(entry).rev
	// The older one looks again every 2 s. It leaves the key alone, also when it updates.
	w.etcd.Calls().Reset()
	if err := older.Update(kit.Bounded(t, soon), runtime.WithVersion("older")); err == nil {
		t.Error("an update of what another process holds succeeded")
	}
	must(t, w.etcd.Calls().Wait(kit.Bounded(t, soon), "Txn", "", 3))
	if got := w.get(entry); got.rev != rev {
		t.Errorf("fought: %+v", got)
	}
	// The newer one goes: the older is back.
	must(t, newer.Close(kit.Bounded(t, soon)))
	w.state(older, runtime.StateRegistered)
	if got := w.get(entry); !strings.Contains(got.value, "older") {
		t.Errorf("the older one is back as %s, without its update", got.value)
	}
}

// unheard is a watcher whose watches are open and never tell anything.
type unheard struct{ clientv3.Watcher }

func (unheard) Watch(ctx context.Context, _ string, _ ...clientv3.OpOption) clientv3.WatchChan {
	answers := make(chan clientv3.WatchResponse)
	context.AfterFunc(ctx, func() { close(answers) })
	return answers
}

// TestG4_OlderHasNotHeard has the older process write while it takes the key for its own: only the condition of the
// write keeps it from the newer one's key.
func TestG4_OlderHasNotHeard(t *testing.T) {
	for _, tt := range []struct {
		name    string
		layout  runtime.Layout
		write   func(ctx context.Context, older *runtime.Registration) error
		refused bool
	}{
		{"update", runtime.EndpointJSON, func(ctx context.Context, older *runtime.Registration) error {
			return older.Update(ctx, runtime.WithVersion("older"))
		}, true},
		{"mark and delete", runtime.EndpointJSON, func(ctx context.Context, older *runtime.Registration) error { return older.Close(ctx) }, false},
		{"delete", runtime.Plain, func(ctx context.Context, older *runtime.Registration) error { return older.Close(ctx) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			client := w.etcd.Client(t)
			client.Watcher = unheard{client.Watcher}
			deaf := w.newRegistry(client)
			older := register(t, deaf, key, addr(0), runtime.WithLayouts(tt.layout))
			register(t, deaf, "another", addr(0)) // so that the lease stays
			newer := w.register(key, addr(0), runtime.WithLayouts(tt.layout))
			want := *w.get(entry)
			if err := tt.write(kit.Bounded(t, soon), older); (err != nil) != tt.refused {
				t.Errorf("the error is %v", err)
			}
			if got := w.get(entry); got == nil || *got != want || newer.Status().State != runtime.StateRegistered {
				t.Errorf("the older one has made %+v of %+v", got, want)
			}
		})
	}
}

func TestG5_HundredServices(t *testing.T) {
	w := newWorld(t, nil)
	errs := make(chan error)
	for i := range 300 {
		go func() {
			_, err := w.registry.Register(kit.Bounded(t, soon), key+addr(i), runtime.Endpoint{Addr: addr(i)})
			errs <- err
		}()
	}
	for range 300 {
		must(t, <-errs)
	}
	kit.Eventually(t, soon, "few goroutines", func() bool { return len(leak.Ours()) <= 10 })
	if n := len(w.leases()); n != 1 {
		t.Errorf("%d leases", n)
	}
	txns := w.etcd.Calls().Count("Txn", "")
	if txns > 50 {
		t.Errorf("%d transactions", txns)
	}
	must(t, w.registry.Close(kit.Bounded(t, soon)))
	w.nothing("after Close")
}

func TestG6_CloseRacesGrant(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 20 {
		r := runtime.NewRegistry(w.client)
		registered := make(chan struct{})
		go func() {
			defer close(registered)
			_, err := r.Register(kit.Bounded(t, soon), key, runtime.Endpoint{Addr: addr(0)})
			if err != nil && !strings.Contains(err.Error(), "closed") {
				t.Errorf("try %d: Register: %v", i, err)
			}
		}()
		if i%2 == 0 {
			must(t, w.etcd.Calls().Wait(kit.Bounded(t, soon), "LeaseGrant", "", 1))
		}
		if err := r.Close(kit.Bounded(t, soon)); err != nil {
			t.Fatalf("try %d: Close: %v", i, err)
		}
		<-registered
		w.etcd.Calls().Reset()
	}
	leak.None(t)
	w.nothing("after all tries")
}

func TestG13_Update(t *testing.T) {
	w := newWorld(t, nil)
	g := w.register(key, addr(0), runtime.WithVersion("v1"))
	before := w.get(entry)
	must(t, g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2"), runtime.WithWeight(7)))
	const want = `{"Op":0,"Addr":"10.0.0.1:9000","Metadata":{"version":"v2","weight":7}}`
	after := w.get(entry)
	if after.lease != before.lease || after.value != want {
		t.Errorf("after Update: %+v, want the same lease and %s", after, want)
	}
	must(t, g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2")))
	if got := w.get(entry); got.rev != after.rev {
		t.Error("an update that changes nothing was written")
	}
	if err := g.Update(kit.Bounded(t, soon), runtime.WithInstance("other")); err == nil {
		t.Error("an update changed the instance")
	}
	if err := g.Update(kit.Bounded(t, soon), runtime.WithMetadata("zone", "z")); err == nil {
		t.Error("an update took a reserved name")
	}
	w.revoke(before.lease)
	w.there(entry, before.lease)
	if got := w.get(entry); got.value != want {
		t.Errorf("after a new registration: %s, want %s", got.value, want)
	}
}
