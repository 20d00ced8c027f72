package leader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

type add = func(
	context.Context,
	*leaderpb.AddRequest,
	...grpc.CallOption,
) (*leaderpb.AddResponse, error)

// held makes calls of Add and Watch wait in the handler until let is closed or
// the context of the call ends. The metadata "does" makes a handler of Add do
// something else.
type held struct {
	under atomic.Int64 // calls that have reached the handler
	let   chan struct{}
	hung  chan struct{} // closed when the handlers that hang return, which ignore their contexts
}

// does returns ctx for a call whose handler does what.
func does(ctx context.Context, what string) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.Pairs("does", what))
}

func (h *held) of(i *instance) {
	hold := func(ctx context.Context) error {
		h.under.Add(1)

		select {
		case <-h.let:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}

	i.watch = func(stream leaderpb.Counter_WatchServer) error { return hold(stream.Context()) }
	i.add = func(ctx context.Context) (_ *leaderpb.AddResponse, err error) {
		sent, _ := metadata.FromIncomingContext(ctx)
		switch what := append(sent.Get("does"), "")[0]; {
		case what == "hang":
			<-h.hung
			err = ctx.Err()
		case what == "resign":
			err = i.leads.Resign(ctx)
		case what == "":
			err = hold(ctx)
		}

		return &leaderpb.AddResponse{Server: i.name}, err
	}
}

// While a leader ends without a loss, no unary call fails, neither one under
// way nor a later one, whatever its retry policy. Streams under way end at
// once. A handler whose call has ended delays nothing.
func TestResign_FailsNoUnaryCall(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, i *instance, call add) error{
		"Serve ends": func(_ *testing.T, i *instance, _ add) error { return i.stop() },
		"Withdraw": func(t *testing.T, i *instance, _ add) error {
			return i.server.Withdraw(kit.Context(t))
		},
		"Withdraw, overtaken by Announce": func(t *testing.T, i *instance, _ add) error {
			withdrawn := make(chan error, 1)
			go func() { withdrawn <- i.server.Withdraw(kit.Context(t)) }()

			err := errors.New("the server is announced")
			// until Withdraw has begun to remove the entries
			for err != nil && strings.Contains(err.Error(), "the server is") {
				err = i.server.Announce(kit.Context(t), i.addr)
			}

			if overtaken := <-withdrawn; overtaken == nil {
				t.Error("Withdraw returned nil during Announce, want an error")
			}

			return err
		},
		"Resign": func(t *testing.T, i *instance, _ add) error {
			return i.leads.Resign(kit.Context(t))
		},
		"a handler calls Resign": func(t *testing.T, _ *instance, call add) error {
			_, err := call(does(kit.Context(t), "resign"), &leaderpb.AddRequest{})
			return err
		},
		"a drain": func(_ *testing.T, i *instance, _ add) error {
			i.group.configure(`{"loadBalancingConfig":[{"etcd":{"drain":["a"]}}]}`)
			return nil
		},
		"NOT_SERVING": func(_ *testing.T, i *instance, _ add) error {
			i.health.Shutdown()
			return nil
		},
		"a takeover by the next process": func(_ *testing.T, i *instance, _ add) error {
			i.group.start("a")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t)
			desc := under(entries, nil)
			desc.ServiceConfig = `{"methodConfig":[{"name":[{"service":"leader.Counter","method":"Watch"}],"retryPolicy":{"maxAttempts":5,
				"initialBackoff":"0.1s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}},
				{"name":[{"service":"leader.Counter"}],"retryPolicy":{"maxAttempts":2,
				"initialBackoff":"99s","maxBackoff":"99s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}`

			client := g.clientOf(desc)
			h := &held{let: make(chan struct{}), hung: make(chan struct{})}
			a := g.start("a", h.of, func(i *instance) { i.serves = name == "Serve ends" })
			kit.Eventually(t, "a to lead", a.leads.Holds)
			b := g.start("b")

			_, err := client.Add(does(kit.Bounded(t, 100*time.Millisecond), "hang"),
				&leaderpb.AddRequest{})
			if status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("Add whose handler hangs: %v, want DeadlineExceeded", err)
			}

			var all sync.WaitGroup
			var open atomic.Int64
			finish := grpc.OnFinish(func(error) { open.Add(-1) })
			call := func(n int, what string) {
				open.Add(int64(n))

				for range n {
					all.Go(func() {
						_, err := client.Add(does(kit.Context(t), what), &leaderpb.AddRequest{},
							finish)
						if err != nil {
							t.Errorf("Add to the leader: %v", err)
						}
					})
				}
			}

			watch := func(want error) {
				stream, err := client.Watch(kit.Context(t), &leaderpb.AddRequest{})
				for err == nil {
					_, err = stream.Recv()
				}

				if !errors.Is(err, want) && status.Code(err) != status.Code(want) {
					t.Errorf("a stream to the leader ended with %v, want %v", err, want)
				}
			}

			call(60, "")
			cut := make(chan struct{})
			all.Go(func() {
				watch(status.Error(codes.Unavailable, ""))
				close(cut)
			})

			kit.Eventually(t, "61 calls to be under way", func() bool {
				return h.under.Load() == 61
			})
			ended := make(chan error, 1)
			go func() { ended <- end(t, a, client.Add) }()

			// If the context of a waiting call ends, the call returns the
			// context's error.
			_, err = client.Add(kit.Bounded(t, 100*time.Millisecond), &leaderpb.AddRequest{})
			if status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("Add during Resign: %v, want DeadlineExceeded", err)
			}

			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)

			_, err = client.Add(ctx, &leaderpb.AddRequest{})
			if status.Code(err) != codes.Canceled {
				t.Errorf("cancelled Add during Resign: %v, want Canceled", err)
			}

			call(20, "")
			await(t, cut)

			// with retries, gRPC repeats a stream that is refused before it
			// begins
			all.Go(func() { watch(io.EOF) })
			close(h.let)
			kit.Eventually(t, "b to lead", b.leads.Holds)
			close(h.hung)
			kit.Must(t, await(t, ended))
			all.Wait()

			if open.Load() != 0 {
				t.Errorf("by OnFinish, %d calls have not finished, want none", open.Load())
			}
		})
	}
}

