package listwatch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

// some is an event while some keys of the range are followed, whose users have joined so many times.
func some(joins int, keys string, e event) event {
	e.joins, e.keys = joins, strings.Fields(keys)
	return e
}

// crowdOf is an answer of the watch with so many changes of a key.
func crowdOf(key string, first, n int) event {
	var all []*clientv3.Event
	for i := range n {
		all = append(all, put(key, "1", first+i))
	}
	return answered(events(first+n, all...))
}

// someWatched are the rules that lead to a watch of one key.
var someWatched = []rule{
	{0, some(1, "a", ok), "list [a] within 1s"},
	{0, some(1, "a", read(list(10, kv("a", "1", 5)))), "publish [a=1], watch from 11 within 5s"},
	{0, some(1, "a", ok), "wait 4s"},
}

func TestCoreFollowsSomeKeys(t *testing.T) {
	for name, rules := range map[string][]rule{
		"changes": with(someWatched,
			rule{1 * time.Second, some(1, "a", answered(events(11, put("b", "1", 11)))), "wait 4s"},
			rule{2 * time.Second, some(1, "a", answered(events(12, put("a", "2", 12), del("b", 12)))), "publish [a=2], wait 4s"},
		),
		"others join while one is listed": {
			{0, some(1, "a", ok), "list [a] within 1s"},
			{0, some(3, "a b c", read(list(10, kv("a", "1", 5)))), "publish [a=1], list [a b c] within 1s"},
			{0, some(3, "a b c", read(list(11, kv("a", "1", 5), kv("c", "1", 11)))), "publish [a=1 c=1], watch from 12 within 5s"},
		},
		"another joins before the watch has its turn": {
			{0, some(1, "a", ok), "list [a] within 1s"},
			{0, some(1, "a", read(list(10, kv("a", "1", 5)))), "publish [a=1], watch from 11 within 5s"},
			{0, some(2, "a b", event{joined: true}), "list [a b] within 1s"},
			{0, some(2, "a b", read(list(10, kv("a", "1", 5)))), "publish [a=1], watch from 11 within 5s"},
			{0, some(3, "a b", event{joined: true}), "publish [a=1], watch from 11 within 5s"},
		},
		"another joins while the watch is opened": with(someWatched[:2],
			rule{0, some(2, "a b", ok), "verify [a b] within 1s"},
		),
		"another joins, then changes": with(someWatched,
			rule{1 * time.Second, some(1, "a", answered(events(11, put("b", "1", 11)))), "wait 4s"},
			rule{1 * time.Second, some(2, "a b", ok), "verify [a b] within 1s"},
			rule{1 * time.Second, some(2, "a b", read(list(12, kv("a", "1", 5), kv("b", "2", 12)))), "publish [a=1 b=2], wait 4s"},
			rule{1 * time.Second, some(2, "a b", answered(events(12, put("b", "2", 12)))), "wait 4s"},
			rule{2 * time.Second, some(2, "a b", answered(events(13, del("b", 13)))), "publish [a=1], wait 4s"},
		),
		"what is left is followed on, for whoever may join again": with(someWatched,
			rule{1 * time.Second, some(1, "", answered(events(11, put("a", "2", 11)))), "publish [a=2], wait 4s"},
			rule{1 * time.Second, some(2, "a", ok), "publish [a=2], wait 4s"},
		),
		"a probe": with(someWatched,
			rule{8 * time.Second, some(1, "a", ok), "read where etcd is within 500ms"},
			rule{8 * time.Second, some(1, "a", beside(12, where(11, 8*time.Second))), "probe within 500ms"},
			rule{8 * time.Second, some(1, "a", beside(12, keys(11, 1, 5))), "wait 4s"},
		),
		"the list is denied": {
			{0, some(1, "a", ok), "list [a] within 1s"},
			{0, some(1, "a", refused), "publish nothing known with the error, end"},
		},
		"etcd reads fewer in a transaction": {
			{0, some(1, "a", ok), "list [a] within 1s"},
			{0, some(3, "a b c", read(list(10, kv("a", "1", 5)))), "publish [a=1], list [a b c] within 1s"},
			{0, some(3, "a b c", failed(rpctypes.ErrTooManyOps)), "publish [a=1] with the error, end"},
		},
		"etcd reads fewer at once": {
			{0, some(3, "a b c", ok), "list [a b c] within 1s"},
			{0, some(3, "a b c", failed(rpctypes.ErrTooManyOps)), "publish nothing known with the error, end"},
		},
		"the watch is denied": with(someWatched[:2],
			rule{0, some(1, "a", failed(rpctypes.Error(errors.New(rpctypes.ErrGRPCPermissionDenied.Error())))), "publish [a=1] with the error, end"},
		),
		"the token is invalid": {
			{0, some(1, "a", ok), "list [a] within 1s"},
			{0, some(1, "a", failed(rpctypes.ErrInvalidAuthToken)), "etcd list failed, publish nothing known with the error, pause 500ms"},
		},
		"others are written much": with(someWatched,
			rule{1 * time.Second, some(1, "a", crowdOf("b", 11, maxOthers/otherSize)), "wait 4s"},
			rule{61 * time.Second, some(1, "a", crowdOf("b", 9000, maxOthers/otherSize)), "wait 4s"},
		),
		"others are written too much": with(someWatched,
			rule{1 * time.Second, some(1, "a", crowdOf("b", 11, maxOthers/otherSize+1)), "publish [a=1] with the error, end"},
		),
	} {
		t.Run(name, func(t *testing.T) {
			last := testCore(testSpec()).follow(t, rules...)
			if end := strings.HasSuffix(rules[len(rules)-1].want, "end"); end != errors.Is(last.Err, ErrApart) {
				t.Errorf("the last error: %v", last.Err)
			}
		})
	}
}

