package registrar

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/advertise"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/bounded"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/healthcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// offline returns a registrar whose etcd cannot be reached, and which ends with
// the test.
func offline(t *testing.T) *Registrar {
	t.Helper()

	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	must.Succeed(t, err)
	r := New(Config{Client: client, Options: lease.Options{Logger: slog.New(slog.DiscardHandler)}})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()

		_ = r.Close(ctx) // it fails without etcd
		client.Close()
		r.tasks.Wait()
	})

	return r
}

func group(t *testing.T, r *Registrar) *Group {
	t.Helper()

	g := r.NewGroup()
	must.Succeed(t, g.Publish(published(t, "a.A", "a"), Details{}))

	return g
}

var here = RunConfig{Listen: "127.0.0.1:80"}

// within returns a context with a generous timeout.
func within(t *testing.T) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)

	return ctx
}

// Withdraw ends an Announce that is under way (G24).
func TestWithdrawEndsAnnounce(t *testing.T) {
	g := group(t, offline(t))
	announced := make(chan error, 1)
	go func() { announced <- g.Announce(within(t), here) }()

	for len(g.Status()) == 0 {
		time.Sleep(time.Millisecond)
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()

	_ = g.Withdraw(ctx) // ctx ends soon, so this does not wait for etcd

	if err := <-announced; !errors.Is(err, errWithdrawn) {
		t.Errorf("Announce: %v, want %v", err, errWithdrawn)
	}
}

// Announce retries to find the address of a host without a network (G7).
func TestTheNetworkComesUpLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, New(Config{Options: lease.Options{Logger: slog.New(slog.DiscardHandler)}}))
		up := time.Now().Add(2 * addressPause)
		local := func(context.Context, string, string) (netip.Addr, error) {
			if time.Now().Before(up) {
				return netip.Addr{}, errors.New("no route")
			}

			return netip.MustParseAddr("10.0.0.9"), nil
		}

		a := RunConfig{
			Listen:    ":80",
			Advertise: advertise.Config{Etcd: []string{"10.0.0.1"}, Local: local},
		}

		run, _ := g.begin(serve)
		addr, err := run.address(t.Context(), a)
		if addr != "10.0.0.9:80" || err != nil || time.Now() != up {
			t.Errorf("address() = %q, %v after %v, want 10.0.0.9:80 once there is a network", addr,
				err, time.Since(up))
		}

		up = up.Add(time.Hour)

		err = run.Announce(t.Context(), a, time.Minute)
		if !errors.Is(err, advertise.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Announce without a network: %v, want %v and %v", err, advertise.ErrUnknown,
				context.DeadlineExceeded)
		}
	})
}

// Withdraw also waits for entries that an earlier Withdraw could not remove
// (G24).
func TestWithdraw_WaitsForEarlierEntries(t *testing.T) {
	g := group(t, offline(t))
	var dropped []*Registration
	for _, listen := range []string{"127.0.0.1:80", "127.0.0.1:81"} {
		run, err := g.begin(announce)
		must.Succeed(t, err)
		must.Succeed(t, run.announce(within(t), RunConfig{Listen: listen}, false))

		// so that drop does nothing, as if etcd did not answer
		g.with(func(*core) { clear(g.registrar.registrations) })
		_, dropped = g.step(event{kind: withdraw, run: run.number, why: errWithdrawn})
	}

	if len(dropped) != 2 {
		t.Errorf("Withdraw waits for %d entries, want one of each announcement", len(dropped))
	}
}

// Withdraw returns an error if the server is announced again before its end
// (G24).
func TestAnnounceOvertakesWithdraw(t *testing.T) {
	g := offline(t).NewGroup()

	// begin fails until the server is withdrawn
	a := RunConfig{Listen: here.Listen, Report: func(bool) { _, _ = g.begin(announce) }}
	must.Succeed(t, g.Announce(within(t), a))

	err := g.Withdraw(within(t))
	if err == nil || !strings.Contains(err.Error(), "announced again before") {
		t.Errorf("Withdraw: %v, want an error that names the later announcement", err)
	}
}

