package registration

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// leavingMark is in the value of an entry that its owner is about to delete.
const leavingMark = `"grpc_leaving":"true"`

// lateAnswer is the time after which a late write fails for its writer.
const lateAnswer = 50 * time.Millisecond

// landsAfter is the time after which it lands.
const landsAfter = 300 * time.Millisecond

// lateKV is a KV that has one write land late, after it has failed for its writer.
type lateKV struct {
	clientv3.KV

	mu            sync.Mutex
	next          bool          // the next write is the late one
	begun, landed chan struct{} // closed when it begins, and when it has landed or was refused
}

// delay has the next write land late.
func (k *lateKV) delay() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next, k.begun, k.landed = true, make(chan struct{}), make(chan struct{})
}

// due returns a channel to close when a write has landed if it is the late one.
func (k *lateKV) due() (landed chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.next {
		return nil
	}
	k.next = false
	close(k.begun)
	return k.landed
}

func (k *lateKV) Txn(ctx context.Context) clientv3.Txn { return &lateTxn{kv: k, ctx: ctx} }

func (k *lateKV) Put(ctx context.Context, key, value string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	resp, err := k.Do(ctx, clientv3.OpPut(key, value, opts...))
	return resp.Put(), err
}

func (k *lateKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	if !puts(op) {
		return k.KV.Do(ctx, op)
	}
	return write(ctx, k, func(ctx context.Context) (clientv3.OpResponse, error) { return k.KV.Do(ctx, op) })
}

// lateTxn is a transaction that may be the late one.
type lateTxn struct {
	kv          *lateKV
	ctx         context.Context
	cmps        []clientv3.Cmp
	then, other []clientv3.Op
}

func (x *lateTxn) If(cmps ...clientv3.Cmp) clientv3.Txn {
	x.cmps = cmps
	return x
}

func (x *lateTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	x.then = ops
	return x
}

func (x *lateTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	x.other = ops
	return x
}

func (x *lateTxn) Commit() (*clientv3.TxnResponse, error) {
	commit := func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return x.kv.KV.Txn(ctx).If(x.cmps...).Then(x.then...).Else(x.other...).Commit()
	}
	if !puts(clientv3.OpTxn(x.cmps, x.then, x.other)) {
		return commit(x.ctx)
	}
	return write(x.ctx, x.kv, commit)
}

// write writes, now or late.
func write[R any](ctx context.Context, k *lateKV, do func(context.Context) (R, error)) (R, error) {
	landed := k.due()
	if landed == nil {
		return do(ctx)
	}
	go func() {
		defer close(landed)
		<-time.After(landsAfter)
		behind, cancel := context.WithTimeout(context.WithoutCancel(ctx), soon)
		defer cancel()
		_, _ = do(behind) // whether etcd still takes it is its writer's affair
	}()
	select {
	case <-time.After(lateAnswer):
	case <-ctx.Done():
	}
	var none R
	return none, context.DeadlineExceeded
}

// puts reports whether an op writes a value.
func puts(op clientv3.Op) bool { return anyOp(op, clientv3.Op.IsPut) }

// anyOp reports whether an op, or one within its transaction, is of a kind.
func anyOp(op clientv3.Op, is func(clientv3.Op) bool) bool {
	if !op.IsTxn() {
		return is(op)
	}
	_, then, other := op.Txn()
	return slices.ContainsFunc(slices.Concat(then, other), func(op clientv3.Op) bool { return anyOp(op, is) })
}

// A first put that lands late undoes neither an update nor a Register that failed.
func TestG17_AFirstPutLandsLate(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	client := w.etcd.Client(t)
	late := &lateKV{KV: client.KV}
	client.KV = late
	r := w.newRegistry(client)
	register(t, r, "another", addr(9)) // the lease stays

	late.delay()
	ctx, cancel := context.WithCancel(kit.Bounded(t, soon))
	begun := late.begun
	go func() { <-begun; cancel() }() // the write is under way when its caller gives up
	if _, err := r.Register(ctx, "svc/failed", runtime.Endpoint{Addr: addr(0)}); err == nil {
		t.Error("Register succeeded without an answer")
	}
	<-late.landed
	took := w.becomes("svc/failed", contents{}, "after a failed Register landed")

	late.delay()
	g, err := r.Register(kit.Bounded(t, soon), "svc/updated", runtime.Endpoint{Addr: addr(0)}, runtime.WithVersion("v1"))
	must(t, err)
	must(t, g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2")))
	<-late.landed
	took = max(took, w.becomes("svc/updated", contents{"svc/updated/" + addr(0): "v2"}, "after the first put landed"))
	report.Took(t, "G17", "etcd as said after the landing, at most", took)
}
