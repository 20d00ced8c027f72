package listwatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcdcause"
)

const ms = time.Millisecond

// Events, as the shell would report them.
var (
	ok      = event{}
	lost    = event{lost: true}
	back    = event{back: true}
	closed  = failed(errClosed)
	late    = failed(context.DeadlineExceeded)
	slow    = event{err: context.DeadlineExceeded, why: etcdcause.Silent("etcd does not answer")}
	refused = failed(rpctypes.ErrPermissionDenied)
)

func failed(err error) event                      { return event{err: err} }
func read(resp *clientv3.GetResponse) event       { return event{read: resp} }
func answered(resp *clientv3.WatchResponse) event { return event{answer: resp} }
func because(e event, cause string) event         { e.why = errors.New(cause); return e }
func from(member uint64, e event) event           { e.answer.Header.MemberId = member; return e }
func where(revision int, at time.Duration) event {
	return event{head: head{header(1, 1, revision), start.Add(at)}}
}

// beside is an event while a watch of the same stream has begun at a revision.
func beside(latest int64, e event) event { e.latest = latest; return e }
func keys(revision, n, last int) event {
	return read(&clientv3.GetResponse{Header: header(1, 1, revision), Count: int64(n), Kvs: list(0, kv("k", "", last)).Kvs})
}

// rule is one step: an event, when it happens, and what is to be done then.
type rule struct {
	at   time.Duration
	e    event
	want string
}

// text writes what is to be done as a rule does.
func (d do[T]) text(now time.Time) string {
	var parts []string
	if d.closeWatch {
		parts = append(parts, "close the watch: "+d.relisted)
	}
	for _, n := range d.notes {
		first, _, _ := strings.Cut(n.text, ";")
		parts = append(parts, first)
	}
	if u := d.update; u != nil {
		text := "publish nothing known"
		if u.Snapshot != nil {
			var items []string
			for _, item := range u.Snapshot.Items {
				items = append(items, fmt.Sprint(item.Key, "=", item.Value))
			}
			text = "publish [" + strings.Join(items, " ") + "]"
			if u.Snapshot.Provisional {
				text += " provisionally"
			}
		}
		if u.Err != nil {
			text += " with the error"
		}
		parts = append(parts, text)
	}
	switch d.call {
	case callPause:
		parts = append(parts, fmt.Sprint("pause ", d.bound))
	case callList:
		parts = append(parts, fmt.Sprint("list ", d.page, "within ", d.bound))
	case callListLocal:
		parts = append(parts, fmt.Sprint("list locally ", d.page, "within ", d.bound))
	case callWatch:
		parts = append(parts, fmt.Sprintf("watch from %d within %v", d.revision, d.bound))
	case callWait:
		parts = append(parts, fmt.Sprint("wait ", d.until.Sub(now)))
	case callVerify:
		parts = append(parts, fmt.Sprint("verify ", d.page, "within ", d.bound))
	case callHead:
		parts = append(parts, fmt.Sprint("read where etcd is within ", d.bound))
	case callProbe:
		parts = append(parts, fmt.Sprint("probe within ", d.bound))
	case callProgress:
		parts = append(parts, fmt.Sprint("request progress within ", d.bound))
	}
	return strings.Join(parts, ", ")
}

// String writes a page as a rule does: nothing for the first one of a list, as it is at first.
func (p page) String() string {
	var text string
	if p.limit != firstPage || p.from != "" {
		text = fmt.Sprintf("%d ", p.limit)
	}
	if p.keysOnly {
		text += "keys only "
	}
	if p.from != "" {
		text += fmt.Sprintf("from %q ", p.from)
	}
	if p.revision != 0 {
		text += fmt.Sprintf("at %d ", p.revision)
	}
	return text
}

func testSpec() Spec[string] {
	return Spec[string]{Range: Range{"k/", "k0"}, Decode: newSet(new([]string)).decode}
}

func testCore(spec Spec[string]) *core[string] {
	c := newCore(spec, &Config[string]{
		Equal: func(a, b string) bool { return a == b }, MaxRefusedPause: 5 * time.Second, Streams: NewStreams(),
	})
	c.replica.blind = false // TestCoreVerifiesBlindly has one that is
	return c
}

// follow goes through the rules, and returns the last update.
func (c *core[T]) follow(t *testing.T, rules ...rule) (last *Update[T]) {
	t.Helper()
	for i, r := range rules {
		now := start.Add(r.at)
		do := c.step(r.e, now)
		if got := do.text(now); got != r.want {
			t.Fatalf("rule %d, at %v:\n got %s\nwant %s", i, r.at, got, r.want)
		}
		if do.update != nil {
			last = do.update
		}
	}
	return last
}

