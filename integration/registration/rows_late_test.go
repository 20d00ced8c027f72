package registration

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// leavingMark is in the value of an entry that its owner is about to delete.
const leavingMark = `"grpc_leaving":"true"`

// onWrites returns a registry that asks a hook before each transaction that writes a value. What the hook answers with an
// error is not sent but by the hook, with land.
func (w *world) onWrites(hook func(ctx context.Context, land func(context.Context) error) error) *runtime.Registry {
	w.t.Helper()
	intercept := func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if txn, ok := req.(*etcdserverpb.TxnRequest); ok && puts(txn) {
			land := func(ctx context.Context) error { return invoke(ctx, method, req, new(etcdserverpb.TxnResponse), conn) }
			if err := hook(ctx, land); err != nil {
				return err
			}
		}
		return invoke(ctx, method, req, reply, conn, opts...)
	}
	return w.newRegistry(w.etcd.Client(w.t, func(cfg *clientv3.Config) {
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithChainUnaryInterceptor(intercept))
	}))
}

// puts reports whether a transaction writes a value.
func puts(txn *etcdserverpb.TxnRequest) bool {
	return slices.ContainsFunc(slices.Concat(txn.GetSuccess(), txn.GetFailure()), func(op *etcdserverpb.RequestOp) bool {
		return op.GetRequestPut() != nil || op.GetRequestTxn() != nil && puts(op.GetRequestTxn())
	})
}

// lateWrite is a write that begins, gets no answer, and lands, each when the test has it so.
type lateWrite struct{ begun, unanswered, land, landed chan struct{} }

// TestG17_AFirstPutLandsLate has first puts land late. They undo neither an update nor a Register that failed.
func TestG17_AFirstPutLandsLate(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	var next atomic.Pointer[lateWrite]
	r := w.onWrites(func(ctx context.Context, land func(context.Context) error) error {
		late := next.Swap(nil)
		if late == nil {
			return nil
		}
		close(late.begun)
		go func() {
			defer close(late.landed)
			<-late.land
			behind, cancel := context.WithTimeout(context.WithoutCancel(ctx), soon)
			defer cancel()
			_ = land(behind) // whether etcd still takes it is its writer's affair
		}()
		<-late.unanswered
		return context.DeadlineExceeded
	})
	delay := func() *lateWrite {
		late := &lateWrite{make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})}
		next.Store(late)
		return late
	}
	register(t, r, "another", addr(9)) // the lease stays

	late := delay()
	ctx, cancel := context.WithCancel(kit.Bounded(t, soon))
	go func() { <-late.begun; cancel() }()
	if _, err := r.Register(ctx, "svc/failed", runtime.Endpoint{Addr: addr(0)}); err == nil {
		t.Error("Register succeeded without an answer")
	}
	close(late.unanswered)
	close(late.land)
	<-late.landed
	w.becomes("svc/failed", contents{}, "after a failed Register landed")

	late = delay()
	close(late.unanswered)
	g, err := r.Register(kit.Bounded(t, soon), "svc/updated", runtime.Endpoint{Addr: addr(0)}, runtime.WithVersion("v1"))
	must(t, err)
	must(t, g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2")))
	close(late.land)
	<-late.landed
	w.becomes("svc/updated", contents{"svc/updated/" + addr(0): "v2"}, "after the first put landed")
}

// TestG24_ResumeDuringAPause has a Resume overtake a Pause: it does not return nil before etcd has answered the Pause's mark.
func TestG24_ResumeDuringAPause(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	writes := make(chan struct{}, 100)
	r := w.onWrites(func(context.Context, func(context.Context) error) error {
		writes <- struct{}{}
		return nil
	})
	g := register(t, r, key, addr(0))
	register(t, r, "other", addr(1))
	w.etcd.Pause()
	for len(writes) > 0 {
		<-writes
	}
	paused := make(chan error, 1)
	go func() { paused <- g.Pause(kit.Bounded(t, soon)) }()
	<-writes
	if err := g.Resume(kit.Bounded(t, 300*time.Millisecond)); err == nil {
		t.Error("Resume returned nil without etcd")
	}
	w.etcd.Resume()
	if <-paused == nil {
		t.Error("Pause, which was overtaken, returned nil")
	}
	must(t, g.Resume(kit.Bounded(t, soon)))
	if got := w.get(entry); got == nil || strings.Contains(got.value, leavingMark) {
		t.Errorf("after Resume etcd has %+v", got)
	}
}
