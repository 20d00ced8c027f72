package registration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// discard drops what a registry logs.
var discard = slog.New(slog.DiscardHandler)

// leavingMark is in the value of an entry that its owner is about to delete.
const leavingMark = `"grpc_leaving":"true"`

// lateAnswer is the time after which a late write fails for its writer.
const lateAnswer = 50 * time.Millisecond

// landsAfter returns the time after which a late write lands: seconds, as over a slow link between follower and
// leader, and less in the short form of the tests.
func landsAfter() time.Duration {
	if report.Long() {
		return 5 * time.Second
	}
	return 300 * time.Millisecond
}

// lateKV is a KV that has one write land late, after it has failed for its writer.
type lateKV struct {
	clientv3.KV

	mu      sync.Mutex
	counter int // of writes until the late one; 0: none is to come
	err     error
	landed  chan struct{} // closed when it has landed, or was refused
}

// delay has the nth write from now land late, and return err to its writer.
func (k *lateKV) delay(n int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counter, k.err, k.landed = n, err, make(chan struct{})
}

// pending reports whether the late write is still to come.
func (k *lateKV) pending() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.counter > 0
}

// due counts a write. If it is the late one, due returns a channel to close when it has landed.
func (k *lateKV) due() (landed chan struct{}, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.counter > 0 {
		if k.counter--; k.counter == 0 {
			return k.landed, k.err
		}
	}
	return nil, nil
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
	landed, late := k.due()
	if landed == nil {
		return do(ctx)
	}
	go func() {
		defer close(landed)
		<-time.After(landsAfter())
		behind, cancel := context.WithTimeout(context.WithoutCancel(ctx), soon)
		defer cancel()
		_, _ = do(behind) // whether etcd still takes it is its writer's affair
	}()
	select {
	case <-time.After(lateAnswer):
	case <-ctx.Done():
	}
	var none R
	return none, late
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

// lateErrors are the errors of writes whose outcome a client does not know.
var lateErrors = []error{context.DeadlineExceeded, rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToLeaderFail}

// TestG17_APutLandsLate has one write of each try land late, at a random moment.
func TestG17_APutLandsLate(t *testing.T) {
	w := newWorld(t, nil)
	tries, workers := 30, 15
	if report.Long() {
		tries, workers = 200, 40
	}
	var wg sync.WaitGroup
	next := make(chan int)
	results := make(chan error, tries)
	slowest := make(chan time.Duration, tries)
	for range workers {
		client := w.etcd.Client(t)
		late := &lateKV{KV: client.KV}
		client.KV = late
		wg.Go(func() {
			for i := range next {
				l := lateTry{client: client, late: late, admin: w.etcd, service: fmt.Sprintf("svc/try%d", i), random: rand.New(rand.NewPCG(uint64(i), 17))}
				took, err := l.run()
				slowest <- took
				if err != nil {
					results <- fmt.Errorf("try %d: %s: %w", i, strings.Join(l.log, ", "), err)
				}
			}
		})
	}
	for i := range tries {
		next <- i
	}
	close(next)
	wg.Wait()
	close(results)
	close(slowest)
	var most time.Duration
	for took := range slowest {
		most = max(most, took)
	}
	wrong := 0
	for err := range results {
		wrong++
		t.Error(err)
	}
	report.Count(t, "G17", "puts that landed late", tries)
	report.Count(t, "G17", "of them left in etcd what was not said", wrong)
	report.Took(t, "G17", "etcd as said after the landing, at most", most)
	if keys, leases := w.keys(""), w.leases(); len(keys)+len(leases) > 0 {
		t.Errorf("left after Close: keys %v, leases %v", keys, leases)
	}
}

// lateTry is one try: a process that registers, updates, pauses and closes, and has one write land late.
type lateTry struct {
	client  *clientv3.Client
	late    *lateKV
	admin   *etcdtest.Cluster
	service string
	random  *rand.Rand

	version int    // of the last word
	want    string // in the value; "": nothing is to be there
	log     []string
}

// run returns how long after the landing etcd was as wanted.
func (l *lateTry) run() (took time.Duration, err error) {
	registry := runtime.NewRegistry(l.client, runtime.WithLogger(discard))
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		err = errors.Join(err, registry.Close(ctx))
	}()
	l.late.delay(1+l.random.IntN(3), lateErrors[l.random.IntN(len(lateErrors))])
	if err := l.act(registry); err != nil {
		return 0, err
	}
	<-l.late.landed
	start := time.Now()
	for {
		got, err := l.value()
		took := time.Since(start)
		switch {
		case err != nil:
			return took, err
		case l.matches(got):
			return took, nil
		case took > backSoon:
			return took, fmt.Errorf("%v after the landing etcd has %q, want %q", backSoon, got, l.want)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// act makes random calls until the late write is under way, and then perhaps one more.
func (l *lateTry) act(registry *runtime.Registry) error {
	var g *runtime.Registration
	paused := false
	for more := l.random.IntN(2); l.late.pending() || more > 0; {
		if !l.late.pending() {
			more--
		}
		ctx, cancel, patient := l.patience()
		var what string
		var err error
		switch action := l.random.IntN(6); {
		case g == nil:
			what = "register"
			l.version++
			g, err = registry.Register(ctx, l.service, runtime.Endpoint{Addr: addr(0)}, runtime.WithVersion(l.word()))
			paused = false
			if l.want = l.word(); err != nil {
				g, l.want = nil, ""
			}
		case action == 0:
			what = "close"
			err = g.Close(ctx)
			g, l.want = nil, ""
		case action <= 2 && !paused:
			what = "pause"
			err = g.Pause(ctx)
			paused, l.want = true, ""
		case paused:
			what = "resume"
			err = g.Resume(ctx)
			paused, l.want = false, l.word()
		default:
			what = "update"
			l.version++
			err = g.Update(ctx, runtime.WithVersion(l.word()))
			l.want = l.word()
		}
		cancel()
		l.log = append(l.log, fmt.Sprintf("%s %s: %v", what, l.word(), err))
		if err != nil && patient {
			return fmt.Errorf("%s with time enough: %w", what, err)
		}
		if gap := l.random.IntN(4); gap > 0 {
			<-time.After(time.Duration(gap) * 40 * time.Millisecond)
		}
	}
	return nil
}

// patience returns a context that ends before a late answer, soon after it, or much later.
func (l *lateTry) patience() (ctx context.Context, cancel context.CancelFunc, patient bool) {
	d := []time.Duration{lateAnswer / 2, 2 * lateAnswer, soon, soon}[l.random.IntN(4)]
	ctx, cancel = context.WithTimeout(context.Background(), d)
	return ctx, cancel, d == soon
}

func (l *lateTry) word() string { return fmt.Sprintf("v%d.", l.version) }

func (l *lateTry) matches(got string) bool {
	if l.want == "" {
		return got == ""
	}
	return strings.Contains(got, l.want) && !strings.Contains(got, leavingMark)
}

// value returns the value in etcd, "" for none.
func (l *lateTry) value() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	resp, err := l.admin.Admin().Get(ctx, l.service+"/"+addr(0))
	if err != nil || len(resp.Kvs) == 0 {
		return "", err
	}
	return string(resp.Kvs[0].Value), nil
}

// A first put that lands late undoes neither an update nor a Register that failed.
func TestG17_AFirstPutLandsLate(t *testing.T) {
	w := newWorld(t, nil)
	client := w.etcd.Client(t)
	late := &lateKV{KV: client.KV}
	client.KV = late
	r := w.newRegistry(client)
	register(t, r, "another", addr(9)) // the lease stays

	late.delay(1, context.DeadlineExceeded)
	if _, err := r.Register(kit.Bounded(t, lateAnswer/2), "svc/failed", runtime.Endpoint{Addr: addr(0)}); err == nil {
		t.Error("Register succeeded without an answer")
	}
	<-late.landed
	w.becomes("svc/failed", contents{}, "after a failed Register landed")

	late.delay(1, context.DeadlineExceeded)
	g, err := r.Register(kit.Bounded(t, soon), "svc/updated", runtime.Endpoint{Addr: addr(0)}, runtime.WithVersion("v1"))
	must(t, err)
	must(t, g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2")))
	<-late.landed
	w.becomes("svc/updated", contents{"svc/updated/" + addr(0): "v2"}, "after the first put landed")
}
