package registration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const entry = key + "/" + "10.0.0.1:9000"

func TestRegister(t *testing.T) {
	w := newWorld(t, nil)
	g := w.register(key, addr(0), runtime.WithVersion("v1"), runtime.WithMetadata("k", "v"))
	got := w.get(entry)
	if got == nil || got.value != `{"Op":0,"Addr":"10.0.0.1:9000","Metadata":{"k":"v","version":"v1"}}` || got.lease != g.Status().LeaseID {
		t.Fatalf("in etcd: %+v, want it on lease %x", got, g.Status().LeaseID)
	}
	must(t, g.Close(kit.Bounded(t, soon)))
	if keys, leases := w.keys(""), w.leases(); len(keys)+len(leases) > 0 {
		t.Errorf("left after Close: keys %v, leases %v", keys, leases)
	}
	if st := g.Status(); st.State != runtime.StateClosed || st.LeaseID != 0 {
		t.Errorf("status after Close: %+v", st)
	}
	if err := g.Close(kit.Bounded(t, soon)); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := g.Update(kit.Bounded(t, soon)); err == nil {
		t.Error("Update after Close succeeded")
	}
}

func TestG1_LeaseRevoked(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	g := w.register(key, addr(0))
	for range 3 {
		was := g.Status().LeaseID
		w.revoke(was)
		took := w.there(entry, was)
		report.Took(t, "G1", "back after the lease was revoked", took)
		w.state(g, runtime.StateRegistered)
	}
	kit.Eventually(t, soon, "one lease", func() bool { return len(w.leases()) == 1 })
}

// As many services as are not watched one by one.
func TestG1_LeaseOfManyRevoked(t *testing.T) {
	kit.Night(t)
	w := newWorld(t, nil)
	var g *runtime.Registration
	for i := range 20 {
		g = w.register(key+addr(i), addr(i))
	}
	was := g.Status().LeaseID
	w.revoke(was)
	took := kit.Eventually(t, soon, "all keys back", func() bool { return len(w.keys(key)) == 20 })
	report.Took(t, "G1", "20 services back after the lease was revoked", took)
}

func TestG1_Expired(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	w := newWorld(t, nil, runtime.WithLeaseTTL(time.Second))
	g := w.register(key, addr(0))
	was := g.Status().LeaseID
	w.etcd.Cut()
	kit.Eventually(t, soon, "expiry", func() bool { return len(w.keys("")) == 0 })
	w.state(g, runtime.StateLost)
	if st := g.Status(); st.Err == nil {
		t.Error("nothing says why the registration is lost")
	}
	w.etcd.Restore()
	took := w.there(entry, was)
	report.Took(t, "G1", "back after an outage longer than the TTL", took)
	w.state(g, runtime.StateRegistered)
	kit.Eventually(t, soon, "one lease", func() bool { return len(w.leases()) == 1 })
}

// Nothing is answered and nothing is refused: a black hole.
func TestG1_BlackHole(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	w := newWorld(t, nil, runtime.WithLeaseTTL(time.Second))
	g := w.register(key, addr(0))
	was := g.Status().LeaseID
	w.etcd.Pause()
	kit.Eventually(t, soon, "expiry", func() bool { return len(w.keys("")) == 0 })
	w.state(g, runtime.StateLost)
	w.etcd.Resume()
	took := w.there(entry, was)
	report.Took(t, "G1", "back after a black hole longer than the TTL", took)
	kit.Eventually(t, soon, "one lease", func() bool { return len(w.leases()) == 1 })
}

// The member that the lease is renewed at dies with its power as the leader.
func TestG1_LeaderDies(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	w := newWorld(t, []etcdtest.Option{etcdtest.WithMembers(3)}, runtime.WithLeaseTTL(2*time.Second))
	g := w.register(key, addr(0))
	leader, err := w.etcd.Leader(kit.Bounded(t, soon))
	must(t, err)
	leader.Stop()
	kit.Eventually(t, soon, "another leader", func() bool {
		next, err := w.etcd.Leader(kit.Bounded(t, soon))
		return err == nil && next != leader
	})
	kit.Eventually(t, soon, "registered", func() bool {
		got := w.get(entry)
		return got != nil && g.Status().State == runtime.StateRegistered && got.lease == g.Status().LeaseID
	})
	must(t, g.Close(kit.Bounded(t, soon)))
	if keys := w.keys(""); len(keys) > 0 {
		t.Errorf("left after Close: %v", keys)
	}
}

