package worstday

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

const (
	user = "app" // of all processes, under faults with users
	ms   = time.Millisecond
)

var background = context.Background()

// bed is an etcd that a fault will strike. All cells of a bed meet the fault at
// the same time.
type bed struct {
	t       testing.TB
	fault   fault
	cluster *etcdtest.Cluster
	judge   *clientv3.Client // a client of root that bypasses way
	way     way
	target  *etcdtest.Member // the member that will hang; nil if none will
	release func()           // makes the other members reachable
	waiting sync.WaitGroup   // waits for cells that are not ready
	begun   chan struct{}    // closed when the fault has begun
	over    chan struct{}    // closed when the fault has ended
	start   time.Time        // of the fault; valid after begun
	end     time.Time        // of the fault; valid after over
	backup  *etcdtest.Backup

	mu      sync.Mutex
	meters  []*meter
	truth   map[string]string // the values that the test wrote, by key; "" if deleted
	holding bool              // writes of the test reach etcd only after the fault
}

// starting makes etcds start one after the other. If many start at once on a
// busy machine, their first writes time out.
var starting sync.Mutex

func newBed(t testing.TB, f fault) *bed {
	starting.Lock()
	defer starting.Unlock()

	b := &bed{
		t:     t,
		fault: f,
		begun: make(chan struct{}),
		over:  make(chan struct{}),
		truth: map[string]string{},
	}

	opts := f.opts
	if f.user {
		opts = append(opts, etcdtest.WithAuth("secret", etcdtest.User{
			Name:        user,
			Password:    user,
			Permissions: []etcdtest.Permission{etcdtest.ReadWrite("")},
		}))
	}

	b.cluster = etcdtest.Start(t, opts...)
	b.judge = b.cluster.Client(t, func(cfg *clientv3.Config) {
		cfg.Endpoints = b.cluster.Admin().Endpoints()

		// so that the judge reconnects soon after etcd is back
		soon := backoff.Config{BaseDelay: 50 * ms, Multiplier: 1, MaxDelay: 50 * ms}
		cfg.DialOptions = []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           soon,
			MinConnectTimeout: time.Second,
		})}
	})

	if f.early != nil {
		f.early(b)
	}

	return b
}

// play waits until all cells are ready, and lets the fault begin and end.
func (b *bed) play() {
	b.waiting.Wait()

	if b.fault.prepare != nil {
		b.fault.prepare(b)
	}

	for _, m := range b.meters {
		m.restart(b.fault.hangs)
	}

	if b.fault.begin != nil {
		b.fault.begin(b)
	}

	b.start = time.Now()
	close(b.begun)

	if b.fault.during != nil {
		b.fault.during(b)
	}

	time.Sleep(time.Until(b.start.Add(b.fault.lasts)))

	if b.fault.end != nil {
		b.fault.end(b)
	}

	b.mu.Lock()

	for _, m := range b.meters {
		m.recover()
	}

	b.mu.Unlock()

	b.end = time.Now()
	close(b.over)
}

// must fails the test if the test's own request has failed.
func (b *bed) must(err error) {
	if err != nil {
		b.t.Errorf("%s: %v", b.fault.name, err)
	}
}

// put writes a key of a cell, or deletes it if value is "". It returns when
// etcd has the change, which may be after the fault.
func (b *bed) put(key, value string) {
	b.mu.Lock()
	b.truth[key] = value
	holding := b.holding
	b.mu.Unlock()

	if holding {
		<-b.over
		return
	}

	b.write(key, value)
}

// write tries until etcd has the change.
func (b *bed) write(key, value string) {
	b.writeAll(map[string]string{key: value})
}

// writeAll tries until etcd has the changes, 100 in a transaction.
func (b *bed) writeAll(changes map[string]string) {
	var ops []clientv3.Op
	for key, value := range changes {
		if value == "" {
			ops = append(ops, clientv3.OpDelete(key))
		} else {
			ops = append(ops, clientv3.OpPut(key, value))
		}
	}

	for some := range slices.Chunk(ops, 100) {
		commit := func(ctx context.Context) error {
			_, err := b.judge.Txn(ctx).Then(some...).Commit()
			return err
		}

		b.must(policy{30, 2 * time.Second}.do(background, commit))
	}
}

// hold makes put record values without writing them to etcd, until rewrite is
// called.
func (b *bed) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.holding = true
}

// rewrite writes all values that put has recorded, because etcd may have lost
// some.
func (b *bed) rewrite() {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.writeAll(b.truth)
	b.holding = false
}
