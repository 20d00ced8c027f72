package lease

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// world drives a core by hand: its clock, and what etcd answers.
type world struct {
	*testing.T
	*core
	now time.Time
	rev int64
}

func newWorld(t *testing.T) *world {
	return &world{t, newCore(15 * time.Second), time.Now(), 100}
}

func plain(key, value string) []Item {
	return []Item{{Key: func(clientv3.LeaseID) string { return key }, Value: value}}
}

// by names an item by its lease.
func by(prefix string) []Item {
	return []Item{{Key: func(id clientv3.LeaseID) string { return fmt.Sprint(prefix, id) }, Value: "v"}}
}

func (w *world) entry(items []Item) *entry {
	w.Helper()
	e, err := w.add(w.now, items, false)
	if err != nil {
		w.Fatal(err)
	}
	return e
}

// expect is what next must ask for now: "grant", "revoke 1", "check 1", or the steps of a batch
// such as "put a" and "guarded a 0"; "" for nothing.
func (w *world) expect(want ...string) op {
	w.Helper()
	o, wait := w.core.next(w.now)
	if got := describe(o); !slices.Equal(got, want) {
		w.Fatalf("next is %q, want %q", got, want)
	}
	if o == nil && (wait <= 0 || wait > tick) {
		w.Fatalf("nothing to do for %v", wait)
	}
	return o
}

func describe(o op) []string {
	switch o := o.(type) {
	case grantOp:
		return []string{"grant"}
	case revokeOp:
		return []string{fmt.Sprint("revoke ", o.lease)}
	case checkOp:
		return []string{fmt.Sprint("check ", o.lease)}
	case batchOp:
		var all []string
		for _, st := range o.steps {
			switch st.kind {
			case put:
				all = append(all, "put "+st.s.key)
			case putGuarded:
				all = append(all, fmt.Sprintf("guarded %s %d", st.s.key, st.s.rev))
			default:
				all = append(all, "remove "+st.s.key)
			}
		}
		return all
	}
	return nil
}

// answer lets a batch succeed, save that guarded puts find what there is in found.
func (w *world) answer(o op, found map[string]*mvccpb.KeyValue) {
	w.Helper()
	w.rev++
	resp := &clientv3.TxnResponse{Header: &pb.ResponseHeader{Revision: w.rev}}
	steps := o.(batchOp).steps
	for _, st := range steps {
		txn := &pb.TxnResponse{Succeeded: true}
		if kv, ok := found[st.s.key]; ok {
			get := &pb.RangeResponse{}
			if kv != nil {
				get.Kvs = []*mvccpb.KeyValue{kv}
			}
			txn = &pb.TxnResponse{Responses: []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponseRange{ResponseRange: get}}}}
		}
		resp.Responses = append(resp.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: txn}})
	}
	w.batched(w.now, steps, resp)
}

// register brings entries to etcd on lease 1.
func (w *world) register(items ...[]Item) []*entry {
	w.Helper()
	var all []*entry
	for _, i := range items {
		all = append(all, w.entry(i))
	}
	w.expect("grant")
	w.grantedLease(w.now, 1, 15*time.Second)
	o, _ := w.core.next(w.now)
	w.answer(o, nil)
	for _, e := range all {
		w.state(e, Registered)
	}
	w.expect()
	w.later(calm + time.Second)
	w.checkAt = w.now.Add(time.Hour)
	return all
}

func (w *world) later(d time.Duration) { w.now = w.now.Add(d); w.looked = time.Time{} }

func (w *world) state(e *entry, want State) {
	w.Helper()
	if e.state != want {
		w.Fatalf("state %s (%v), want %s", e.state, e.err, want)
	}
}

func TestCoreLeaseLost(t *testing.T) {
	w := newWorld(t)
	e := w.register(plain("a", "v"))[0]
	w.lost(w.now, 1, errors.New("expired"))
	w.state(e, Lost)
	w.expect("grant")
	w.grantedLease(w.now, 2, 15*time.Second)
	w.answer(w.expect("guarded a 0"), nil)
	w.state(e, Registered)
	// A lease that is lost at once is not replaced at once.
	w.lost(w.now, 2, errors.New("expired"))
	w.expect()
	w.later(time.Second)
	w.expect("grant")
}

func TestCoreMoves(t *testing.T) {
	w := newWorld(t)
	entries := w.register(plain("a", "v"), by("b"))
	w.retire(w.now, errors.New("no answer"))
	w.state(entries[0], Lost)
	w.expect("grant") // before the old lease is touched
	w.failed(w.now, errors.New("away"))
	w.expect()
	w.later(time.Second)
	w.expect("grant")
	w.grantedLease(w.now, 2, 15*time.Second)
	w.answer(w.expect(fmt.Sprint("guarded a ", w.rev), "guarded b2 0"), nil)
	w.state(entries[0], Registered)
	w.state(entries[1], Registered)
	w.expect("revoke 1")
	w.lost(w.now, 1, nil)
	w.state(entries[0], Registered)
	w.expect()
}

