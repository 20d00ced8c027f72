package registration

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
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

// Only a later Resume ends a Pause that is under way: a second Pause does not.
func TestG24_PauseTwice(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	r, pause := w.toldRegistry()
	g := register(t, r, key, addr(0))
	writes := pause()
	first := make(chan error, 1)
	go func() { first <- g.Pause(kit.Bounded(t, soon)) }()
	<-writes
	fails(t, "a second Pause", g.Pause(kit.Bounded(t, brief)))
	w.etcd.Resume()
	if err := <-first; err != nil {
		t.Errorf("the first of two Pauses: %v", err)
	}
	must(t, g.Pause(kit.Bounded(t, soon)))
	w.is(key, contents{}, "after two Pauses")
}

// Once the registry's Close has given up, an entry is closed and may still be in etcd: the status says so, and every
// call that is to take it out returns an error, whether or not it was under way.
func TestG24_ClosedWithoutEtcd(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	r, pause := w.toldRegistry()
	g := register(t, r, "other", addr(0))
	s := r.NewServer(grpc.NewServer())
	basic.RegisterGreeterServerToEtcd(s, &greeter{})
	must(t, s.Announce(kit.Bounded(t, soon), addr(1)))
	writes := pause()
	underWay := make(chan error, 1)
	go func() { underWay <- g.Close(kit.Bounded(t, soon)) }()
	<-writes
	fails(t, "Close of the registry", r.Close(kit.Bounded(t, brief)))
	fails(t, "Close of a registration that was under way", <-underWay)
	fails(t, "Close of a registration", g.Close(kit.Bounded(t, soon)))
	fails(t, "Withdraw", s.Withdraw(kit.Bounded(t, soon)))
	fails(t, "a second Close of the registry", r.Close(kit.Bounded(t, soon)))
	for etcdKey, st := range map[string]runtime.Status{"other/" + addr(0): g.Status(), key + "/" + addr(1): s.Status()[0]} {
		if st.State != runtime.StateClosed || st.Err == nil || !strings.Contains(st.Err.Error(), etcdKey) {
			t.Errorf("the status is %+v, want it closed, with an error that names %s", st, etcdKey)
		}
	}
	w.etcd.Resume()
}

// An Update that etcd refuses stays in the status for as long as etcd has the old value, and is logged.
func TestG22_ARefusedUpdateStaysInTheStatus(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	g := w.register(key, addr(0), runtime.WithVersion("v1"))
	must(t, w.etcd.SetNoSpace(kit.Bounded(t, soon), true))
	calls := w.etcd.Calls()
	calls.Reset()
	fails(t, "Update while etcd is full", g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2")))
	kit.Eventually(t, soon, "tried again", func() bool { return calls.Count(etcdtest.Txn, "") > 2 })
	w.is(key, contents{entry: "v1"}, "while etcd is full")
	if st := g.Status(); st.State != runtime.StateRegistered || st.Err == nil {
		t.Errorf("the status is %+v, want it registered, with the reason why it is not up to date", st)
	}
	kit.Eventually(t, soon, "a log line says why", func() bool { return w.logs.Count("space exceeded") > 0 })
	must(t, w.etcd.SetNoSpace(kit.Bounded(t, soon), false))
	w.becomes(key, contents{entry: "v2"}, "with space again")
	kit.Eventually(t, soon, "no reason is left", func() bool { return g.Status().Err == nil })
}

// stuckSetter is a caller's health service whose SetServingStatus may wait.
type stuckSetter struct {
	*health.Server
	stuck    atomic.Bool
	released chan struct{}
}

func (h *stuckSetter) SetServingStatus(service string, status healthpb.HealthCheckResponse_ServingStatus) {
	if h.stuck.Load() {
		<-h.released
	}
	h.Server.SetServingStatus(service, status)
}

// A caller's health service that waits in SetServingStatus keeps no call beyond its context.
func TestG20_SetServingStatusWaits(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	r := w.newRegistry(w.etcd.Client(t))
	h := &stuckSetter{Server: health.NewServer(), released: make(chan struct{})}
	s := r.NewServer(grpc.NewServer())
	healthpb.RegisterHealthServer(s, h)
	basic.RegisterGreeterServerToEtcd(s, &greeter{})
	must(t, s.Announce(kit.Bounded(t, soon), addr(0)))
	h.stuck.Store(true)
	defer close(h.released)
	for what, call := range map[string]func(context.Context) error{"Withdraw": s.Withdraw, "Close of the registry": r.Close} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = call(kit.Bounded(t, brief)) // whether it has left is not the question
		}()
		select {
		case <-done:
		case <-time.After(backSoon):
			t.Errorf("%s with a context of %v has not returned after %v", what, brief, backSoon)
		}
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
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = stop()
	}()
	select {
	case <-stopped:
	case <-time.After(6 * time.Second):
		t.Error("6 s after its context's end, and with a stop timeout of 0.2 s, Serve has not returned")
	}
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

// Nor does an Announce after a Withdraw that etcd has not answered.
func TestG24_AnnounceDuringAWithdraw(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	s := w.registry.NewServer(grpc.NewServer())
	basic.RegisterGreeterServerToEtcd(s, &greeter{})
	must(t, s.Announce(kit.Bounded(t, soon), addr(0)))
	w.register("other", addr(1))
	w.etcd.Pause()
	fails(t, "Withdraw", s.Withdraw(kit.Bounded(t, brief)))
	fails(t, "Announce", s.Announce(kit.Bounded(t, brief), addr(0)))
	w.etcd.Resume()
	must(t, s.Announce(kit.Bounded(t, soon), addr(0)))
	if got := w.get(entry); got == nil || strings.Contains(got.value, leavingMark) {
		t.Errorf("after Announce etcd has %+v", got)
	}
}
