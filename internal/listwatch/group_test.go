package listwatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// fakeEtcd is a Client that answers as the test sets it up.
type fakeEtcd struct {
	mu        sync.Mutex
	get       func(ctx context.Context, op clientv3.Op) (*clientv3.GetResponse, error)
	answers   chan clientv3.WatchResponse // what watches receive; nil if watches do not open
	gets      []clientv3.Op
	txns      int
	watches   []string      // the streams on which watches were opened
	opening   time.Duration // how long opening a watch takes
	anyMember int           // the number of watches that do not require a member with a leader
	opened    []context.Context
	early     int // the number of watches that were closed while being opened
}

func (f *fakeEtcd) Get(
	ctx context.Context,
	key string,
	opts ...clientv3.OpOption,
) (*clientv3.GetResponse, error) {
	op := clientv3.OpGet(key, opts...)

	f.mu.Lock()
	f.gets = append(f.gets, op)
	get := f.get
	f.mu.Unlock()

	return get(ctx, op)
}

// fakeTxn reads one range after the other.
type fakeTxn struct {
	clientv3.Txn
	f   *fakeEtcd
	ctx context.Context
	ops []clientv3.Op
}

func (f *fakeEtcd) Txn(ctx context.Context) clientv3.Txn {
	return &fakeTxn{f: f, ctx: ctx}
}

func (t *fakeTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.ops = ops
	return t
}

func (t *fakeTxn) Commit() (*clientv3.TxnResponse, error) {
	t.f.mu.Lock()
	t.f.txns++
	get := t.f.get
	t.f.mu.Unlock()

	resp := &clientv3.TxnResponse{}
	for _, op := range t.ops {
		answer, err := get(t.ctx, op)
		if err != nil {
			return nil, err
		}

		one := *answer
		resp.Header = one.Header

		resp.Responses = append(resp.Responses, &etcdserverpb.ResponseOp{
			Response: &etcdserverpb.ResponseOp_ResponseRange{
				ResponseRange: (*etcdserverpb.RangeResponse)(&one),
			},
		})
	}

	return resp, nil
}