// An instance that resigns becomes the last candidate again. Each new leader
// has a higher token than the one before (E1).
func TestResign_RotatesTheLeader(t *testing.T) {
	g := newGroup(t)
	a := g.start("a")
	kit.Eventually(t, "a to lead", a.leads.Holds)
	last, _ := a.leads.Token()
	b := g.start("b")

	err := b.leads.Resign(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no instance of the process holds it") {
		t.Errorf("Resign of b, which does not lead: %v, want an error with \"no instance of the process holds it\"", err)
	}

	client := g.client()
	for range 3 {
		kit.Eventually(t, "two candidates", func() bool {
			return len(g.candidatesOf(entries)) == 2
		})
		kit.Must(t, a.leads.Resign(kit.Context(t)))

		if got := g.leader(client); got != b.name {
			t.Errorf("leader after %s resigned: %s, want %s", a.name, got, b.name)
		}

		token, _ := b.leads.Token()
		if token <= last {
			t.Errorf("token of %s: %d, want more than %d", b.name, token, last)
		}

		a, b, last = b, a, token
	}
}

// If the work of a leader fails, the leader resigns and another instance runs
// its own work, until its registry closes. A leader whose work panics resigns,
// too.
func TestRun_ResignsWhenItsWorkFails(t *testing.T) {
	g := newGroup(t)
	broken := errors.New("the disk is full")
	a := g.start("a")
	kit.Eventually(t, "a to lead", a.leads.Holds)
	b := g.start("b")
	works := make(chan struct{})
	ended := make(chan error, 1)
	ran := make(chan error, 1)
	go func() {
		ran <- b.leads.Run(t.Context(), func(ctx context.Context, _ int64) error {
			close(works)
			<-ctx.Done()
			ended <- context.Cause(ctx)

			return nil
		})
	}()

	err := a.leads.Run(t.Context(), func(context.Context, int64) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("Run of a: %v, want %v, the error of its work", err, broken)
	}

	await(t, works)
	kit.Eventually(t, "a to be a candidate again", func() bool {
		return len(g.candidatesOf(entries)) == 2
	})

	if a.leads.Holds() || !b.leads.Holds() {
		t.Errorf("a leads: %v, b leads: %v; want only b to lead, as the work of a has failed",
			a.leads.Holds(), b.leads.Holds())
	}

	kit.Must(t, b.registry.Close(kit.Context(t)))

	if err := await(t, ended); !errors.Is(err, leader.ErrEnded) {
		t.Errorf("cause of the end of the work's context: %v, want ErrEnded", err)
	}

	if err := await(t, ran); err == nil {
		t.Error("Run of b returned nil after Close of its registry, want an error")
	}

	func() {
		defer func() { ended <- recover().(error) }()

		_ = a.leads.Run(t.Context(), func(_ context.Context, token int64) error {
			panic(fmt.Errorf("%w: %d", broken, token))
		})
	}()

	kit.Eventually(t, "a to lead again", a.leads.Holds)

	token, _ := a.leads.Token()
	if strings.HasSuffix((<-ended).Error(), fmt.Sprint(": ", token)) {
		t.Error("a has not resigned after its work panicked")
	}
}

// A leader still leads after its work has returned nil, and after the context
// of Run has ended.
func TestRun_LeadsOnWhenItsWorkIsDone(t *testing.T) {
	a := newGroup(t).start("a")
	kit.Must(t, a.leads.Run(t.Context(), func(context.Context, int64) error { return nil }))
	ctx, end := context.WithCancel(t.Context())

	err := a.leads.Run(ctx, func(context.Context, int64) error {
		end()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run after the end of its context: %v, want Canceled", err)
	}

	if !a.leads.Holds() {
		t.Error("a does not lead after Run, want it to lead")
	}
}
