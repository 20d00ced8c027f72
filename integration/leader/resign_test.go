package leader

import (
	"context"
	"errors"
	"strconv"
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

// held makes calls of Add wait in the handler until let is closed or the context of the call ends. Then the handler calls next.
type held struct {
	next  func(context.Context, *leaderpb.AddRequest, ...grpc.CallOption) (*leaderpb.AddResponse, error)
	under atomic.Int64 // calls that have reached the handler
	let   chan struct{}
	hung  chan struct{} // closed when the handlers of calls with the metadata "hang" return, whose contexts they ignore
}

func (h *held) of(i *instance) {
	i.add = func(ctx context.Context) (*leaderpb.AddResponse, error) {
		switch sent, _ := metadata.FromIncomingContext(ctx); {
		case sent.Get("etcd-leader-nested") != nil: // from the handler below
			return &leaderpb.AddResponse{Server: i.name}, nil
		case sent.Get("hang") != nil:
			<-h.hung
			return nil, ctx.Err()
		}
		h.under.Add(1)
		select {
		case <-h.let:
			return h.next(metadata.NewOutgoingContext(ctx, metadata.Pairs("x", "")), &leaderpb.AddRequest{})
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// call makes n calls for the leader in the background, which the instance named want must answer.
func call(t *testing.T, all *sync.WaitGroup, client leaderpb.CounterClient, n int, want string) {
	for range n {
		all.Go(func() {
			if reply, err := client.Add(kit.Bounded(t, kit.Soon), &leaderpb.AddRequest{}); err != nil || reply.GetServer() != want {
				t.Errorf("Add to the leader: answered by %q, error %v, want an answer of %s", reply.GetServer(), err, want)
			}
		})
	}
}

// refuses waits until the instance rejects calls for the leader, which it must do while it still leads.
func (i *instance) refuses(t *testing.T) {
	t.Helper()
	conn, err := grpc.NewClient(i.addr, kit.Insecure)
	kit.Must(t, err)
	defer conn.Close()
	kit.Eventually(t, kit.Soon, "the instance rejects a call", func() bool {
		token, _ := i.leads.Token()
		ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), leader.TokenHeader, strconv.FormatInt(token, 10)))
		defer cancel()
		stream, err := leaderpb.NewCounterClient(conn).Watch(ctx, &leaderpb.AddRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "does not lead")
	})
	if !i.leads.Holds() {
		t.Error("the leadership ended while calls were under way, want it to end after them")
	}
}

// While a leader ends without a loss, no unary call for the leader fails. Calls under way finish before the leadership
// ends, even if their handlers call the leader, and later calls wait for the next leader. A handler whose call has ended delays nothing.
func TestResign_FailsNoCall(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, i *instance) error{
		"Serve ends": func(_ *testing.T, i *instance) error { return i.stop() },
		"Withdraw":   func(t *testing.T, i *instance) error { return i.server.Withdraw(kit.Bounded(t, kit.Soon)) },
		"Resign":     func(t *testing.T, i *instance) error { return i.leads.Resign(kit.Bounded(t, kit.Soon)) },
		"a drain": func(_ *testing.T, i *instance) error {
			i.group.configure(`{"loadBalancingConfig":[{"etcd":{"drain":["a"]}}]}`)
			return nil
		},
		"NOT_SERVING":                    func(_ *testing.T, i *instance) error { i.health.Shutdown(); return nil },
		"a takeover by the next process": func(_ *testing.T, i *instance) error { i.group.start("a"); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t)
			client := g.client()
			h := &held{next: client.Add, let: make(chan struct{}), hung: make(chan struct{})}
			if name == "NOT_SERVING" || strings.HasPrefix(name, "a takeover") { // the leader's entry has left, so calls wait
				h.next = func(context.Context, *leaderpb.AddRequest, ...grpc.CallOption) (*leaderpb.AddResponse, error) {
					return &leaderpb.AddResponse{Server: "a"}, nil
				}
			}
			a := g.start("a", h.of, func(i *instance) { i.serves = name == "Serve ends" })
			kit.Eventually(t, kit.Soon, "a to lead", a.leads.Holds)
			b := g.start("b")
			hang := metadata.AppendToOutgoingContext(kit.Bounded(t, 100*time.Millisecond), "hang", "")
			if _, err := client.Add(hang, &leaderpb.AddRequest{}); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("Add whose handler hangs: %v, want DeadlineExceeded", err)
			}
			var all sync.WaitGroup
			call(t, &all, client, 60, "a")
			kit.Eventually(t, kit.Soon, "60 calls to be under way", func() bool { return h.under.Load() == 60 })
			ended := make(chan error, 1)
			go func() { ended <- end(t, a) }()
			a.refuses(t)
			// If the context of a waiting call ends, the call returns the context's error.
			if _, err := client.Add(kit.Bounded(t, 100*time.Millisecond), &leaderpb.AddRequest{}); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("Add during Resign: %v, want DeadlineExceeded", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)
			if _, err := client.Add(ctx, &leaderpb.AddRequest{}); status.Code(err) != codes.Canceled {
				t.Errorf("cancelled Add during Resign: %v, want Canceled", err)
			}
			call(t, &all, client, 20, "b")
			close(h.let)
			kit.Eventually(t, kit.Soon, "b to lead", b.leads.Holds)
			close(h.hung)
			kit.Must(t, await(t, ended))
			all.Wait()
		})
	}
}