// TestWhoeverJoinsWaitsForNobody has one after the other join where an update has just cost much.
func TestWhoeverJoinsWaitsForNobody(t *testing.T) {
	c := testCore(testSpec())
	c.follow(t, someWatched...)
	c.charge(time.Second, start)
	c.follow(t,
		rule{0, some(2, "a b", ok), "verify [a b] within 1s"},
		rule{0, some(3, "a b c", read(list(12, kv("a", "2", 11), kv("b", "1", 12)))), "publish [a=2 b=1], verify [a b c] within 1s"},
		rule{0, some(3, "a b c", read(list(12, kv("a", "2", 11), kv("b", "1", 12)))), "publish [a=2 b=1], wait 4s"},
		rule{0, some(4, "a b c", ok), "publish [a=2 b=1], wait 4s"},
	)
}

// TestListOfKeys reads many keys, of which some are there, as many at once as can be received.
func TestListOfKeys(t *testing.T) {
	r, _ := newReplica()
	l := listing[string]{}
	for i := range maxKeys {
		l.keys = append(l.keys, fmt.Sprintf("%03d", i))
	}
	var asked []int
	for more := true; more; {
		p := l.page()
		asked = append(asked, len(p.keys))
		resp := list(10)
		if p.revision != 0 {
			resp.Header.Revision = 12
		}
		for _, key := range p.keys[:1] {
			resp.Kvs = append(resp.Kvs, kv(key, "1", 5))
		}
		if len(asked) == 1 && l.failed(large.err) {
			continue
		}
		var err error
		if more, err = l.take(resp, &r.set); err != nil {
			t.Fatal(err)
		}
	}
	r.listed(&l, false)
	if got := fmt.Sprint(asked, text(r.snapshot().Items), " ", r.total, r.applied); got != "[128 16 112]000=1 016=1 2 10" {
		t.Error(got)
	}
}

func TestSnapshotOfAKey(t *testing.T) {
	r, _ := newReplica()
	var none *Snapshot[string]
	if none.Of("a") != nil {
		t.Error("of no snapshot there is a part")
	}
	l := &listing[string]{keys: []string{"a", "b"}}
	if _, err := l.take(&clientv3.GetResponse{Header: header(1, 1, 10), Kvs: []*mvccpb.KeyValue{kv("b", "1", 5)}}, &r.set); err != nil {
		t.Fatal(err)
	}
	r.listed(l, false)
	s := r.snapshot()
	for key, want := range map[string]string{"a": "", "b": "b=1"} {
		if part := s.Of(key); part == nil || text(part.Items) != want {
			t.Errorf("%s: %+v", key, part)
		}
	}
	if part := s.Of("c"); part != nil {
		t.Errorf("of what is not followed: %+v", part)
	}
}

// keysEtcd answers reads of keys by name. All that are asked for are there, each changed at its revision.
type keysEtcd struct {
	fakeEtcd
	errs  []error // of the next reads
	asked []string
}

func (e *keysEtcd) Do(_ context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	_, gets, _ := op.Txn()
	e.asked = append(e.asked, fmt.Sprint(len(gets), " at ", gets[0].Rev()))
	if len(e.errs) > 0 {
		err := e.errs[0]
		e.errs = e.errs[1:]
		return clientv3.OpResponse{}, err
	}
	resp := &clientv3.TxnResponse{Header: header(1, 1, 300+len(e.asked))}
	for _, get := range gets {
		revision, _ := strconv.Atoi(string(get.KeyBytes()))
		found := &etcdserverpb.RangeResponse{Count: 1, Kvs: []*mvccpb.KeyValue{kv(string(get.KeyBytes()), "", revision)}}
		resp.Responses = append(resp.Responses, &etcdserverpb.ResponseOp{Response: &etcdserverpb.ResponseOp_ResponseRange{ResponseRange: found}})
	}
	return resp.OpResponse(), nil
}

// TestProbeOfKeys asks for many keys, of a member that goes away at first: all are counted, the last changed first.
func TestProbeOfKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &keysEtcd{errs: []error{status.Error(codes.Unavailable, "the member goes away")}}
		w := newWatcher(&Config[string]{Client: e, Streams: NewStreams()}, testSpec(), nil)
		a := action{call: callProbe, bound: time.Second}
		for i := range maxKeys {
			a.page.keys = append(a.page.keys, strconv.Itoa(100+i))
		}
		got := w.probe(t.Context(), a)
		if got.err != nil || got.read.Count != maxKeys || got.read.Kvs[0].ModRevision != 100+maxKeys-1 {
			t.Errorf("%+v", got)
		}
		if asked := fmt.Sprint(e.asked); asked != "[128 at 0 128 at 0]" {
			t.Error(asked)
		}
		e.errs = []error{rpctypes.ErrPermissionDenied}
		if got := w.probe(t.Context(), a); !etcderr.Refused(got.err) {
			t.Errorf("denied: %+v", got)
		}
	})
}