// watching are the rules that lead to a watch of a range with one entry, open at 0.
var watching = []rule{
	{0, ok, "list within 1s"},
	{0, read(list(10, kv("a", "1", 5))), "publish [a=1], watch from 11 within 5s"},
	{0, ok, "wait 4s"},
}

// ended is the last answer of a watch: etcd has compacted what it asks for, unless that is 0.
func ended(revision int, compacted int64) *clientv3.WatchResponse {
	resp := watchAnswer(header(1, 1, revision))
	resp.CompactRevision, resp.Canceled = compacted, true
	return resp
}

func with(first []rule, rest ...rule) []rule { return append(first[:len(first):len(first)], rest...) }

// TestK14_BoundsFollowTheRoundTrip has etcd usually answer after a second: each bound, and what the watch has for its signs of
// life, is longer by some of that.
func TestK14_BoundsFollowTheRoundTrip(t *testing.T) {
	far := func(e event) event { e.roundTrip = time.Second; return e }
	testCore(testSpec()).follow(t,
		rule{0, ok, "list within 1s"},
		rule{0, far(read(list(10, kv("a", "1", 5)))), "publish [a=1], watch from 11 within 8s"},
		rule{0, far(ok), "wait 4s"},
		rule{4 * time.Second, far(ok), "request progress within 1s"},
		rule{4 * time.Second, far(ok), "wait 1s"},
		rule{10 * time.Second, far(ok), "request progress within 1s"},
		rule{11 * time.Second, far(ok), "read where etcd is within 3.5s"},
		rule{11 * time.Second, far(failed(context.DeadlineExceeded)), "close the watch: watch_error, etcd watch interrupted, pause 50ms"},
		rule{12 * time.Second, far(ok), "list within 4s"},
	)
}