func (f *fakeEtcd) Watch(ctx context.Context, _ string, _ ...clientv3.OpOption) clientv3.WatchChan {
	f.mu.Lock()
	md, _ := metadata.FromOutgoingContext(ctx)
	f.watches = append(f.watches, strings.Join(md.Get(streamKey), ","))

	if len(md.Get(rpctypes.MetadataRequireLeaderKey)) == 0 {
		f.anyMember++
	}

	answers := f.answers
	opening := f.opening
	f.mu.Unlock()

	time.Sleep(opening)

	if answers == nil {
		<-ctx.Done()
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	f.opened = append(f.opened, ctx)

	if ctx.Err() != nil {
		f.early++
	}

	return answers
}

// answering sets the answer of reads, and returns the channel of the watches'
// answers.
func (f *fakeEtcd) answering(resp *clientv3.GetResponse, err error) chan clientv3.WatchResponse {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.get = func(context.Context, clientv3.Op) (*clientv3.GetResponse, error) { return resp, err }
	f.answers = make(chan clientv3.WatchResponse)

	return f.answers
}

// hanging leaves all calls without an answer.
func (f *fakeEtcd) hanging() {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.get = func(ctx context.Context, _ clientv3.Op) (*clientv3.GetResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}

	f.answers = nil
}

// counts returns the number of reads and watches.
func (f *fakeEtcd) counts() [2]int {
	f.mu.Lock()
	defer f.mu.Unlock()

	return [2]int{len(f.gets) + f.txns, len(f.watches)}
}

type hooks struct {
	relisted  []string
	malformed int
}

func newGroup(f *fakeEtcd, h *hooks, log *bytes.Buffer) *Group[string] {
	conversation := NewConversation(f)
	conversation.Why = func(error) error { return errors.New("no route to host") }

	return NewGroup(Config[string]{
		Conversation: conversation,
		Logger:       slog.New(slog.NewTextHandler(log, nil)),
		Hooks: Hooks{
			Relisted:  func(cause string) { h.relisted = append(h.relisted, cause) },
			Malformed: func() { h.malformed++ },
		},
		MaxRefusedPause: time.Minute,
	})
}

// TestGroupFollows makes each call that a core can request.
func TestGroupFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeEtcd{}
		h := &hooks{}
		log := &bytes.Buffer{}
		f.hanging()
		g := newGroup(f, h, log)
		defer g.Close()

		up := time.Now().Add(firstTimeout - 1) // etcd is far away
		g.cfg.Conversation.connected = func(context.Context) bool {
			time.Sleep(time.Until(up))
			return true
		}

		var last Update[string]
		stop := g.Follow(testRange, decodeText, func(u Update[string]) { last = u })
		defer stop()

		time.Sleep(time.Until(up) + firstTimeout + firstRetryPause)
		synctest.Wait()

		cause := "no route to host"
		if last.Snapshot != nil || !strings.Contains(fmt.Sprint(last.Err), cause) {
			t.Fatalf("without etcd: the update is %+v, want no snapshot, "+
				"and an error with the cause %s", last, cause)
		}

		if len(f.gets) != 2 || f.gets[0].IsSerializable() || !f.gets[1].IsSerializable() {
			t.Errorf("without etcd: %d lists, want 2: a linearizable one, then a serializable one",
				len(f.gets))
		}

		answers := f.answering(list(10, kv("a", "1", 5), kv("b", "bad", 5)), nil)
		time.Sleep(2*firstTimeout + 2*firstRetryPause) // the serializable list hangs, too
		synctest.Wait()

		if last.Err != nil || text(last.Snapshot.Items) != "a=1" || h.malformed != 1 {
			t.Fatalf("with etcd: %+v, %d malformed, want a=1 and one malformed", last, h.malformed)
		}

		created := watchAnswer(header(1, 1, 10))
		created.Created = true
		answers <- *created
		answers <- *events(11, put("c", "1", 11))
		synctest.Wait()

		if text(last.Snapshot.Items) != "a=1 c=1" {
			t.Errorf("after a change: %q, want a=1 c=1", text(last.Snapshot.Items))
		}

		// A range whose watch is silent is proven, and the proof finds no
		// difference.
		f.mu.Lock()
		asked := len(f.gets)
		f.get = func(context.Context, clientv3.Op) (*clientv3.GetResponse, error) {
			return keys(11, 2, 11).read, nil
		}
		f.mu.Unlock()

		time.Sleep(proveEvery + time.Second)
		synctest.Wait()

		if proofs := f.counts()[0] - asked; proofs == 0 || len(h.relisted) != 0 {
			t.Errorf("a silent watch: %d proofs, relisted %q, want a proof and no list",
				proofs, h.relisted)
		}

		// A change during a hanging proof is published at once.
		f.hanging()

		for asked = f.counts()[0]; f.counts()[0] == asked; {
			time.Sleep(time.Second)
		}

		answers <- *events(12, put("c", "2", 12))
		synctest.Wait()

		if text(last.Snapshot.Items) != "a=1 c=2" {
			t.Errorf("after a change while a proof hangs: %q, want a=1 c=2",
				text(last.Snapshot.Items))
		}

		// A broken watch is reopened.
		again := f.answering(list(13, kv("a", "2", 13)), nil)
		close(answers)
		time.Sleep(time.Second)
		synctest.Wait()

		items := text(last.Snapshot.Items)

		closed := slices.Equal(h.relisted, []string{"closed"})
		if items != "a=2" || len(f.watches) != 2 || !closed {
			t.Errorf("after a break: %q, watches on %q, relisted %q, "+
				"want a=2, two watches and closed", items, f.watches, h.relisted)
		}

		for _, line := range []string{"level=WARN", "etcd list failed", "etcd watch restored",
			"level=INFO", "etcd watch interrupted", "malformed"} {
			if !strings.Contains(log.String(), line) {
				t.Errorf("%q is not logged:\n%s", line, log)
			}
		}

		// A watch that etcd does not open is given up.
		f.mu.Lock()
		f.answers = nil
		f.mu.Unlock()

		close(again)
		time.Sleep(maxTimeout + 120*time.Millisecond) // until the pause after the failure
		synctest.Wait()

		if n := len(h.relisted); n != 3 || h.relisted[2] != "watch_error" {
			t.Errorf("a watch that does not open: relisted %q, want 3 causes, watch_error last",
				h.relisted)
		}

		if f.anyMember > 0 {
			t.Errorf("%d watches do not require a member with a leader", f.anyMember)
		}
	})
}

