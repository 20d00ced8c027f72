package harm

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// serverRow is an environment in which both sides keep entries in etcd.
type serverRow struct {
	name    string
	entries int            // of each side; 0: 1
	layout  runtime.Layout // of ours; nil: the default
	ttl     time.Duration  // 0: a minute, so that entries left behind are seen
	slow    time.Duration  // of grants and writes
	begin   func(w *serverWorld)
	fault   func(w *serverWorld) // both sides have their entries in etcd
}

func (r serverRow) life() time.Duration {
	if r.ttl == 0 {
		return time.Minute
	}
	return r.ttl
}

// serverRows are the environments. None may take an entry out of etcd, or write one that nobody touches, more often than it does
// plain code's.
var serverRows = []serverRow{
	{name: "nothing happens", entries: 20},
	{name: "grants and writes take 1 s", slow: time.Second},
	{name: "grants and writes take 3.5 s (G41)", slow: 3500 * time.Millisecond},
	{name: "grants and writes take 6 s (G41)", slow: 6 * time.Second},

	{name: "a stall of 2 s", entries: 20, fault: serverStall(2 * time.Second)},
	{name: "a stall of 4 s (G43)", entries: 200, fault: serverStall(4 * time.Second)},
	{name: "a stall of 4 s, and keys named by the lease (G43)", entries: 200, layout: runtime.GoZero, fault: serverStall(4 * time.Second)},
	{name: "a stall of 6 s", entries: 200, fault: serverStall(6 * time.Second)},
	{name: "a stall longer than the lease", entries: 20, ttl: 3 * time.Second, fault: serverStall(8 * time.Second)},
	{name: "a stall before the start", begin: func(w *serverWorld) {
		w.etcd.Pause()
		w.later(4*time.Second, w.etcd.Resume)
	}},

	{name: "connections are cut for 1 s", entries: 20, fault: func(w *serverWorld) {
		w.etcd.Cut()
		time.Sleep(time.Second)
		w.etcd.Restore()
	}},
	{name: "connections are cut again and again", entries: 20, fault: func(w *serverWorld) {
		for range 10 {
			w.etcd.Cut()
			time.Sleep(50 * time.Millisecond)
			w.etcd.Restore()
			time.Sleep(50 * time.Millisecond)
		}
	}},
	{name: "etcd starts after the servers", begin: func(w *serverWorld) {
		w.etcd.Cut()
		w.later(2*time.Second, w.etcd.Restore)
	}},
	{name: "etcd restarts", entries: 20, fault: func(w *serverWorld) { w.try(w.etcd.Restart()) }},
	{name: "etcd restarts three times", entries: 20, fault: func(w *serverWorld) {
		for range 3 {
			w.try(w.etcd.Restart())
		}
	}},
	{name: "etcd is wiped", entries: 20, ttl: 5 * time.Second, fault: func(w *serverWorld) {
		w.ours.wiped()
		w.plain.wiped()
		w.try(w.etcd.Wipe())
		w.watch()
	}},
	{name: "the lease is revoked", entries: 20, ttl: 5 * time.Second, fault: func(w *serverWorld) {
		for _, s := range []*serverSide{w.ours, w.plain} {
			s.mu.Lock()
			granted := s.granted
			s.mu.Unlock()
			for _, id := range granted {
				_, _ = w.etcd.Admin().Revoke(kit.Bounded(w.T, serversSoon), id) // it may have expired on a busy machine
			}
			kit.Eventually(w.T, serversSoon, "the entries have gone, and are back", func() bool {
				return s.changes() >= 2*w.row.entries && s.has() == w.row.entries
			})
		}
	}},
	{name: "etcd is full while an entry is paused (G42)", fault: func(w *serverWorld) {
		w.full(true)
		ctx := kit.Bounded(w.T, serversSoon)
		if err := w.entries[0].Pause(ctx); err == nil || !strings.Contains(err.Error(), "space") {
			w.Errorf("Pause while etcd is full: %v", err)
		}
		w.try(w.entries[0].Resume(ctx))
		w.bothThere("while etcd is full")
		w.full(false)
	}},
	{name: "etcd is full while an entry without a mark is paused (G42)", layout: runtime.GoZero, fault: func(w *serverWorld) {
		w.full(true)
		ctx := kit.Bounded(w.T, serversSoon)
		if err := w.entries[0].Pause(ctx); err == nil {
			w.Error("paused while etcd is full")
		}
		w.try(w.entries[0].Resume(ctx))
		w.bothThere("while etcd is full")
		w.full(false)
	}},
	{name: "etcd is full during a blip of health (G42)", fault: func(w *serverWorld) {
		server := w.registry.NewServer(grpc.NewServer())
		checks := health.NewServer()
		healthpb.RegisterHealthServer(server, checks)
		server.Publish(&runtime.ServiceDesc{Name: "acme.Blip", Key: "blip"})
		ctx := kit.Bounded(w.T, serversSoon)
		w.try(server.Announce(ctx, "10.0.0.2:9000"))
		out := w.etcd.Admin().Watch(ctx, "blip/", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
		<-out
		w.full(true)
		checks.SetServingStatus("acme.Blip", healthpb.HealthCheckResponse_NOT_SERVING)
		kit.Eventually(w.T, serversSoon, "the status says that the entry stays", func() bool { return server.Status()[0].Err != nil })
		checks.SetServingStatus("acme.Blip", healthpb.HealthCheckResponse_SERVING)
		kit.Eventually(w.T, serversSoon, "it is registered", func() bool { return server.Status()[0].Err == nil })
		if st := server.Status()[0]; st.State != runtime.StateRegistered {
			w.Errorf("after the blip: %s", st.State)
		}
		w.full(false)
		w.try(server.Withdraw(ctx))
		if answer := <-out; len(answer.Events) != 1 {
			w.Errorf("%d deletions, want that of Withdraw alone", len(answer.Events))
		}
	}},
	{name: "others come and go", entries: 20, fault: func(w *serverWorld) { w.churn(150, nil) }},
	{name: "others with keys named by the lease come and go", entries: 20, layout: runtime.GoZero, fault: func(w *serverWorld) { w.churn(150, runtime.GoZero) }},
	{name: "etcd is away for 20 s (G46)", ttl: 10 * time.Minute, fault: func(w *serverWorld) {
		w.etcd.Cut()
		var said error
		kit.Eventually(w.T, serversSoon, "the status says since when", func() bool {
			said = w.entries[0].Status().Err
			return said != nil && strings.Contains(said.Error(), "was last renewed at")
		})
		kit.Eventually(w.T, serversSoon, "and so does a line", func() bool { return w.logs.Count("was last renewed at") == 1 })
		if st := w.entries[0].Status(); st.State != runtime.StateRegistered {
			w.Errorf("%s (%v)", st.State, said)
		}
		w.etcd.Restore()
		kit.Eventually(w.T, serversSoon, "it is renewed", func() bool { return w.entries[0].Status().Err == nil })
	}},
}

// TestServers has ours and plain code keep entries in one etcd, under the same faults.
func TestServers(t *testing.T) {
	for _, row := range serverRows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newServerWorld(t, row)
			if row.fault != nil {
				row.fault(w)
			}
			w.judge()
		})
	}
}