func TestCoreFollows(t *testing.T) {
	for name, rules := range map[string][]rule{
		"changes": with(watching,
			rule{1 * time.Second, answered(events(11, put("b", "1", 11))), "publish [a=1 b=1], wait 4s"},
			rule{1 * time.Second, answered(events(11, put("b", "1", 11))), "wait 4s"},
			rule{2 * time.Second, answered(events(12, del("a", 12))), "publish [b=1], wait 4s"},
			rule{3 * time.Second, answered(events(13, put("x", "bad", 13))), "malformed value in etcd skipped, wait 4s"},
		),
		"an empty range": {
			{0, ok, "list within 1s"},
			{0, read(list(10)), "publish [], watch from 11 within 5s"},
		},
		"a watch that answers": with(watching,
			rule{4 * time.Second, ok, "request progress within 1s"},
			rule{4 * time.Second, ok, "wait 1s"},
			rule{4 * time.Second, answered(events(10)), "wait 4s"},
			rule{8 * time.Second, ok, "request progress within 1s"},
		),
		"a watch that no longer answers": with(watching,
			rule{1 * time.Second, answered(events(10)), "wait 4s"},
			rule{5 * time.Second, ok, "request progress within 1s"},
			rule{6 * time.Second, late, "request progress within 1s"},
			rule{7 * time.Second, late, "request progress within 1s"},
			rule{8 * time.Second, late, "request progress within 1s"},
			rule{9 * time.Second, late, "read where etcd is within 500ms"},
			rule{9 * time.Second, where(11, 9*time.Second), "request progress within 1s"}, // etcd has moved on
			rule{10 * time.Second, late, "request progress within 1s"},
			rule{11 * time.Second, late, "probe within 500ms"},
			rule{11 * time.Second, keys(11, 1, 5), "close the watch: silent, etcd watch interrupted, pause 50ms"},
			rule{11 * time.Second, ok, "list within 1s"},
		),
		"a watch that does not answer while nobody writes": with(watching,
			rule{1 * time.Second, answered(events(10)), "wait 4s"},
			rule{9 * time.Second, ok, "read where etcd is within 500ms"},
			rule{9 * time.Second, where(10, 9*time.Second), "wait 4s"},
			rule{13 * time.Second, ok, "read where etcd is within 500ms"},
			rule{13 * time.Second, where(10, 12500*ms), "wait 3.5s"}, // as another range has read
			rule{17 * time.Second, ok, "read where etcd is within 500ms"},
			rule{17 * time.Second, where(11, 17*time.Second), "request progress within 1s"}, // somebody does
			rule{17 * time.Second, ok, "wait 1s"},
			rule{18 * time.Second, answered(events(11)), "wait 4s"},
			rule{22 * time.Second, ok, "request progress within 1s"},
		),
		"a watch that never answers": with(watching,
			rule{8 * time.Second, ok, "read where etcd is within 500ms"},
			rule{8 * time.Second, where(20, 8*time.Second), "request progress within 1s"},
			rule{10 * time.Second, late, "probe within 500ms"},
			rule{10 * time.Second, keys(20, 1, 5), "wait 8s"},
			rule{18 * time.Second, ok, "probe within 500ms"},
			rule{18 * time.Second, keys(30, 2, 25), "wait 1s"},
			rule{19 * time.Second, ok, "probe within 500ms"},
			rule{19 * time.Second, keys(30, 2, 25), "close the watch: missed, etcd watch interrupted, pause 50ms"},
		),
		"a watch on an etcd that has moved on, but not to where another one began": with(watching,
			rule{8 * time.Second, ok, "read where etcd is within 500ms"},
			rule{8 * time.Second, beside(12, where(11, 8*time.Second)), "probe within 500ms"},
			rule{8 * time.Second, beside(12, keys(11, 1, 5)), "wait 4s"},
			rule{12 * time.Second, ok, "read where etcd is within 500ms"},
		),
		"a watch that has missed something": with(watching,
			rule{8 * time.Second, ok, "read where etcd is within 500ms"},
			rule{8 * time.Second, where(20, 8*time.Second), "request progress within 1s"},
			rule{10 * time.Second, late, "probe within 500ms"},
			rule{10 * time.Second, keys(20, 2, 15), "wait 1s"},
			rule{11 * time.Second, ok, "probe within 500ms"},
			rule{11 * time.Second, keys(20, 2, 15), "close the watch: missed, etcd watch interrupted, pause 50ms"},
		),
		"a probe that is faster than the event": with(watching,
			rule{8 * time.Second, ok, "read where etcd is within 500ms"},
			rule{8 * time.Second, beside(12, where(11, 8*time.Second)), "probe within 500ms"},
			rule{8 * time.Second, beside(12, keys(11, 2, 11)), "wait 1s"},
			rule{8 * time.Second, answered(events(11, put("b", "1", 11))), "publish [a=1 b=1], wait 4s"},
		),
		"a read that fails": with(watching,
			rule{8 * time.Second, ok, "read where etcd is within 500ms"},
			rule{9 * time.Second, late, "close the watch: watch_error, etcd watch interrupted, pause 50ms"},
		),
		"a read that shows another etcd": with(watching,
			rule{8 * time.Second, ok, "read where etcd is within 500ms"},
			rule{8 * time.Second, where(9, 8*time.Second), "close the watch: replaced, etcd watch interrupted, pause 50ms"},
		),
		"a probe that fails": with(watching,
			rule{8 * time.Second, ok, "read where etcd is within 500ms"},
			rule{8 * time.Second, where(20, 8*time.Second), "request progress within 1s"},
			rule{10 * time.Second, late, "probe within 500ms"},
			rule{11 * time.Second, late, "close the watch: watch_error, etcd watch interrupted, pause 50ms"},
		),
		"compacted": with(watching, rule{1 * time.Second, answered(ended(50, 40)), "close the watch: compacted, etcd watch interrupted, pause 50ms"}),
		"canceled":  with(watching, rule{1 * time.Second, answered(ended(50, 0)), "close the watch: watch_error, etcd watch interrupted, pause 50ms"}),
		"another cluster": with(watching,
			rule{1 * time.Second, answered(watchAnswer(header(2, 1, 50))), "close the watch: replaced, etcd watch interrupted, pause 50ms"},
		),
		"another cluster, by a read": with(watching,
			rule{8 * time.Second, ok, "read where etcd is within 500ms"},
			rule{8 * time.Second, event{head: head{header(2, 1, 10), start.Add(8 * time.Second)}}, "close the watch: replaced, etcd watch interrupted, pause 50ms"},
		),
		"an earlier term": with(watching,
			rule{1 * time.Second, answered(watchAnswer(header(1, 0, 100))), "wait 1s"},
			rule{2 * time.Second, answered(watchAnswer(header(1, 0, 100))), "close the watch: replaced, etcd watch interrupted, pause 50ms"},
			rule{2 * time.Second, ok, "list within 1s"},
			rule{2 * time.Second, read(list(5, kv("b", "1", 3))), "publish [b=1], watch from 6 within 5s"}, // the truth, lower as it is
		),
		"a member that lags for a moment": with(watching,
			rule{1 * time.Second, answered(events(9)), "wait 1s"},
			rule{1500 * ms, answered(events(10)), "wait 4s"},
			rule{2 * time.Second, answered(events(9)), "wait 1s"},
			rule{2500 * ms, answered(events(11)), "wait 4s"},
		),
		"a proxy, which leaves headers empty": with(watching, rule{1 * time.Second, answered(watchAnswer(header(0, 0, 0))), "wait 4s"}),
		"a lagging member": with(watching,
			rule{1 * time.Second, answered(events(9)), "wait 1s"},
			rule{2 * time.Second, ok, "request progress within 1s"},
			rule{2 * time.Second, ok, "wait 1s"},
			rule{2 * time.Second, answered(events(9)), "close the watch: replaced, etcd watch interrupted, pause 50ms"},
		),
	} {
		t.Run(name, func(t *testing.T) { testCore(testSpec()).follow(t, rules...) })
	}
}

