package registration

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const entry = key + "/" + "10.0.0.1:9000"

// TestEntries_AreRestored overwrites the entry of one service, and then of one
// among twenty, which are too many for a watch each (G1, G2, G18). It deletes
// the entry after a wipe: then etcd's revision is lower than that of the
// watches. TestWorstDay deletes all entries.
func TestEntries_AreRestored(t *testing.T) {
	leak.Parallel(t)

	for _, n := range []int{1, 20} {
		w := newWorld(t, nil)
		all, want := w.services(w.registry, n, "v1", runtime.WithVersion("v1"))
		first := service(0) + "/" + addr(0)
		w.put(first, `{"Addr":"10.6.6.6:666"}`, clientv3.WithIgnoreLease())
		w.becomes("svc/", want, "after the key was overwritten")

		was := all[0].Status().LeaseID
		kit.Must(t, w.etcd.Wipe())
		w.there(first, was)
		w.becomes("svc/", want, "after etcd was wiped")

		w.delete(first)
		w.becomes("svc/", want, "after the key was deleted")

		for _, g := range all {
			w.state(g, runtime.StateRegistered)
		}

		kit.Eventually(t, "one lease", func() bool { return len(w.leases()) == 1 })
	}
}

// TestClose_Retries closes a registration while etcd is down. Close fails, and
// later the entry is deleted, though its lease lives on.
func TestClose_Retries(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil, runtime.WithLeaseTTL(time.Hour))
	layouts := runtime.WithLayouts(runtime.LeaseSuffix)
	w.register("acme/legacy", addr(0), layouts)
	kept := w.values("acme/legacy")
	g := w.register("acme/legacy", addr(1), layouts)
	w.etcd.Cut()

	if err := g.Close(t.Context()); err == nil {
		t.Error("Close while etcd is down: got nil, want an error")
	}

	w.etcd.Restore()
	kit.Eventually(t, "only the entry of the other registration is in etcd", func() bool {
		return maps.Equal(w.values("acme/legacy"), kept)
	})
}

// TestNewerProcessTakesOver runs two processes with one instance id. The newer
// process has the entry until it closes its registration. Until then the status
// and the log of the older process report a conflict (G4, G38).
func TestNewerProcessTakesOver(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	older := w.register(key, addr(0), runtime.WithVersion("old"))
	newer := register(t, w.newRegistry(w.etcd.Client(t)), key, addr(0), runtime.WithVersion("new"))
	w.state(older, runtime.StateConflict)
	const who = "is held by another process"

	st := older.Status()
	if st.Err == nil ||
		!strings.Contains(st.Err.Error(), entry) ||
		!strings.Contains(st.Err.Error(), who) {
		t.Errorf("status in a conflict: %v, want an error with %s and %q", st.Err, entry, who)
	}

	kit.Eventually(t, "each log line about the conflict to have "+who, func() bool {
		return w.logs.Count(who) >= max(1, w.logs.Count("etcd registration conflict"))
	})
	rev := w.get(entry).rev

	// The older process makes requests every 2 s. None of them, not even that
	// of Update, changes the key.
	w.etcd.Calls().Reset()

	if err := older.Update(kit.Context(t), runtime.WithVersion("older")); err == nil {
		t.Error("Update of an entry that another process holds: got nil, want an error")
	}

	kit.Must(t, w.etcd.Calls().Wait(kit.Context(t), "Txn", "", 3))

	if got := w.get(entry); got.rev != rev {
		t.Errorf("entry of the newer process: %+v, want it unchanged at revision %d", got, rev)
	}

	kit.Must(t, newer.Close(kit.Context(t)))
	w.state(older, runtime.StateRegistered)

	if got := w.get(entry); !strings.Contains(got.value, "older") {
		t.Errorf("entry after the newer process closed it: %s, want \"older\", from the Update",
			got.value)
	}
}

// silent is a Watcher whose watches never report an event.
type silent struct{ clientv3.Watcher }

func (silent) Watch(ctx context.Context, _ string, _ ...clientv3.OpOption) clientv3.WatchChan {
	answers := make(chan clientv3.WatchResponse)
	context.AfterFunc(ctx, func() { close(answers) })

	return answers
}