func TestG2_KeyDeleted(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	w := newWorld(t, nil)
	g := w.register(key, addr(0))
	id := g.Status().LeaseID
	for range 4 {
		w.delete(entry)
		took := kit.Eventually(t, soon, "put back", func() bool { return w.get(entry) != nil })
		report.Took(t, "G2", "own key back after it was deleted", took)
	}
	if got := w.get(entry); got.lease != id {
		t.Errorf("put back on lease %x, was %x", got.lease, id)
	}
}

// The wiped etcd's revision is lower than the one that the server's watch is at.
func TestG2_DeletedAfterWipe(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	g := w.register(key, addr(0))
	for range 100 {
		w.put("unrelated", "x")
	}
	w.put(entry, "x", clientv3.WithLease(g.Status().LeaseID)) // heard, so the watch is beyond all of that
	must(t, w.etcd.Wipe())
	was := g.Status().LeaseID
	w.there(entry, was)
	kit.Eventually(t, soon, "registered", func() bool {
		st := g.Status()
		return st.State == runtime.StateRegistered && st.LeaseID != was
	})
	w.etcd.Calls().Reset()
	if err := w.etcd.Calls().Wait(kit.Bounded(t, soon), etcdtest.Txn, "", 1); err != nil {
		t.Fatal(err) // so that no check of the keys is due for another reason
	}
	w.delete(entry)
	took := kit.Eventually(t, soon, "put back", func() bool { return w.get(entry) != nil })
	report.Took(t, "G2", "own key back after it was deleted in a wiped etcd", took)
	// A check that came by chance may have put it back. The next is 5 s away.
	w.delete(entry)
	if again := kit.Eventually(t, soon, "put back again", func() bool { return w.get(entry) != nil }); again > 3*time.Second {
		t.Errorf("put back again after %v, as by a check", again)
	}
}

func TestG2_KeyOfManyDeleted(t *testing.T) {
	kit.Night(t)
	w := newWorld(t, nil)
	for i := range 20 {
		w.register(key+addr(i), addr(i))
	}
	w.delete(key + addr(7) + "/" + addr(7))
	took := kit.Eventually(t, soon, "put back", func() bool { return len(w.keys(key)) == 20 })
	report.Took(t, "G2", "one of 20 own keys back after it was deleted", took)
}

// failingLease is a Lease whose KeepAlive channels can be closed as by a client that gives up.
type failingLease struct {
	clientv3.Lease
	halt chan struct{}
}

func (l *failingLease) KeepAlive(ctx context.Context, id clientv3.LeaseID) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	in, err := l.Lease.KeepAlive(ctx, id)
	if err != nil {
		cancel()
		return nil, err
	}
	out := make(chan *clientv3.LeaseKeepAliveResponse)
	go func() {
		defer cancel()
		defer close(out)
		for {
			select {
			case resp, ok := <-in:
				if !ok {
					return
				}
				select {
				case out <- resp: // blocks unless drained
				case <-ctx.Done():
					return
				}
			case <-l.halt:
				return
			}
		}
	}()
	return out, nil
}

