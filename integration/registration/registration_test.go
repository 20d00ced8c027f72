package registration

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// TestContextEnds ends the context of calls that etcd does not answer. Once
// etcd answers, no entry and no lease remains.
func TestContextEnds(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	g := w.register("other", addr(1))
	s := w.registry.NewServer(grpc.NewServer())
	basic.RegisterGreeterServerToEtcd(s, greeter{})
	w.etcd.Pause()

	const short = 200 * time.Millisecond
	ends := func(what string, call func(context.Context) error) {
		t.Helper()

		err := call(kit.Bounded(t, short))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s without etcd: %v, want DeadlineExceeded", what, err)
		}
	}

	ends("Register", func(ctx context.Context) error {
		_, err := w.registry.Register(ctx, key, runtime.Endpoint{Addr: addr(0)})
		return err
	})

	ends("Announce", func(ctx context.Context) error { return s.Announce(ctx, addr(0)) })
	ends("Update", func(ctx context.Context) error {
		return g.Update(ctx, runtime.WithVersion("v2"))
	})
	ends("Pause", g.Pause)
	ends("Close", g.Close)
	w.etcd.Resume()

	for _, prefix := range []string{key, "other"} {
		kit.Eventually(t, "no key begins with "+prefix+" once etcd is back", func() bool {
			return len(w.keys(prefix)) == 0
		})
		kit.Must(t, w.register("barrier", addr(99)).Close(kit.Context(t))) // makes other writes

		if keys := w.keys(prefix); len(keys) > 0 {
			t.Errorf("once etcd is back, it has the keys %v, want none that begins with %s", keys,
				prefix)
		}
	}

	kit.Eventually(t, "no lease remains", func() bool { return len(w.leases()) == 0 })
}

// leavingMark is in the value of an entry that its process is about to delete.
const leavingMark = `"grpc_leaving":"true"`

// onWrites returns a registry whose etcd client calls hook before each
// transaction that puts a key.
func (w *world) onWrites(hook func()) *runtime.Registry {
	w.t.Helper()
	intercept := func(
		ctx context.Context,
		method string,
		req, reply any,
		conn *grpc.ClientConn,
		invoke grpc.UnaryInvoker,
		opts ...grpc.CallOption,
	) error {
		if txn, ok := req.(*etcdserverpb.TxnRequest); ok && puts(txn) {
			hook()
		}

		return invoke(ctx, method, req, reply, conn, opts...)
	}

	return w.newRegistry(w.etcd.Client(w.t, func(cfg *clientv3.Config) {
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithChainUnaryInterceptor(intercept))
	}))
}

// puts reports whether a transaction can put a key.
func puts(txn *etcdserverpb.TxnRequest) bool {
	ops := slices.Concat(txn.GetSuccess(), txn.GetFailure())

	return slices.ContainsFunc(ops, func(op *etcdserverpb.RequestOp) bool {
		return op.GetRequestPut() != nil ||
			op.GetRequestTxn() != nil && puts(op.GetRequestTxn())
	})
}

// TestResumeDuringAPause calls Resume while etcd does not answer the write of
// Pause. Resume must not return nil before the answer.
func TestResumeDuringAPause(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	writes := make(chan struct{}, 100)
	r := w.onWrites(func() { writes <- struct{}{} })
	g := register(t, r, key, addr(0))
	register(t, r, "other", addr(1))
	w.etcd.Pause()

	for len(writes) > 0 {
		<-writes
	}

	paused := make(chan error, 1)
	go func() { paused <- g.Pause(kit.Context(t)) }()
	<-writes

	if err := g.Resume(kit.Bounded(t, 300*time.Millisecond)); err == nil {
		t.Error("Resume without etcd: got nil, want an error")
	}

	w.etcd.Resume()

	if <-paused == nil {
		t.Error("Pause, undone by Resume: got nil, want an error")
	}

	kit.Must(t, g.Resume(kit.Context(t)))

	if got := w.get(entry); got == nil || strings.Contains(got.value, leavingMark) {
		t.Errorf("entry after Resume: %+v, want one without %s", got, leavingMark)
	}
}

// WithOnStatus reports each change, also a server's, one at a time and in
// order. The hook may call the registry, even close it.
func TestOnStatus(t *testing.T) {
	leak.Parallel(t)
	var registry *runtime.Registry

	changes := make(chan runtime.Status)
	closed := make(chan error, 1)
	onStatus := func(s runtime.Status) {
		if s.State == runtime.StateLost {
			// while this hook runs, nobody receives changes
			closed <- registry.Close(kit.Context(t))
		}

		changes <- s
	}

	w := newWorld(t, nil)
	registry = w.newRegistry(w.client, runtime.WithOnStatus(onStatus))

	next := func(want ...runtime.State) (s runtime.Status) {
		t.Helper()

		for _, state := range want {
			s = <-changes
			if s.State != state ||
				s.Key != key ||
				s.Since.IsZero() ||
				s.LeaseID == 0 && state == runtime.StateRegistered {
				t.Fatalf("WithOnStatus got %+v, want %v", s, state)
			}
		}

		return s
	}

	g := register(t, registry, key, addr(0)) // nobody receives changes yet
	next(runtime.StateRegistering, runtime.StateRegistered)
	kit.Must(t, g.Pause(kit.Context(t)))
	kit.Must(t, g.Resume(kit.Context(t)))
	kit.Must(t, g.Close(kit.Context(t)))
	next(runtime.StatePaused, runtime.StateRegistering, runtime.StateRegistered,
		runtime.StateClosed)

	server := registry.NewServer(grpc.NewServer())
	basic.RegisterGreeterServerToEtcd(server, greeter{})
	kit.Must(t, server.Announce(kit.Context(t), addr(1)))
	w.revoke(next(runtime.StateRegistering, runtime.StateRegistered).LeaseID)
	kit.Must(t, <-closed)

	if s := next(runtime.StateLost); s.Err == nil {
		t.Error("WithOnStatus got a loss without an error")
	}

	for s := range changes {
		if s.State == runtime.StateClosed {
			break
		}
	}
}
