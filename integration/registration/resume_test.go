package registration

import (
	"context"
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
)

// leavingMark marks the value of an entry that its owner is about to delete.
const leavingMark = `"grpc_leaving":"true"`

// onWrites returns a registry that calls a hook before each transaction that writes a value.
func (w *world) onWrites(hook func()) *runtime.Registry {
	w.t.Helper()
	intercept := func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if txn, ok := req.(*etcdserverpb.TxnRequest); ok && puts(txn) {
			hook()
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

// TestResumeDuringAPause overtakes a Pause with a Resume, which must not return nil before etcd has answered the Pause's write.
func TestResumeDuringAPause(t *testing.T) {
	leak.Beside(t)
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
	go func() { paused <- g.Pause(kit.Bounded(t, soon)) }()
	<-writes
	if err := g.Resume(kit.Bounded(t, 300*time.Millisecond)); err == nil {
		t.Error("Resume returned nil without etcd")
	}
	w.etcd.Resume()
	if <-paused == nil {
		t.Error("Pause, which was overtaken, returned nil")
	}
	kit.Must(t, g.Resume(kit.Bounded(t, soon)))
	if got := w.get(entry); got == nil || strings.Contains(got.value, leavingMark) {
		t.Errorf("after Resume etcd has %+v", got)
	}
}