// serverStall has etcd hear nothing for a while, in which each side writes one more entry.
func serverStall(d time.Duration) func(*serverWorld) {
	return func(w *serverWorld) {
		ctx := kit.Bounded(w.T, serversSoon)
		one, err := w.registry.Register(ctx, "ours/touched", runtime.Endpoint{Addr: "10.0.0.1:9000"})
		w.try(err)
		w.etcd.Pause()
		var writing sync.WaitGroup
		writing.Go(func() { _ = one.Update(ctx, runtime.WithVersion("v2")) })
		writing.Go(func() { _, _ = w.plain.client.Put(ctx, "plain/touched", "10.0.0.1:9000") })
		time.Sleep(d)
		w.etcd.Resume()
		writing.Wait()
	}
}

// churn has ours register and close entries while others stay.
func (w *serverWorld) churn(n int, layout runtime.Layout) {
	ctx := kit.Bounded(w.T, serversSoon)
	var opts []runtime.RegisterOption
	if layout != nil {
		opts = append(opts, runtime.WithLayouts(layout))
	}
	for i := range n {
		one, err := w.registry.Register(ctx, fmt.Sprintf("ours/touched%d", i), runtime.Endpoint{Addr: "10.0.0.1:9000"}, opts...)
		w.try(err)
		w.try(one.Close(ctx))
	}
}

// full has etcd have no space, or space again.
func (w *serverWorld) full(full bool) { w.try(w.etcd.SetNoSpace(kit.Bounded(w.T, serversSoon), full)) }

// later does something after a while, in the background.
func (w *serverWorld) later(d time.Duration, do func()) {
	var running sync.WaitGroup
	running.Go(func() {
		time.Sleep(d)
		do()
	})
	w.Cleanup(running.Wait)
}

func (w *serverWorld) try(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// changes returns how often the entries of a side have been put and deleted.
func (s *serverSide) changes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.puts + s.deletes
}

// wiped forgets the entries of a side: etcd has none any more.
func (s *serverSide) wiped() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.there)
	s.granted = nil
}
