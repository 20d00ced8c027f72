package registration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// A server that is withdrawn while it serves goes on serving, and can be announced again.
func TestG24_WithdrawWhileServing(t *testing.T) {
	w := newWorld(t, nil)
	s := w.registry.NewServer(grpc.NewServer(), runtime.WithDrainDelay(0))
	basic.RegisterGreeterServerToEtcd(s, &greeter{name: "a"})
	lis := listen(t, "127.0.0.1:0")
	stop := serve(t, s, lis)
	registered(t, s)
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	for range 2 {
		must(t, s.Withdraw(kit.Bounded(t, soon)))
		if keys := w.keys(key); len(keys) > 0 {
			t.Errorf("after Withdraw: %v", keys)
		}
		if _, err := basic.NewGreeterClient(conn).SayHello(kit.Bounded(t, soon), &basic.HelloRequest{}); err != nil {
			t.Errorf("a call after Withdraw: %v", err)
		}
		must(t, s.Announce(kit.Bounded(t, soon), lis.Addr().String()))
		if keys := w.keys(key); len(keys) != 1 {
			t.Errorf("after Announce: %v", keys)
		}
		if err := s.Announce(kit.Bounded(t, soon), lis.Addr().String()); err == nil || !strings.Contains(err.Error(), "announced already") {
			t.Errorf("Announce of what is announced: %v", err)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if keys, leases := w.keys(""), w.leases(); len(keys)+len(leases) > 0 {
		t.Errorf("left after Serve: %v, %v", keys, leases)
	}
}

// outcomes are the results of calls on one server.
type outcomes struct {
	mu    sync.Mutex
	lines []string
}

func (s *outcomes) add(call string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprint(call, ": ", err))
}

// Calls in every order and at once return true results, and leave nothing in etcd.
func TestG24_EveryOrder(t *testing.T) {
	w := newWorld(t, nil)
	const tries, callers, calls = 40, 4, 6
	for try := range tries {
		registry := w.newRegistry(w.etcd.Client(t))
		s := registry.NewServer(grpc.NewServer(), runtime.WithDrainDelay(0))
		basic.RegisterGreeterServerToEtcd(s, &greeter{})
		lis := listen(t, "127.0.0.1:0")
		var returned outcomes
		serving, end := context.WithCancel(context.Background())
		call := map[string]func() error{
			"Announce": func() error { return s.Announce(kit.Bounded(t, soon), lis.Addr().String()) },
			"Withdraw": func() error { return s.Withdraw(kit.Bounded(t, soon)) },
			"Serve":    func() error { return s.Serve(serving, listen(t, "127.0.0.1:0")) },
			"Close":    func() error { return registry.Close(kit.Bounded(t, soon)) },
		}
		names := []string{"Announce", "Withdraw", "Serve", "Announce", "Withdraw", "Announce"}
		if try%2 == 0 {
			names = append(names, "Close")
		}
		var all, serves sync.WaitGroup
		for range callers {
			all.Go(func() {
				for range calls {
					name := names[rand.N(len(names))]
					if name == "Serve" {
						serves.Go(func() { returned.add(name, call[name]()) })
						continue
					}
					returned.add(name, call[name]())
				}
			})
		}
		all.Wait()
		end()
		serves.Wait()
		lis.Close()
		if err := call["Withdraw"](); err != nil {
			t.Errorf("try %d: the last Withdraw: %v", try, err)
		}
		if keys := w.keys(key); len(keys) > 0 {
			t.Fatalf("try %d: left after Withdraw: %v\n%s", try, keys, strings.Join(returned.lines, "\n"))
		}
		if err := call["Close"](); err != nil {
			t.Errorf("try %d: Close: %v", try, err)
		}
		if leases := w.leases(); len(leases) > 0 {
			t.Fatalf("try %d: leases left after Close: %x", try, leases)
		}
		for _, line := range returned.lines {
			if !expected(line) {
				t.Errorf("try %d: %s", try, line)
			}
		}
	}
	report.Count(t, "G24", "calls of Announce, Withdraw, Serve and Close at once whose outcome was true", tries*callers*calls)
}

// expected reports whether a call may have this outcome.
func expected(line string) bool {
	for _, text := range []string{
		": <nil>", "withdrawn meanwhile", "announced again meanwhile", "announced already", "announced before", "has been served",
		"is draining", "stops serving", "registry is closed",
	} {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// Of Pause and Resume from several goroutines the later wins, and an earlier one that it interrupts returns an
// error.
func TestG24_PauseAndResumeAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	g := w.register(key, addr(0))
	for range 20 {
		var wg sync.WaitGroup
		for _, call := range []struct {
			do   func(context.Context) error
			told string
		}{{g.Pause, "resumed meanwhile"}, {g.Resume, "paused meanwhile"}, {g.Pause, "resumed meanwhile"}, {g.Resume, "paused meanwhile"}} {
			wg.Go(func() {
				if err := call.do(kit.Bounded(t, soon)); err != nil && !strings.Contains(err.Error(), "meanwhile") {
					t.Errorf("%v, want %s", err, call.told)
				}
			})
		}
		wg.Wait()
		state, keys := g.Status().State, len(w.keys(key))
		if want := map[runtime.State]int{runtime.StatePaused: 0, runtime.StateRegistered: 1}; want[state] != keys || state != runtime.StatePaused && state != runtime.StateRegistered {
			t.Errorf("%d keys in etcd in state %s", keys, state)
		}
	}
	must(t, g.Close(kit.Bounded(t, soon)))
	if err := g.Resume(kit.Bounded(t, soon)); err == nil || len(w.keys(key)) > 0 {
		t.Errorf("Resume of a closed registration: %v, %v", err, w.keys(key))
	}
}

// The registry is closed while a server is being announced, and while it serves.
func TestG24_RegistryCloses(t *testing.T) {
	w := newWorld(t, nil)
	s := w.registry.NewServer(grpc.NewServer(), runtime.WithDrainDelay(0))
	basic.RegisterGreeterServerToEtcd(s, &greeter{})
	stop := serve(t, s, listen(t, "127.0.0.1:0"))
	registered(t, s)
	waiting := w.registry.NewServer(grpc.NewServer())
	waiting.Publish(&runtime.ServiceDesc{Name: "b.B", Key: "b", LeaseTTL: 20 * time.Second})
	w.etcd.Pause()
	announced := make(chan error, 1)
	go func() { announced <- waiting.Announce(kit.Bounded(t, soon), addr(1)) }()
	kit.Eventually(t, soon, "Announce waits", func() bool { return len(waiting.Status()) == 1 })
	w.etcd.Resume()
	if err := w.registry.Close(kit.Bounded(t, soon)); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-announced; err != nil && !strings.Contains(err.Error(), "registry is closed") {
		t.Errorf("Announce: %v", err)
	}
	if keys, leases := w.keys(""), w.leases(); len(keys)+len(leases) > 0 {
		t.Errorf("left after Close: %v, %v", keys, leases)
	}
	if st := s.Status(); len(st) != 1 || st[0].State != runtime.StateClosed {
		t.Errorf("status after Close: %+v", st)
	}
	if err := stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// A registration that is given up has the lease of its own revoked in the background.
func TestG25_ADedicatedLeaseIsRevokedBehindTheCall(t *testing.T) {
	w := newWorld(t, nil)
	first := w.register(key, addr(0), runtime.WithLayouts(runtime.GoZero))
	for range 20 {
		ctx, cancel := context.WithCancel(context.Background())
		w.etcd.Calls().Reset()
		go func() {
			defer cancel()
			_ = w.etcd.Calls().Wait(kit.Bounded(t, soon), "LeaseGrant", "", 1)
		}()
		g, err := w.registry.Register(ctx, key, runtime.Endpoint{Addr: addr(1)}, runtime.WithLayouts(runtime.GoZero))
		switch {
		case err == nil:
			must(t, g.Close(kit.Bounded(t, soon)))
		case !errors.Is(err, context.Canceled):
			t.Fatal(err)
		}
		kit.Eventually(t, soon, "one key on one lease", func() bool { return len(w.keys(key)) == 1 && len(w.leases()) == 1 })
	}
	if st := first.Status(); st.State != runtime.StateRegistered {
		t.Errorf("the first one's status: %+v", st)
	}
}