func TestCoreListsAgain(t *testing.T) {
	interrupted := with(watching, rule{time.Second, closed, "close the watch: closed, etcd watch interrupted, pause 50ms"})
	for name, rules := range map[string][]rule{
		"nothing new": with(interrupted,
			rule{time.Second, ok, "list within 1s"},
			rule{time.Second, read(list(10, kv("a", "1", 5))), "watch from 11 within 5s"},
			rule{time.Second, ok, "wait 4s"},
			rule{time.Second, answered(events(10)), "etcd watch restored, wait 4s"},
		),
		"something missed": with(interrupted,
			rule{time.Second, ok, "list within 1s"},
			rule{time.Second, read(list(12, kv("b", "1", 12))), "publish [b=1], watch from 13 within 5s"},
		),
		"etcd stays away": with(interrupted,
			rule{1000 * ms, ok, "list within 1s"},
			rule{2000 * ms, late, "etcd list failed, publish [a=1] with the error, pause 50ms"},
			rule{2050 * ms, ok, "list within 2s"},
			rule{4050 * ms, late, "pause 100ms"},
			rule{4150 * ms, ok, "list within 4s"},
			rule{8150 * ms, late, "pause 200ms"},
			rule{8350 * ms, ok, "list within 8s"},
			rule{16350 * ms, late, "pause 400ms"},
			rule{16750 * ms, ok, "list within 10s"},
			rule{26750 * ms, late, "pause 800ms"},
			rule{27550 * ms, ok, "list within 10s"},
			rule{37550 * ms, late, "pause 1s"},
			rule{38550 * ms, ok, "list within 10s"},
			// It is back, with what was there; that is news once the watch answers.
			rule{38550 * ms, read(list(10, kv("a", "1", 5))), "watch from 11 within 5s"},
			rule{38550 * ms, ok, "wait 4s"},
			rule{38550 * ms, answered(events(10)), "etcd watch restored, publish [a=1], wait 4s"},
			// The next trouble begins with short bounds and pauses.
			rule{39 * time.Second, closed, "close the watch: closed, etcd watch interrupted, pause 100ms"},
			rule{39 * time.Second, ok, "list within 1s"},
			rule{40 * time.Second, late, "etcd list failed, publish [a=1] with the error, pause 50ms"},
		),
		"a reconnect ends a pause": with(interrupted, rule{time.Second, back, "list within 1s"}),
		"watches that break at once, and one that was steady": with(interrupted,
			rule{1 * time.Second, ok, "list within 1s"},
			rule{1 * time.Second, read(list(10, kv("a", "1", 5))), "watch from 11 within 5s"},
			rule{6 * time.Second, failed(errNotOpened), "close the watch: watch_error, pause 100ms"},
			rule{6 * time.Second, ok, "list within 1s"},
			rule{6 * time.Second, read(list(10, kv("a", "1", 5))), "watch from 11 within 5s"},
			rule{6 * time.Second, ok, "wait 4s"},
			rule{11 * time.Second, closed, "close the watch: closed, pause 200ms"},
			rule{11 * time.Second, ok, "list within 1s"},
			rule{11 * time.Second, read(list(10, kv("a", "1", 5))), "watch from 11 within 5s"},
			rule{11 * time.Second, ok, "wait 4s"},
			rule{17 * time.Second, closed, "close the watch: closed, pause 50ms"},
		),
	} {
		t.Run(name, func(t *testing.T) { testCore(testSpec()).follow(t, rules...) })
	}
}