// An instance that resigns becomes the last candidate again. Each new leader has a higher token than the one before (E1).
func TestResign_RotatesTheLeader(t *testing.T) {
	g := newGroup(t)
	a := g.start("a")
	kit.Eventually(t, kit.Soon, "a to lead", a.leads.Holds)
	last, _ := a.leads.Token()
	b := g.start("b")
	if err := b.leads.Resign(t.Context()); err == nil || !strings.Contains(err.Error(), "no instance of the process holds it") {
		t.Errorf("Resign of b, which does not lead: %v, want an error with \"no instance of the process holds it\"", err)
	}
	client := g.client()
	for range 3 {
		kit.Eventually(t, kit.Soon, "two candidates", func() bool { return len(g.candidates()) == 2 })
		kit.Must(t, a.leads.Resign(kit.Bounded(t, kit.Soon)))
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

// If the work of a leader fails, the leader resigns and another instance runs its own work, until its registry closes.
func TestRun_ResignsWhenItsWorkFails(t *testing.T) {
	g, broken := newGroup(t), errors.New("the disk is full")
	a := g.start("a")
	kit.Eventually(t, kit.Soon, "a to lead", a.leads.Holds)
	b := g.start("b")
	works, ended := make(chan struct{}), make(chan error, 1)
	ran := make(chan error, 1)
	go func() {
		ran <- b.leads.Run(t.Context(), func(ctx context.Context, _ int64) error {
			close(works)
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return nil
		})
	}()
	if err := a.leads.Run(t.Context(), func(context.Context, int64) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("Run of a: %v, want %v, the error of its work", err, broken)
	}
	await(t, works)
	kit.Eventually(t, kit.Soon, "a to be a candidate again", func() bool { return len(g.candidates()) == 2 })
	if a.leads.Holds() || !b.leads.Holds() {
		t.Errorf("a leads: %v, b leads: %v; want only b to lead, as the work of a has failed", a.leads.Holds(), b.leads.Holds())
	}
	kit.Must(t, b.registry.Close(kit.Bounded(t, kit.Soon)))
	if err := await(t, ended); !errors.Is(err, leader.ErrEnded) {
		t.Errorf("cause of the end of the work's context: %v, want ErrEnded", err)
	}
	if err := await(t, ran); err == nil {
		t.Error("Run of b returned nil after Close of its registry, want an error")
	}
}

// A leader still leads after its work has returned nil, and after the context of Run has ended.
func TestRun_LeadsOnWhenItsWorkIsDone(t *testing.T) {
	a := newGroup(t).start("a")
	kit.Must(t, a.leads.Run(t.Context(), func(context.Context, int64) error { return nil }))
	ctx, end := context.WithCancel(t.Context())
	if err := a.leads.Run(ctx, func(context.Context, int64) error { end(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Run after the end of its context: %v, want Canceled", err)
	}
	if !a.leads.Holds() {
		t.Error("a does not lead after Run, want it to lead")
	}
}