// quiet follows ranges of an etcd without changes, counts the repeated lists,
// and runs test.
func quiet(t *testing.T, ranges int, test func(f *fakeEtcd, relisted *atomic.Int64)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeEtcd{}
		relisted := new(atomic.Int64)
		f.answering(list(100), nil)
		g := newGroup(f, &hooks{}, &bytes.Buffer{})
		g.cfg.Hooks.Relisted = func(string) { relisted.Add(1) }
		g.cfg.Conversation.connected = func(context.Context) bool { return true }

		defer g.Close()

		for i := range ranges {
			g.Follow(Prefix(fmt.Sprintf("k%d/", i)), decodeText, func(Update[string]) {})
			time.Sleep(50 * time.Millisecond) // so that ranges differ in their times
		}

		test(f, relisted)
	})
}

// TestRequestsAtRest checks that, while nothing changes, each hundred ranges
// share one proof every 30 s, and that no range is listed again (D14).
func TestRequestsAtRest(t *testing.T) {
	for _, tt := range []struct{ ranges, atLeast, atMost int }{
		{100, 119, 121}, // a request every 30 s
		{200, 238, 242},
	} {
		quiet(t, tt.ranges, func(f *fakeEtcd, relisted *atomic.Int64) {
			time.Sleep(10 * time.Minute)
			before := f.counts()
			time.Sleep(time.Hour)

			asked := f.counts()[0] - before[0]
			if asked < tt.atLeast || asked > tt.atMost || relisted.Load() > 0 {
				t.Errorf("%d ranges: %d proofs in an hour, want %d to %d; %d lists, want 0",
					tt.ranges, asked, tt.atLeast, tt.atMost, relisted.Load())
			}
		})
	}
}

// TestGroup_SharesTrouble checks that all ranges react to a restored etcd soon
// after the watch of one of them has shown it.
func TestGroup_SharesTrouble(t *testing.T) {
	const ranges = 20
	quiet(t, ranges, func(f *fakeEtcd, relisted *atomic.Int64) {
		time.Sleep(10 * time.Minute)

		for before := f.counts(); f.counts() == before; { // so that no proof is due soon
			time.Sleep(time.Second)
		}

		answers := f.answers
		f.answering(list(99), nil)
		answers <- *events(99)
		time.Sleep(lagAllowed + reconnectPause + time.Second)
		synctest.Wait()

		if n := relisted.Load(); n != ranges {
			t.Errorf("%d of %d ranges are listed again, want all", n, ranges)
		}
	})
}

// TestGroup_ReportsALoss loses the connection while watches are being opened,
// one after another. All ranges report the loss, and go on once the connection
// is back.
func TestGroup_ReportsALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ranges = 4

		f := &fakeEtcd{}
		down := errors.New("no route to host")
		f.answering(list(10, kv("a", "1", 5)), nil)
		f.answers = nil // no watch opens
		g := newGroup(f, &hooks{}, &bytes.Buffer{})
		g.cfg.Conversation.Down = func() error { return down }

		defer g.Close()

		var last [ranges]error
		for i := range ranges {
			defer g.Follow(testRange, decodeText, func(u Update[string]) { last[i] = u.Err })()
		}

		synctest.Wait()
		g.cfg.Conversation.ConnChanged()
		time.Sleep(maxTimeout + firstRebuildPause)
		synctest.Wait()

		for i, err := range last {
			if !errors.Is(err, down) {
				t.Errorf("range %d has the error %v, want %v", i, err, down)
			}
		}

		asked := f.counts()
		time.Sleep(time.Minute)

		if now := f.counts(); now != asked {
			t.Errorf("%d reads and watches without a connection, want %d", now, asked)
		}

		down = nil
		f.answering(list(10, kv("a", "1", 5)), nil)
		g.cfg.Conversation.ConnChanged()
		synctest.Wait()

		for i, err := range last {
			if err != nil {
				t.Errorf("range %d still has the error %v", i, err)
			}
		}
	})
}
