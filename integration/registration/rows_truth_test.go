package registration

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// brief bounds a call that etcd does not answer.
const brief = 300 * time.Millisecond

// toldKV is a KV that tells of each transaction that writes a value.
type toldKV struct {
	clientv3.KV
	writes chan struct{} // gets a value when one begins, if there is room
}

func (k toldKV) Txn(ctx context.Context) clientv3.Txn { return toldTxn{k.KV.Txn(ctx), k} }

type toldTxn struct {
	clientv3.Txn
	kv toldKV
}

func (x toldTxn) If(cmps ...clientv3.Cmp) clientv3.Txn { return toldTxn{x.Txn.If(cmps...), x.kv} }

func (x toldTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	if puts(clientv3.OpTxn(nil, ops, nil)) {
		select {
		case x.kv.writes <- struct{}{}:
		default:
		}
	}
	return x.Txn.Then(ops...)
}

// toldRegistry returns a registry, and a function that cuts etcd off: it returns a channel that gets a value when a
// write begins after that.
func (w *world) toldRegistry() (r *runtime.Registry, pause func() <-chan struct{}) {
	w.t.Helper()
	client := w.etcd.Client(w.t)
	kv := toldKV{client.KV, make(chan struct{}, 1)}
	client.KV = kv
	return w.newRegistry(client), func() <-chan struct{} {
		w.etcd.Pause()
		select {
		case <-kv.writes:
		default:
		}
		return kv.writes
	}
}

// fails fails the test when a call returns nil though etcd cannot have answered.
func fails(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s returned nil without etcd", what)
	}
}

// deaf is a service whose call does not end with its context.
type deaf struct {
	basic.UnimplementedGreeterServer
	began, released chan struct{}
}

func (d *deaf) SayHello(context.Context, *basic.HelloRequest) (*basic.HelloReply, error) {
	close(d.began)
	<-d.released
	return &basic.HelloReply{}, nil
}

// A call that ignores the end of its context does not keep Serve from returning once the stop timeout has passed.
func TestG9_ACallThatIgnoresItsContext(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	w := newWorld(t, nil)
	d := &deaf{began: make(chan struct{}), released: make(chan struct{})}
	s := w.registry.NewServer(grpc.NewServer(), runtime.WithDrainDelay(0), runtime.WithStopTimeout(200*time.Millisecond))
	basic.RegisterGreeterServerToEtcd(s, d)
	lis := listen(t, "127.0.0.1:0")
	stop := serve(t, s, lis)
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	defer close(d.released)
	go func() {
		_, _ = basic.NewGreeterClient(conn).SayHello(kit.Bounded(t, soon), &basic.HelloRequest{}, grpc.WaitForReady(true))
	}()
	<-d.began
	_ = stop() // returns though the call goes on
}

// A Resume that overtakes a Pause does not return nil before etcd has answered the Pause's mark.
func TestG24_ResumeDuringAPause(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	r, pause := w.toldRegistry()
	g := register(t, r, key, addr(0))
	register(t, r, "other", addr(1))
	writes := pause()
	paused := make(chan error, 1)
	go func() { paused <- g.Pause(kit.Bounded(t, soon)) }()
	<-writes
	fails(t, "Resume", g.Resume(kit.Bounded(t, brief)))
	w.etcd.Resume()
	if <-paused == nil {
		t.Error("Pause, which was overtaken, returned nil")
	}
	must(t, g.Resume(kit.Bounded(t, soon)))
	if got := w.get(entry); got == nil || strings.Contains(got.value, leavingMark) {
		t.Errorf("after Resume etcd has %+v", got)
	}
}