// The older process writes to a key that a newer process has taken, before a
// watch has reported that. Only the condition in the transaction protects the
// entry of the newer process.
func TestStaleOwner_CannotOverwrite(t *testing.T) {
	update := func(older *runtime.Registration, ctx context.Context) error {
		return older.Update(ctx, runtime.WithVersion("older"))
	}
	for _, tt := range []struct {
		name    string
		layout  runtime.Layout
		write   func(older *runtime.Registration, ctx context.Context) error
		refused bool
	}{
		{"update", runtime.EndpointJSON, update, true},
		{"mark and delete", runtime.EndpointJSON, (*runtime.Registration).Close, false},
		{"delete", runtime.Plain, (*runtime.Registration).Close, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			client := w.etcd.Client(t)
			client.Watcher = silent{client.Watcher}
			deaf := w.newRegistry(client)
			older := register(t, deaf, key, addr(0), runtime.WithLayouts(tt.layout))

			// a second entry, so that Close does not revoke the lease
			register(t, deaf, "another", addr(0))

			newer := w.register(key, addr(0), runtime.WithLayouts(tt.layout))
			want := *w.get(entry)

			if err := tt.write(older, kit.Context(t)); (err != nil) != tt.refused {
				t.Errorf("%s by the older process: %v, want an error: %v", tt.name, err, tt.refused)
			}

			got := w.get(entry)
			if got == nil || *got != want || newer.Status().State != runtime.StateRegistered {
				t.Errorf("entry of the newer process: %+v, state %v, want %+v and registered", got,
					newer.Status().State, want)
			}
		})
	}
}

func TestHundredsOfServices(t *testing.T) {
	w := newWorld(t, nil)
	errs := make(chan error)
	for i := range 300 {
		go func() {
			_, err := w.registry.Register(kit.Context(t), key+addr(i),
				runtime.Endpoint{Addr: addr(i)})
			errs <- err
		}()
	}

	for range 300 {
		kit.Must(t, <-errs)
	}

	kit.Eventually(t, "at most 10 goroutines of the runtime", func() bool {
		return len(leak.Ours()) <= 10
	})

	if n := len(w.leases()); n != 1 {
		t.Errorf("%d leases, want 1", n)
	}

	txns := w.etcd.Calls().Count("Txn", "")
	if txns > 50 {
		t.Errorf("%d transactions, want at most 50", txns)
	}

	kit.Must(t, w.registry.Close(kit.Context(t)))
	w.nothing("after Close")
}

// Close takes 0.1 s to remove the entries even if its context has ended, as
// that of a signal has. A busy machine may need more.
func TestClose_EndedContext(t *testing.T) {
	w := newWorld(t, nil)
	ended, end := context.WithCancel(t.Context())
	end()

	kit.Eventually(t, "nothing remains after a Close", func() bool {
		registry := w.newRegistry(w.client)
		register(t, registry, key, addr(0))

		return registry.Close(ended) == nil
	})
}

// TestUpdateKeepsKeyAndLease also checks that an Update that changes nothing
// writes nothing (G13).
func TestUpdateKeepsKeyAndLease(t *testing.T) {
	w := newWorld(t, nil)
	g := w.register(key, addr(0), runtime.WithVersion("v1"))
	before := w.get(entry)
	kit.Must(t, g.Update(kit.Context(t), runtime.WithVersion("v2"), runtime.WithWeight(7)))

	after := w.get(entry)
	if after.lease != before.lease ||
		after.value != `{"Op":0,"Addr":"10.0.0.1:9000","Metadata":{"version":"v2","weight":7}}` {
		t.Errorf("entry after Update: %+v, want v2 with weight 7 on lease %x", after, before.lease)
	}

	kit.Must(t, g.Update(kit.Context(t), runtime.WithVersion("v2")))

	if got := w.get(entry); got.rev != after.rev {
		t.Errorf("revision after an Update without a change: %d, want %d", got.rev, after.rev)
	}
}