// A dedicated session is closed in the background after a failed Register, and
// Close waits for that (G25).
func TestADedicatedSessionIsClosed(t *testing.T) {
	r := offline(t)
	e := at("b", "i", "h:1", 15, endpoint.GoZero)
	_, err := r.start(at("b", "i", "h:2", 15, endpoint.GoZero))
	must.Succeed(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()

	if _, err := r.Register(ctx, e); !errors.Is(err, context.Canceled) {
		t.Errorf("Register: %v, want %v", err, context.Canceled)
	}

	_ = r.Close(ctx) // it fails without etcd
	soon := within(t)
	bounded.Run(soon, r.tasks.Wait)

	if soon.Err() != nil {
		t.Error("tasks still run after Close")
	}
}

// Closing the registrar ends an Announce, but not a serving server.
func TestCloseEndsAnnouncements(t *testing.T) {
	r := offline(t)
	g := group(t, r)
	serving := r.NewGroup()
	must.Succeed(t, serving.Publish(published(t, "b.B", "c"), Details{}))
	run, err := serving.Begin()
	must.Succeed(t, err)
	announced := make(chan error, 1)
	served := make(chan error, 1)
	go func() { announced <- g.Announce(within(t), here) }()
	go func() { served <- run.Announce(within(t), here, time.Minute) }()

	for len(g.Status()) == 0 || len(serving.Status()) == 0 {
		time.Sleep(time.Millisecond)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()

	_ = r.Close(ctx) // it fails without etcd

	if err := <-announced; !errors.Is(err, ErrClosed) {
		t.Errorf("Announce: %v, want %v", err, ErrClosed)
	}

	if err := <-served; err != nil {
		t.Errorf("the Announce of a serving server: %v, want nil", err)
	}

	if err := g.Announce(within(t), here); !errors.Is(err, ErrClosed) {
		t.Errorf("Announce after Close: %v, want %v", err, ErrClosed)
	}

	if _, err := r.Register(within(t), at("b", "i", "h:1", 15)); !errors.Is(err, ErrClosed) {
		t.Errorf("Register after Close: %v, want %v", err, ErrClosed)
	}

	if err := g.Withdraw(within(t)); err != nil {
		t.Errorf("Withdraw after Close: %v, want nil", err)
	}
}

// An entry is paused while its service is unhealthy, before its registration
// and after it (G11).
func TestUnhealthyEntryIsPaused(t *testing.T) {
	g := group(t, offline(t))
	run, err := g.Begin()
	must.Succeed(t, err)

	state := func() lease.State { return g.Status()[0].State }
	run.hear(0, healthcheck.Health{})
	run.made[0].entry = at("a", "i", "h:1", 15)
	items, err := run.made[0].entry.items("")

	err = errors.Join(err, run.place([][]lease.Item{items}))
	if err != nil || state() != lease.Paused {
		t.Errorf("unhealthy before the registration: the entry is %v, %v, want paused", state(),
			err)
	}

	for _, ok := range []bool{true, false, true} {
		run.hear(0, healthcheck.Health{OK: ok})

		if paused := state() == lease.Paused; paused == ok {
			t.Errorf("healthy %v: the entry is %v, want paused only if unhealthy", ok, state())
		}
	}
}

// If the second entry cannot be registered, the first one is removed.
func TestAnnounceAllOrNothing(t *testing.T) {
	r := offline(t)
	_, err := r.start(at("b", "127.0.0.1:80", "h:1", 20))
	must.Succeed(t, err)
	g := group(t, r)
	must.Succeed(t, g.Publish(published(t, "b.B", "b"), Details{}))

	err = g.Announce(within(t), here)
	if err == nil || !strings.Contains(err.Error(), "already registered by this process") {
		t.Errorf("Announce: %v, want an error about the second entry", err)
	}

	if all := r.Status(); len(all) != 1 || all[0].Key != "b" {
		t.Errorf(
			"registered after the failure: %v, want only the entry that was registered before", all)
	}
}

// TestCallsInAnyOrder checks that no call hangs in any order of calls, and that
// no entry stays registered (G24).
func TestCallsInAnyOrder(t *testing.T) {
	for range 50 {
		r := offline(t)
		g := group(t, r)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		calls := []func(){
			func() { _ = g.Announce(ctx, here) },
			func() { _ = g.Withdraw(ctx) },
			func() {
				run, err := g.Begin()
				if err != nil {
					return
				}

				_ = run.announce(ctx, here, true)
				g.End()
				_ = g.Withdraw(ctx)
				g.Ended()
			},
			func() { _ = r.Close(ctx) },
			func() {
				g.Status()
				r.Status()
			},
		}

		var wg sync.WaitGroup
		for _, call := range append(calls, calls...) {
			wg.Go(call)
		}

		wg.Wait()
		g.End()
		_ = g.Withdraw(ctx)
		cancel()

		if all := r.Status(); len(all) > 0 {
			t.Fatalf("the entries %v remain after all calls, want none", all)
		}
	}
}

// A late Publish is logged and does not prevent the next announcement. An
// announcement without entries is also logged.
func TestMissingAnnouncementIsLogged(t *testing.T) {
	var logs bytes.Buffer
	var g *Group
	ask := func() {
		g.Status()
		g.registrar.Status()
	}

	logger := slog.New(slog.NewTextHandler(lockFree{&logs, ask}, nil))
	g = New(Config{Options: lease.Options{Logger: logger}}).NewGroup()
	must.Succeed(t, g.Announce(t.Context(), here))
	g.Fault(g.Publish(published(t, "a.A", "a"), Details{}))
	must.Succeed(t, g.Withdraw(t.Context()))

	if _, err := g.begin(announce); err != nil {
		t.Errorf("the next announcement: %v, want nil", err)
	}

	const late = "service a.A is published after the server was announced: publish first"
	for line := range strings.Lines(logs.String()) {
		if !strings.Contains(line, "RegisterXxxServerToEtcd") && !strings.Contains(line, late) {
			t.Errorf("logged %s, want lines about the late Publish and about nothing to announce",
				line)
		}
	}

	if n := strings.Count(logs.String(), "\n"); n != 2 {
		t.Errorf("logged %d lines, want 2", n)
	}
}

// lockFree is a log writer that calls Status.
type lockFree struct {
	io.Writer
	ask func()
}

func (l lockFree) Write(line []byte) (int, error) {
	l.ask()
	return l.Writer.Write(line)
}