// The outcome of a move is not known: the key is looked at again, and is ours on either lease.
func TestCoreMoveUnknown(t *testing.T) {
	for _, on := range []int64{1, 2} {
		w := newWorld(t)
		e := w.register(plain("a", "v"))[0]
		w.retire(w.now, errors.New("no answer"))
		w.grantedLease(w.now, 2, 15*time.Second)
		rev := w.rev
		w.expect(fmt.Sprint("guarded a ", rev))
		w.failed(w.now, errors.New("timeout"))
		w.later(time.Second)
		o := w.expect(fmt.Sprint("guarded a ", rev))
		w.answer(o, map[string]*mvccpb.KeyValue{"a": {Lease: on, ModRevision: 777, Value: []byte("v")}})
		if on == 1 {
			w.answer(w.expect("guarded a 777"), nil)
		}
		w.state(e, Registered)
		w.expect("revoke 1")
	}
}

func TestCoreKeyMissing(t *testing.T) {
	w := newWorld(t)
	e := w.register(plain("a", "v"), plain("b", "v"))[0]
	deleted := func() {
		w.checked(w.now, 1, [][]byte{[]byte("b"), []byte("other")}, true)
		w.state(e, Lost)
	}
	deleted()
	w.answer(w.expect("guarded a 0"), nil)
	w.state(e, Registered)
	for _, spacing := range []time.Duration{restoreMin, restoreMax, restoreMax} {
		w.later(time.Millisecond)
		deleted()
		w.expect()
		w.later(spacing - 2*time.Millisecond)
		w.expect()
		w.later(time.Millisecond)
		w.answer(w.expect("guarded a 0"), nil)
	}
	w.later(calm + time.Second)
	w.checkAt = w.now.Add(time.Hour)
	deleted()
	w.expect("guarded a 0")
}

func TestCoreConflict(t *testing.T) {
	w := newWorld(t)
	e := w.register(plain("a", "v"))[0]
	w.checked(w.now, 1, nil, true)
	theirs := map[string]*mvccpb.KeyValue{"a": {Lease: 99, ModRevision: 500, Value: []byte("v")}}
	w.answer(w.expect("guarded a 0"), theirs)
	w.state(e, Conflict)
	if e.err == nil || !strings.Contains(e.err.Error(), `"a"`) {
		t.Errorf("error: %v", e.err)
	}
	w.expect()
	w.later(conflictEvery)
	w.answer(w.expect("guarded a 0"), theirs)
	w.state(e, Conflict)
	w.expect()
	w.heard(w.now, "a", false, 99) // of no interest
	w.later(checkMin)
	w.expect()
	w.heard(w.now, "a", true, 0) // they are gone
	w.expect("guarded a 0")
	w.answer(batchOp{[]step{{e: e, s: e.slots[0], kind: putGuarded, value: "v", lease: 1}}}, nil)
	w.state(e, Registered)
	// Someone else's key is not ours to remove.
	w.answer(batchOp{[]step{{e: e, s: e.slots[0], kind: putGuarded, value: "v", lease: 1}}}, theirs)
	w.state(e, Conflict)
	e.want = gone
	w.refresh(w.now)
	w.state(e, Closed)
}

func TestCoreUpdatePauseClose(t *testing.T) {
	w := newWorld(t)
	entries := w.register(plain("a", "v"), plain("b", "v"))
	e := entries[0]
	if err := w.update(e, plain("a", "v2")); err != nil {
		t.Fatal(err)
	}
	if err := w.update(e, plain("c", "v2")); err == nil {
		t.Error("an update changed the key")
	}
	if e.upToDate() {
		t.Error("up to date before it is written")
	}
	w.answer(w.expect(fmt.Sprint("guarded a ", w.rev)), nil)
	if !e.upToDate() {
		t.Error("not up to date after it is written")
	}
	e.want = paused
	w.answer(w.expect("remove a"), nil)
	w.state(e, Paused)
	w.lost(w.now, 1, errors.New("revoked"))
	w.state(e, Paused)
	e.want = present
	w.grantedLease(w.now, 2, 15*time.Second)
	w.answer(w.expect("guarded a 0", "guarded b 0"), nil)
	w.state(e, Registered)
	e.want = gone
	w.answer(w.expect("remove a"), nil)
	w.state(e, Closed)
	entries[1].want = gone
	w.expect("revoke 2") // the last one takes the lease with it
	w.lost(w.now, 2, nil)
	w.state(entries[1], Closed)
	w.expect()
	if len(w.entries) > 0 {
		t.Errorf("%d entries left", len(w.entries))
	}
}