func TestG3_KeepAliveEnds(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	client := w.etcd.Client(t)
	halt := make(chan struct{})
	client.Lease = &failingLease{client.Lease, halt}
	r := w.newRegistry(client)
	g := register(t, r, key, addr(0))
	events := w.etcd.Admin().Watch(kit.Bounded(t, soon), entry)
	for range 3 {
		was := g.Status().LeaseID
		halt <- struct{}{}
		took := w.there(entry, was)
		report.Took(t, "G3", "on a new lease after the keepalive ended", took)
		kit.Eventually(t, soon, "the old lease revoked", func() bool {
			leases := w.leases()
			return len(leases) == 1 && leases[0] != was
		})
		w.state(g, runtime.StateRegistered)
	}
	for moves := 0; moves < 3; {
		for _, event := range (<-events).Events {
			if event.Type == clientv3.EventTypeDelete {
				t.Error("the key was gone in between")
			}
			moves++
		}
	}
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
	start := time.Now()
	must(t, newer.Close(kit.Bounded(t, soon)))
	w.state(older, runtime.StateRegistered)
	report.Took(t, "G4", "older process back after the newer one left", time.Since(start))
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
	start := time.Now()
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
	report.Took(t, "G5", "300 services registered", time.Since(start))
	if n := len(w.leases()); n != 1 {
		t.Errorf("%d leases", n)
	}
	txns := w.etcd.Calls().Count("Txn", "")
	report.Count(t, "G5", "transactions for 300 services", txns)
	if txns > 50 {
		t.Errorf("%d transactions", txns)
	}
	start = time.Now()
	must(t, w.registry.Close(kit.Bounded(t, soon)))
	report.Took(t, "G5", "300 services withdrawn", time.Since(start))
	if keys, leases := w.keys(""), w.leases(); len(keys)+len(leases) > 0 {
		t.Errorf("left after Close: keys %v, leases %v", keys, leases)
	}
}

func TestG6_CloseRacesGrant(t *testing.T) {
	w := newWorld(t, nil)
	tries := 200
	if testing.Short() {
		tries = 20
	}
	for i := range tries {
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
	if keys, leases := w.keys(""), w.leases(); len(keys)+len(leases) > 0 {
		t.Errorf("left after %d tries: keys %v, leases %v", tries, keys, leases)
	}
	report.Count(t, "G6", fmt.Sprintf("keys and leases left after %d tries", tries), len(w.keys(""))+len(w.leases()))
}

func TestG6_RegisterGivesUp(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	w := newWorld(t, nil)
	w.register("another", addr(9)) // the lease stays
	for i := range 100 {
		ctx, cancel := context.WithCancel(context.Background())
		w.etcd.Calls().Reset()
		go func() {
			defer cancel()
			if i%2 == 0 {
				_ = w.etcd.Calls().Wait(kit.Bounded(t, soon), "Txn", "", 1)
			}
		}()
		g, err := w.registry.Register(ctx, key, runtime.Endpoint{Addr: addr(0)})
		if err == nil {
			must(t, g.Close(kit.Bounded(t, soon)))
		} else if !errors.Is(err, context.Canceled) {
			t.Fatalf("try %d: %v", i, err)
		}
		// What was on its way when the context ended is taken out behind the call.
		kit.Eventually(t, soon, "nothing left behind", func() bool { return len(w.keys(key)) == 0 })
	}
}

func TestG13_Update(t *testing.T) {
	w := newWorld(t, nil)
	g := w.register(key, addr(0), runtime.WithVersion("v1"))
	before := w.get(entry)
	start := time.Now()
	must(t, g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2"), runtime.WithWeight(7)))
	report.Took(t, "G13", "an update in etcd after", time.Since(start))
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

func TestPause(t *testing.T) {
	w := newWorld(t, nil)
	g := w.register(key, addr(0), runtime.WithVersion("v1"))
	for range 2 {
		must(t, g.Pause(kit.Bounded(t, soon)))
		if keys := w.keys(""); len(keys) > 0 || g.Status().State != runtime.StatePaused {
			t.Errorf("paused: %v, %+v", keys, g.Status())
		}
		kit.Eventually(t, soon, "no empty lease is left", func() bool { return len(w.leases()) == 0 })
	}
	must(t, g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2")))
	if keys := w.keys(""); len(keys) > 0 {
		t.Errorf("an update while paused put %v", keys)
	}
	for range 2 {
		must(t, g.Resume(kit.Bounded(t, soon)))
		if got := w.get(entry); got == nil || !strings.Contains(got.value, "v2") {
			t.Errorf("resumed: %+v", got)
		}
	}
	w.register("another", addr(1)) // the lease stays
	must(t, g.Pause(kit.Bounded(t, soon)))
	w.revoke(g.Status().LeaseID)
	must(t, g.Resume(kit.Bounded(t, soon)))
	if got := w.get(entry); got == nil {
		t.Error("not resumed after the lease was lost in a pause")
	}
}