func TestCoreStarts(t *testing.T) {
	remembered := testSpec()
	remembered.Last = &Snapshot[string]{Items: []*Item[string]{{Key: "a", Value: "1"}}, Revision: 7, Cluster: 1}
	for _, tt := range []struct {
		name  string
		spec  Spec[string]
		rules []rule
	}{
		{"without a leader", testSpec(), []rule{
			{0, ok, "list within 1s"},
			{1 * time.Second, late, "list locally within 500ms"},
			{1 * time.Second, read(list(9, kv("a", "0", 5))), "etcd list failed, publish [a=0] provisionally with the error, pause 50ms"},
			{1 * time.Second, ok, "list within 2s"},
			{3 * time.Second, late, "pause 100ms"},
			{3 * time.Second, ok, "list within 4s"},
			{3 * time.Second, read(list(9, kv("a", "0", 5))), "publish [a=0], watch from 10 within 5s"},
		}},
		{"without etcd", testSpec(), []rule{
			{0, ok, "list within 1s"},
			{1 * time.Second, late, "list locally within 500ms"},
			{1 * time.Second, late, "etcd list failed, publish nothing known with the error, pause 50ms"},
			{1 * time.Second, ok, "list within 2s"},
			{3 * time.Second, late, "list locally within 500ms"},
			{3 * time.Second, late, "pause 100ms"},
			{3 * time.Second, back, "list within 4s"},
			{3 * time.Second, refused, "publish nothing known with the error, pause 500ms"},
		}},
		{"far from etcd", testSpec(), []rule{
			{0, ok, "list within 1s"},
			{1 * time.Second, slow, "list locally within 500ms"},
			{2 * time.Second, read(list(9, kv("a", "1", 5))), "publish [a=1] provisionally with the error, pause 50ms"},
			{2 * time.Second, ok, "list within 2s"},
			{3 * time.Second, read(list(9, kv("a", "1", 5))), "publish [a=1], watch from 10 within 5s"},
		}},
		{"far from an etcd that hangs", testSpec(), []rule{
			{0, ok, "list within 1s"},
			{1 * time.Second, slow, "list locally within 500ms"},
			{2 * time.Second, slow, "publish nothing known with the error, pause 50ms"},
			{2 * time.Second, ok, "list within 2s"},
			{4 * time.Second, slow, "list locally within 500ms"},
			{5 * time.Second, slow, "etcd list failed, pause 100ms"},
		}},
		{"with what is known from earlier", remembered, []rule{
			{0, ok, "list within 1s"},
			{1 * time.Second, late, "etcd list failed, publish [a=1] provisionally with the error, pause 50ms"},
			{1 * time.Second, ok, "list within 2s"},
			{1 * time.Second, read(list(9, kv("a", "1", 5))), "publish [a=1], watch from 10 within 5s"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { testCore(tt.spec).follow(t, tt.rules...) })
	}
}

func TestK9_CoreBacksOffFromRefusals(t *testing.T) {
	for name, err := range map[string]error{
		"no permission": rpctypes.ErrPermissionDenied,
		"no user":       rpctypes.ErrUserEmpty,
		"no token":      rpctypes.ErrInvalidAuthToken,
	} {
		t.Run(name, func(t *testing.T) {
			refused := failed(err)
			testCore(testSpec()).follow(t,
				rule{0, ok, "list within 1s"},
				rule{0, refused, "etcd list failed, publish nothing known with the error, pause 500ms"},
				rule{1 * time.Second, ok, "list within 2s"},
				rule{1 * time.Second, refused, "pause 1s"},
				rule{2 * time.Second, ok, "list within 4s"},
				rule{2 * time.Second, refused, "pause 2s"},
				rule{4 * time.Second, ok, "list within 8s"},
				rule{4 * time.Second, refused, "pause 4s"},
				rule{8 * time.Second, ok, "list within 10s"},
				rule{8 * time.Second, refused, "pause 5s"}, // the longest that the configuration allows
				rule{9 * time.Second, back, "list within 10s"},
				rule{9 * time.Second, refused, "pause 5s"},
				// Another trouble in between has pauses of its own.
				rule{14 * time.Second, ok, "list within 10s"},
				rule{24 * time.Second, late, "list locally within 500ms"},
				rule{24 * time.Second, late, "publish nothing known with the error, pause 50ms"},
				rule{25 * time.Second, ok, "list within 10s"},
				rule{25 * time.Second, read(list(10)), "publish [], watch from 11 within 5s"},
				rule{25 * time.Second, ok, "wait 4s"},
				rule{25 * time.Second, answered(events(10)), "etcd watch restored, wait 4s"},
				rule{26 * time.Second, closed, "close the watch: closed, etcd watch interrupted, pause 50ms"},
				rule{26 * time.Second, ok, "list within 1s"},
				rule{26 * time.Second, refused, "etcd list failed, publish [] with the error, pause 500ms"},
			)
		})
	}
}

// TestCoreVerifiesBlindly has etcd become another one between the list and the watch, and nobody tell of that.
func TestCoreVerifiesBlindly(t *testing.T) {
	c := testCore(testSpec())
	c.replica.blind = true
	c.follow(t, with(watching,
		rule{1 * time.Second, answered(events(10)), "verify within 1s"},
		rule{1 * time.Second, read(list(10, kv("a", "2", 6))), "publish [a=2], wait 4s"},
		rule{5 * time.Second, answered(events(10)), "wait 4s"},
	)...)
}

func TestCoreVerifies(t *testing.T) {
	for name, rules := range map[string][]rule{
		"the connection is back": with(watching,
			rule{1 * time.Second, back, "verify within 1s"},
			rule{1 * time.Second, read(list(10, kv("a", "1", 5))), "request progress within 1s"},
			rule{1 * time.Second, ok, "wait 1s"},
			rule{1 * time.Second, answered(events(10)), "wait 4s"},
		),
		"a stream that is lost for long": with(watching,
			rule{2 * time.Second, lost, "request progress within 1s"},
			rule{3 * time.Second, late, "request progress within 1s"},
			rule{6 * time.Second, late, "read where etcd is within 500ms"},
			rule{6500 * ms, late, "close the watch: watch_error, etcd watch interrupted, pause 50ms"},
		),
		"a stream that is reopened again and again": with(watching,
			rule{2 * time.Second, lost, "request progress within 1s"},
			rule{3 * time.Second, late, "request progress within 1s"},
			rule{4 * time.Second, late, "request progress within 1s"},
			rule{4 * time.Second, ok, "wait 1s"},
			rule{4500 * ms, lost, "wait 500ms"},
			rule{5 * time.Second, lost, "request progress within 1s"},
			rule{6 * time.Second, late, "read where etcd is within 500ms"},
			rule{6 * time.Second, where(10, 6*time.Second), "verify within 1s"},
			rule{6 * time.Second, read(list(10, kv("a", "1", 5))), "wait 4s"},
			rule{7 * time.Second, lost, "request progress within 1s"},
		),
		"a stream that is reopened at an etcd whose history is as long": with(watching,
			rule{2 * time.Second, lost, "request progress within 1s"},
			rule{2 * time.Second, ok, "wait 1s"},
			rule{2 * time.Second, answered(events(10)), "verify within 1s"},
			rule{2 * time.Second, read(list(10, kv("a", "2", 6))), "publish [a=2], wait 4s"},
		),
		"a stream that is lost for a moment": with(watching,
			rule{2 * time.Second, lost, "request progress within 1s"},
			rule{2 * time.Second, ok, "wait 1s"},
			rule{2 * time.Second, back, "verify within 1s"},
			rule{2 * time.Second, read(list(10, kv("a", "1", 5))), "request progress within 1s"},
		),
		"another connection, which shows what the watch has missed": with(watching,
			rule{1 * time.Second, back, "verify within 1s"},
			rule{1 * time.Second, read(list(12, kv("b", "1", 12))), "publish [b=1], request progress within 1s"},
			rule{1 * time.Second, ok, "wait 1s"},
			rule{1 * time.Second, answered(events(12, put("a", "2", 11), put("b", "1", 12))), "publish [b=1], wait 4s"}, // a was that when it went
		),
		"another connection of a watch that never answers": with(watching,
			rule{8 * time.Second, ok, "read where etcd is within 500ms"},
			rule{8 * time.Second, where(10, 8*time.Second), "wait 4s"},
			rule{9 * time.Second, back, "verify within 1s"},
			rule{9 * time.Second, read(list(10, kv("a", "1", 5))), "request progress within 1s"},
			rule{9 * time.Second, ok, "wait 1s"},
		),
		"another member after a reconnect": with(watching,
			rule{1 * time.Second, from(7, answered(events(10))), "wait 4s"},
			rule{2 * time.Second, back, "verify within 1s"},
			rule{2 * time.Second, read(list(10, kv("a", "1", 5))), "request progress within 1s"},
			rule{2 * time.Second, ok, "wait 1s"},
			rule{2 * time.Second, from(8, answered(events(10))), "wait 4s"},
		),
		"another member": with(watching,
			rule{1 * time.Second, from(7, answered(events(10))), "wait 4s"},
			rule{2 * time.Second, from(7, answered(events(11))), "wait 4s"},
			rule{3 * time.Second, from(8, answered(events(12, put("b", "1", 12)))), "publish [a=1 b=1], verify within 1s"},
			rule{3 * time.Second, read(list(12, kv("a", "1", 5), kv("b", "1", 12))), "wait 4s"},
		),
		"another history": with(watching,
			rule{1 * time.Second, back, "verify within 1s"},
			rule{1 * time.Second, read(list(9, kv("a", "1", 5))), "close the watch: replaced, etcd watch interrupted, pause 50ms"},
		),
		"another cluster": with(watching,
			rule{1 * time.Second, back, "verify within 1s"},
			rule{1 * time.Second, of(2, read(list(20))), "close the watch: replaced, etcd watch interrupted, pause 50ms"},
		),
		"no answer": with(watching,
			rule{1 * time.Second, back, "verify within 1s"},
			rule{2 * time.Second, late, "close the watch: watch_error, etcd watch interrupted, pause 50ms"},
		),
	} {
		t.Run(name, func(t *testing.T) { testCore(testSpec()).follow(t, rules...) })
	}
}

// TestCorePacesWithdrawals has an entry be deleted while other changes wait.
func TestCorePacesWithdrawals(t *testing.T) {
	c := testCore(testSpec())
	c.follow(t, watching...)
	c.pace.crowd = 100
	c.pace.changes.take(changeRate, time.Hour, start)
	c.follow(t,
		rule{0, answered(events(11, put("b", "2", 11))), fmt.Sprint("wait ", maxPacePause)},
		rule{100 * ms, answered(events(12, del("a", 12))), "publish [b=2], wait 4s"},
		rule{100 * ms, answered(events(13, put("b", "3", 13))), fmt.Sprint("wait ", maxPacePause-100*ms)},
	)
	c.pace.withdrawals.take(withdrawalRate, time.Hour, start.Add(100*ms))
	c.follow(t,
		rule{200 * ms, answered(events(14, del("b", 14))), fmt.Sprint("wait ", maxPacePause-200*ms)},
		rule{maxPacePause, ok, fmt.Sprint("publish [], wait ", minPatience-(maxPacePause-200*ms))},
	)
}

func TestCorePaces(t *testing.T) {
	// An update that went out at so many units is paid for, and the next is due, 10 later.
	unit := changeRate.share * ms / 10
	wait := func(units int) string { return fmt.Sprint("wait ", time.Duration(units)*unit) }
	c := testCore(testSpec())
	charge := func(cost time.Duration, at int) {
		c.pace.changes.take(changeRate, cost, start.Add(time.Duration(at)*unit))
	}
	c.follow(t, watching...)
	c.pace.crowd = 100
	charge(changeRate.burst+ms-1, 0)
	c.follow(t,
		rule{0, answered(events(11, put("a", "2", 11))), wait(10)},
		rule{1 * unit, answered(events(12, put("a", "3", 12))), wait(9)},
		rule{10 * unit, ok, fmt.Sprint("publish [a=3], wait ", minPatience-9*unit)},
	)
	charge(ms, 11)
	c.follow(t,
		rule{12 * unit, answered(events(13, put("a", "4", 13))), wait(8)},
		rule{13 * unit, closed, "close the watch: closed, etcd watch interrupted, pause 50ms"},
		rule{13 * unit, ok, "list within 1s"},
		rule{13 * unit, read(list(13, kv("a", "4", 13))), "publish [a=4], watch from 14 within 5s"},
		rule{13 * unit, ok, "wait 4s"},
		rule{14 * unit, answered(events(14, put("a", "5", 14))), "etcd watch restored, " + wait(6)},
		rule{15 * unit, closed, "close the watch: closed, etcd watch interrupted, pause 100ms"},
		rule{15 * unit, ok, "list within 1s"},
		rule{16 * unit, late, "etcd list failed, publish [a=5] with the error, pause 50ms"},
		rule{17 * unit, ok, "list within 2s"},
		rule{17 * unit, read(list(14, kv("a", "5", 14))), "watch from 15 within 5s"},
		rule{17 * unit, ok, "wait 4s"},
		// An error is taken back without delay.
		rule{17 * unit, answered(events(14)), "etcd watch restored, publish [a=5], wait 4s"},
	)
}

func TestK11_CoreNamesTheCause(t *testing.T) {
	const refusedPort = `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:%d: connect: connection refused"`
	cause := fmt.Sprintf(refusedPort, 2379)
	unavailable := errors.New("rpc error: " + cause)
	for _, tt := range []struct {
		name string
		e    event
		want string
	}{
		{"a list", because(late, cause), `etcd: list "k/": context deadline exceeded: ` + cause},
		{"a list that says it itself", because(failed(unavailable), cause), `etcd: list "k/": ` + unavailable.Error()},
		{"connected", late, `etcd: list "k/": context deadline exceeded`},
		{"refused", refused, `etcd: list "k/": etcdserver: permission denied (the etcd user's role lacks READ permission for this range)`},
	} {
		c := testCore(testSpec())
		c.replica.known = true // no local list
		u := c.follow(t, rule{0, ok, "list within 1s"}, rule{0, tt.e, c.stepText(tt.e)})
		if u.Err.Error() != tt.want || !errors.Is(u.Err, tt.e.err) {
			t.Errorf("%s:\n got %v\nwant %s, wrapping %v", tt.name, u.Err, tt.want, tt.e.err)
		}
	}

	c := testCore(testSpec())
	c.follow(t, with(watching, rule{0, closed, "close the watch: closed, etcd watch interrupted, pause 50ms"})...)
	c.follow(t,
		rule{0, ok, "list within 1s"},
		rule{0, because(late, fmt.Sprintf(refusedPort, 2379)), "etcd list failed, publish [a=1] with the error, pause 50ms"},
		rule{0, ok, "list within 2s"},
		// The same from another member is no news; another cause is.
		rule{0, because(late, fmt.Sprintf(refusedPort, 22379)), "pause 100ms"},
		rule{0, ok, "list within 4s"},
		rule{0, because(late, "no route to host"), "publish [a=1] with the error, pause 200ms"},
	)

	// A cause that becomes known later is logged, and told: once.
	c = testCore(testSpec())
	u := c.follow(t,
		rule{0, ok, "list within 1s"},
		rule{0, late, "list locally within 500ms"},
		rule{0, late, "etcd list failed, publish nothing known with the error, pause 50ms"},
		rule{0, ok, "list within 2s"},
		rule{0, late, "list locally within 500ms"},
		rule{0, because(late, cause), "etcd list failed, publish nothing known with the error, pause 100ms"},
		rule{0, ok, "list within 4s"},
		rule{0, late, "list locally within 500ms"},
		rule{0, because(late, cause), "pause 200ms"},
	)
	if !strings.HasSuffix(u.Err.Error(), cause) {
		t.Errorf("%v does not name %s", u.Err, cause)
	}

	// The list of one member alone does not hide why the one before has failed.
	c = testCore(testSpec())
	u = c.follow(t,
		rule{0, ok, "list within 1s"},
		rule{0, because(late, cause), "list locally within 500ms"},
		rule{0, late, "etcd list failed, publish nothing known with the error, pause 50ms"},
	)
	if !strings.HasSuffix(u.Err.Error(), cause) {
		t.Errorf("%v does not name %s", u.Err, cause)
	}
}

// stepText is what a failed list leads to.
func (c *core[T]) stepText(e event) string {
	if errors.Is(e.err, rpctypes.ErrPermissionDenied) {
		return "etcd list failed, publish [] with the error, pause 500ms"
	}
	return "etcd list failed, publish [] with the error, pause 50ms"
}

func TestCoreNamesWhyItListedAgain(t *testing.T) {
	for want, err := range map[string]error{
		"compacted":   rpctypes.ErrCompacted,
		"replaced":    errCluster,
		"missed":      errMissed,
		"silent":      errSilent,
		"closed":      errClosed,
		"no_leader":   rpctypes.ErrNoLeader,
		"denied":      rpctypes.ErrPermissionDenied,
		"watch_error": errors.New("x"),
	} {
		if got := relistCause(fmt.Errorf("wrapped: %w", err)); got != want || !slices.Contains(Causes, got) {
			t.Errorf("%v is called %q, want %q, one of %q", err, got, want, Causes)
		}
	}
}