// An entry is given up while its put is under way.
func TestCoreGivenUp(t *testing.T) {
	w := newWorld(t)
	w.register(plain("b", "v"))
	e := w.entry(plain("a", "v"))
	o := w.expect("put a")
	e.want = gone
	w.refresh(w.now)
	if e.state == Closed {
		t.Fatal("closed while a put is under way")
	}
	w.answer(o, nil)
	w.answer(w.expect("remove a"), nil)
	w.state(e, Closed)

	// The same with an outcome that is not known, and a new entry of that key right after.
	e = w.entry(plain("a", "v"))
	w.expect("put a")
	e.want = gone
	w.failed(w.now, errors.New("timeout"))
	again := w.entry(plain("a", "v2"))
	w.later(time.Second)
	w.answer(w.expect("put a"), nil)
	w.state(again, Registered)
	w.state(e, Closed)
	w.expect()

	if _, err := w.add(w.now, plain("a", "v"), false); err == nil {
		t.Error("two entries of one key")
	}
}

func TestCoreClose(t *testing.T) {
	w := newWorld(t)
	w.close(w.now)
	w.expect()
	if !w.finished() {
		t.Error("not finished without a lease")
	}

	w = newWorld(t)
	e := w.entry(plain("a", "v"))
	w.expect("grant")
	w.close(w.now) // while the grant is under way
	w.state(e, Closed)
	w.grantedLease(w.now, 1, 15*time.Second)
	w.expect("revoke 1")
	if w.finished() {
		t.Error("finished with a lease")
	}
	w.lost(w.now, 1, nil)
	w.expect()
	if !w.finished() || w.leftover(nil) != nil {
		t.Errorf("not finished: %v", w.leftover(nil))
	}

	w = newWorld(t)
	e = w.register(plain("a", "v"))[0]
	w.close(w.now)
	w.expect("revoke 1")
	w.state(e, Registered)
	w.end(w.now)
	w.state(e, Closed)
	if err := w.leftover(errors.New("late")); err == nil || !strings.Contains(err.Error(), "15s") {
		t.Errorf("leftover: %v", err)
	}
}

func TestCoreRefused(t *testing.T) {
	w := newWorld(t)
	w.register(plain("z", "v"))
	a, b, c := w.entry(plain("a", "v")), w.entry(plain("b", "v")), w.entry(plain("c", "v"))
	o := w.expect("put a", "put b", "put c")
	w.refusedBatch(w.now, o.(batchOp).steps, rpctypes.ErrPermissionDenied)
	w.answer(w.expect("put a"), nil)
	w.refusedBatch(w.now, w.expect("put b").(batchOp).steps, rpctypes.ErrPermissionDenied)
	w.answer(w.expect("put c"), nil)
	w.state(a, Registered)
	w.state(c, Registered)
	w.state(b, Registering)
	if b.refused == nil {
		t.Error("nothing says that b is refused")
	}
	w.expect()
	w.later(refusedEvery)
	w.answer(w.expect("put b"), nil)
	w.state(b, Registered)
	if b.refused != nil || b.err != nil {
		t.Errorf("registered, with the errors %v, %v", b.refused, b.err)
	}
	// To remove without the permission to look is to revoke.
	b.want = gone
	w.refusedBatch(w.now, w.expect("remove b").(batchOp).steps, rpctypes.ErrPermissionDenied)
	w.expect("grant")
}

func TestCoreBatches(t *testing.T) {
	w := newWorld(t)
	for i := range 250 {
		w.entry(plain(fmt.Sprint("k", i), "v"))
	}
	w.entry(plain("big1", strings.Repeat("x", 700<<10)))
	w.entry(plain("big2", strings.Repeat("x", 700<<10)))
	w.expect("grant")
	w.grantedLease(w.now, 1, 15*time.Second)
	var sizes []int
	for {
		o, _ := w.core.next(w.now)
		if o == nil {
			break
		}
		sizes = append(sizes, len(o.(batchOp).steps))
		w.answer(o, nil)
	}
	if !slices.Equal(sizes, []int{100, 100, 51, 1}) {
		t.Errorf("batches of %v", sizes)
	}
}

func TestCoreChecks(t *testing.T) {
	w := newWorld(t)
	w.register(plain("a", "v"))
	for _, watched := range []bool{false, true} {
		every := checkUnwatched
		if watched {
			every = checkWatched
		}
		w.watched = watched
		w.checkAt = w.now
		w.expect("check 1")
		w.expect()                    // one at a time
		w.heard(w.now, "a", false, 1) // our own put
		w.expect()
		w.heard(w.now, "a", false, 99)
		w.checked(w.now, 1, [][]byte{[]byte("a")}, true)
		w.expect() // not at any rate
		w.later(checkMin)
		w.expect("check 1") // what happened meanwhile is not forgotten
		w.checked(w.now, 1, [][]byte{[]byte("a")}, true)
		w.expect()
		w.later(every/2 + time.Millisecond)
		w.expect()
		w.later(every / 2)
		w.expect("check 1")
		w.checked(w.now, 1, [][]byte{[]byte("a")}, true)
	}
}

// The wall clock jumps while the monotonic one stands still: the machine slept.
func TestCoreSleep(t *testing.T) {
	w := newWorld(t)
	w.register(plain("a", "v"))
	w.expect()
	w.looked = w.looked.Add(-time.Minute)
	w.expect("check 1")
}
