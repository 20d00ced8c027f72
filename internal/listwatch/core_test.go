package listwatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const ms = time.Millisecond

// These are events as the shell reports them.
var (
	ok     = event{}
	opened = event{opened: true}
	back   = event{back: true}
	lost   = event{lost: errors.New("no route to host")}
	closed = failed(errClosed)
	late   = event{err: context.DeadlineExceeded, pending: true}
	slow   = event{
		err:     context.DeadlineExceeded,
		pending: true,
		why:     errors.New("etcd does not answer"),
	}

	refused = failed(rpctypes.ErrPermissionDenied)
)

// unproven makes an event the outcome of a proof.
func unproven(e event) event {
	e.proof = true
	return e
}

func proof(resp *clientv3.GetResponse) event {
	return unproven(read(resp))
}

// after makes an event the outcome of a read that took some time.
func after(took time.Duration, e event) event {
	e.took = took
	return e
}

func failed(err error) event {
	return event{err: err}
}

func read(resp *clientv3.GetResponse) event {
	return event{read: resp}
}

func answered(resp *clientv3.WatchResponse) event {
	return event{answer: resp}
}

func because(e event, cause string) event {
	e.why = errors.New(cause)
	return e
}

// keys returns the answer of a proof: the range has n keys, and the key changed
// last has the mod revision last.
func keys(revision, n, last int) event {
	return proof(&clientv3.GetResponse{
		Header: header(1, 1, revision),
		Count:  int64(n),
		Kvs:    list(0, kv("a", "1", last)).Kvs,
	})
}

// rule is an event, its time, and the step that must follow.
type rule struct {
	at   time.Duration
	e    event
	want string
}

// text formats a step as the field want of a rule has it.
func (d step[T]) text(now time.Time) string {
	var parts []string
	if d.closeWatch && d.relisted != "" {
		parts = append(parts, "close the watch: "+d.relisted)
	}

	if d.retire {
		parts = append(parts, "leave the stream")
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
			for _, item := range u.Snapshot.Removed {
				text += fmt.Sprint(" without ", item.Key, "=", item.Value)
			}

			if u.Snapshot.Provisional {
				text += " provisionally"
			}
		}

		if u.Err != nil {
			text += " with the error"
		}

		parts = append(parts, text)
	}

	if d.open > 0 {
		parts = append(parts, fmt.Sprintf("watch from %d", d.open))
	}

	name := [...]string{"pause ", "list ", "wait "}[d.call]

	switch d.call {
	case callPause:
		name += d.pause.String()
	case callWait:
		at := d.until
		if at.After(d.wish.due) {
			at = d.wish.due
		}

		name += at.Sub(now).String()

	default:
		name += d.wish.page.String()
	}

	return strings.Join(append(parts, strings.TrimSpace(name)), ", ")
}

// String formats a page as the field want of a rule has it: "" for the first
// page of a list with the default limit.
func (p page) String() string {
	var text string
	if p.limit != firstPage || p.from != "" {
		text = fmt.Sprintf("%d ", p.limit)
	}

	if p.from != "" {
		text += fmt.Sprintf("from %q ", p.from)
	}

	if p.revision != 0 {
		text += fmt.Sprintf("at %d ", p.revision)
	}

	if p.local {
		text += "locally"
	}

	return text
}

var testRange = Range{"k/", "k0"}

// testCore returns a core of a client with a connection. The core's first proof
// comes at the latest possible time.
func testCore() *core[string] {
	conversation := NewConversation(nil)
	conversation.connected = func(context.Context) bool { return true }
	conversation.spread = 0

	return newCore(testRange, decodeText, &Config[string]{
		MaxRefusedPause: 5 * time.Second,
		Conversation:    conversation,
	})
}

// follow applies the rules, and returns the last update.
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

// watching has the rules after which a range with one entry is watched, all at
// time 0.
var watching = []rule{
	{0, ok, "list"},
	{0, read(list(10, kv("a", "1", 5))), "publish [a=1], watch from 11, wait 4s"},
	{0, opened, "wait 4s"},
}

// ended returns the last answer of a watch. If compacted is not 0, etcd has
// compacted its history up to that revision.
func ended(revision int, compacted int64) *clientv3.WatchResponse {
	resp := watchAnswer(header(1, 1, revision))
	resp.CompactRevision = compacted
	resp.Canceled = true

	return resp
}

func with(first []rule, rest ...rule) []rule {
	return append(first[:len(first):len(first)], rest...)
}

func TestCoreFollows(t *testing.T) {
	for name, rules := range map[string][]rule{
		"changes": with(watching,
			rule{1 * time.Second, answered(events(11, create("b", "1", 11))),
				"publish [a=1 b=1], wait 30s"},
			rule{1 * time.Second, answered(events(11, create("b", "1", 11))), "wait 30s"},
			rule{2 * time.Second, answered(events(12, del("a", 12))),
				"publish [b=1] without a=1, wait 30s"},
			rule{3 * time.Second, answered(events(13, create("x", "bad", 13))),
				"malformed value in etcd skipped, wait 30s"},
			rule{4 * time.Second, answered(events(14, del("x", 14))), "wait 30s"},
		),
		"a watch that has missed a put": with(watching,
			rule{4 * time.Second, keys(20, 1, 15), "wait 1s"},
			rule{5 * time.Second, keys(20, 1, 15),
				"close the watch: missed, leave the stream, etcd watch interrupted, pause 50ms"},
			rule{5 * time.Second, ok, "list"},
		),
		"a watch that delivers the change after a proof has seen it": with(watching,
			rule{4 * time.Second, keys(13, 2, 13), "wait 1s"},
			rule{4500 * ms, answered(events(11, create("b", "1", 11))),
				"publish [a=1 b=1], wait 500ms"},
			rule{4600 * ms, answered(events(13, put("b", "2", 13))), "publish [a=1 b=2], wait 30s"},
		),
		"proofs without an answer": with(watching, // the watch stays open
			// the conversation repeats this proof
			rule{4 * time.Second, unproven(event{err: rpctypes.ErrLeaderChanged, pending: true}),
				"wait 0s"},
			rule{9 * time.Second, unproven(late),
				"etcd list failed, publish [a=1] with the error, wait 10s"},
			rule{24 * time.Second, unproven(late), "wait 10s"},
			rule{34 * time.Second, keys(11, 1, 5), "etcd watch restored, publish [a=1], wait 30s"},
		),
		"a lost connection, which is not asked for a proof": with(watching,
			rule{1 * time.Second, lost, "publish [a=1] with the error, wait 1h0m0s"},
			rule{3 * time.Second, event{lost: errors.New("refused")},
				"publish [a=1] with the error, wait 1h0m0s"},
			rule{4 * time.Second, back, "wait 1s"},
			rule{4 * time.Second, keys(11, 1, 5), "publish [a=1], wait 30s"},
		),
		"a connection that is lost during a proof": with(watching,
			rule{5 * time.Second, lost, "publish [a=1] with the error, wait 1h0m0s"},
			rule{6 * time.Second, answered(events(11, put("a", "2", 11))),
				"publish [a=2], wait 30s"},
		),
		"a proof that is refused": with(watching,
			// etcd goes on with the watch
			rule{4 * time.Second, unproven(refused),
				"etcd list failed, publish [a=1] with the error, wait 30s"},
			rule{5 * time.Second, answered(events(11, put("a", "2", 11))),
				"etcd watch restored, publish [a=2], wait 30s"},
			rule{35 * time.Second, unproven(refused),
				"etcd list failed, publish [a=2] with the error, wait 30s"},
			rule{36 * time.Second, closed, "close the watch: closed, pause 50ms"},
			rule{37 * time.Second, ok, "list"},
			rule{38 * time.Second, refused, "pause 500ms"},
		),
		"a busy range, which is listed after a reconnect": with(watching,
			rule{5 * time.Second, back, "wait 1s"},
			rule{5500 * ms, answered(events(11, put("a", "2", 11))), "publish [a=2], wait 500ms"},
			rule{6 * time.Second, answered(events(12, put("a", "3", 12))), "list"},
			// the list has failed, and the watch goes on
			rule{6 * time.Second, late, "etcd list failed, publish [a=3] with the error, wait 10s"},
			rule{7 * time.Second, answered(events(13, put("a", "4", 13))),
				"etcd watch restored, publish [a=4], wait 9s"},
			rule{16 * time.Second, answered(events(14, put("a", "5", 14))), "list"},
			rule{16 * time.Second, read(list(14, kv("b", "1", 14))),
				"publish [b=1] without a=5, wait 4s"},
		),
		"compacted": with(watching, rule{6 * time.Second, answered(ended(50, 40)),
			"close the watch: compacted, etcd watch interrupted, pause 50ms"}),
		"compacted before the watch of a quiet range has moved": with(watching, rule{
			1 * time.Second, answered(ended(50, 40)), "close the watch: compacted, pause 50ms"}),
		"a change of another history at a revision that was proven": with(watching,
			rule{4 * time.Second, keys(20, 1, 5), "wait 30s"},
			rule{5 * time.Second, answered(events(21, create("b", "1", 15), del("c", 16))),
				"close the watch: missed, leave the stream, etcd watch interrupted, pause 50ms"},
		),
		"a proof from before the known revision": with(watching,
			rule{4 * time.Second,
				event{proof: true, asOf: 10, read: &clientv3.GetResponse{Header: header(1, 1, 9)}},
				"close the watch: replaced, leave the stream, etcd watch interrupted, pause 50ms"},
		),
		"a change after a reconnect, before the proof": with(watching,
			rule{5 * time.Second, back, "wait 1s"},
			rule{5500 * ms, answered(events(12, create("b", "1", 11), del("b", 12))),
				"publish [a=1] without b=1, wait 500ms"},
			rule{6 * time.Second, keys(12, 1, 5), "list"},
		),
		"denied": with(watching, rule{6 * time.Second, refused,
			"close the watch: denied, etcd watch interrupted, pause 50ms"}),
		"an expired token": with(watching,
			rule{1 * time.Second, failed(errors.New("etcdserver: invalid auth token")),
				"close the watch: watch_error, leave the stream, etcd watch interrupted, pause 50ms"},
		),
		"denied at once": with(watching, rule{1 * time.Second, refused,
			"close the watch: denied, leave the stream, etcd watch interrupted, pause 50ms"}),
		"no leader": with(watching, rule{1 * time.Second, failed(rpctypes.ErrNoLeader),
			"close the watch: no_leader, etcd watch interrupted, pause 50ms"}),
		"an earlier term": with(watching,
			rule{1 * time.Second, answered(watchAnswer(header(1, 0, 100))), "wait 1s"},
			rule{2 * time.Second, proof(&clientv3.GetResponse{Header: header(1, 0, 100)}),
				"close the watch: replaced, leave the stream, etcd watch interrupted, pause 50ms"},
			rule{2 * time.Second, ok, "list"},
			// the list wins, despite its lower revision
			rule{2 * time.Second, read(list(5, kv("b", "1", 3))),
				"publish [b=1] without a=1, watch from 6, wait 4s"},
		),
		"a member that lags for a moment": with(watching,
			rule{1 * time.Second, answered(events(9)), "wait 1s"},
			rule{1500 * ms, answered(events(10)), "wait 30s"},
			rule{2 * time.Second, answered(events(9)), "wait 1s"},
			rule{2500 * ms, answered(events(9)), "wait 500ms"},
			rule{2600 * ms, answered(events(11)), "wait 30s"},
		),
		// etcd was restored, and the revision is as high again
		"a deletion of an unknown key": with(watching,
			rule{1 * time.Second, answered(events(13, create("d", "1", 12), del("c", 13))),
				"close the watch: missed, leave the stream, etcd watch interrupted, pause 50ms"},
		),
		"another connection, which shows what the watch has missed": with(watching,
			rule{1 * time.Second, back, "wait 1s"},
			rule{2 * time.Second, keys(12, 2, 12), "list"}, // the watch may be slow to resume
			rule{2 * time.Second, read(list(12, kv("a", "2", 11), created("b", "1", 12))),
				"publish [a=2 b=1], wait 4s"},
			rule{2 * time.Second, answered(events(12, put("a", "2", 11), create("b", "1", 12))),
				"wait 30s"},
			// an etcd that answers this slowly has more time
			rule{32 * time.Second, after(3*time.Second, keys(14, 2, 14)), "wait 6s"},
			rule{38 * time.Second, keys(14, 2, 14),
				"close the watch: missed, leave the stream, etcd watch interrupted, pause 50ms"},
		),
		"a proxy, which leaves headers empty": with(watching,
			rule{1 * time.Second, answered(watchAnswer(header(0, 0, 0))), "wait 30s"}),
	} {
		t.Run(name, func(t *testing.T) { testCore().follow(t, rules...) })
	}
}

func TestCoreListsAgain(t *testing.T) {
	interrupted := with(watching,
		rule{time.Second, closed, "close the watch: closed, etcd watch interrupted, pause 50ms"})
	for name, rules := range map[string][]rule{
		"a change while the watch was closed": with(interrupted,
			rule{time.Second, ok, "list"},
			rule{time.Second, read(list(12, kv("b", "1", 12))),
				"publish [b=1] without a=1, watch from 13, wait 4s"},
			rule{time.Second, opened, "wait 4s"},
			rule{2 * time.Second, answered(events(13, create("c", "1", 13))),
				"etcd watch restored, publish [b=1 c=1], wait 30s"},
		),
		"etcd stays away": with(interrupted,
			rule{1000 * ms, ok, "list"},
			rule{2000 * ms, late, "etcd list failed, publish [a=1] with the error, list"},
			rule{4050 * ms, late, "list"},
			rule{8150 * ms, late, "list"},
			rule{8350 * ms, read(list(10, kv("a", "1", 5))),
				"publish [a=1], watch from 11, wait 4s"},
			rule{8350 * ms, opened, "wait 4s"},
			rule{8350 * ms, answered(events(10)), "etcd watch restored, wait 30s"},
			rule{9 * time.Second, closed,
				"close the watch: closed, etcd watch interrupted, pause 100ms"},
			rule{9 * time.Second, ok, "list"},
			rule{10 * time.Second, late, "etcd list failed, publish [a=1] with the error, list"},
		),
		"the connection is lost and back while the watch waits to be opened": with(watching[:2],
			rule{1 * time.Second, lost, "publish [a=1] with the error, pause 1h0m0s"},
			rule{2 * time.Second, back, "list"},
			rule{2 * time.Second, read(list(10, kv("a", "1", 5))),
				"publish [a=1], watch from 11, wait 4s"},
			rule{3 * time.Second, back, "wait 1s"},
			rule{3 * time.Second, keys(11, 1, 5), "wait 10s"},
			rule{4 * time.Second, keys(12, 2, 12), "list"}, // etcd is slow to open the watch
			rule{5 * time.Second, read(list(12, kv("a", "1", 5), kv("b", "1", 12))),
				"publish [a=1 b=1], wait 4s"},
			rule{6 * time.Second, keys(14, 3, 14), "list"},
			rule{7 * time.Second, late,
				"etcd list failed, publish [a=1 b=1] with the error, wait 10s"},
			rule{8 * time.Second, opened, "wait 4s"},
			// The watch begins before the list, and delivers a change that the
			// list already has.
			rule{9 * time.Second, answered(events(12, create("b", "0", 12))),
				"etcd watch restored, publish [a=1 b=1], wait 30s"},
		),
		"a reconnect ends a pause": with(interrupted, rule{time.Second, back, "list"}),
		"watches that break at once, and one that was steady": with(interrupted,
			rule{1 * time.Second, ok, "list"},
			// Even the same content is published: between the two lists, a
			// restored etcd may have had another one.
			rule{1 * time.Second, read(list(10, kv("a", "1", 5))),
				"publish [a=1], watch from 11, wait 4s"},
			rule{6 * time.Second, failed(errNotOpened),
				"close the watch: watch_error, leave the stream, pause 100ms"},
			rule{6 * time.Second, ok, "list"},
			rule{6 * time.Second, read(list(10, kv("a", "1", 5))),
				"publish [a=1], watch from 11, wait 4s"},
			rule{6 * time.Second, opened, "wait 4s"},
			rule{11 * time.Second, closed, "close the watch: closed, pause 200ms"},
			rule{11 * time.Second, ok, "list"},
			rule{11 * time.Second, read(list(10, kv("a", "1", 5))),
				"publish [a=1], watch from 11, wait 4s"},
			rule{11 * time.Second, opened, "wait 4s"},
			rule{17 * time.Second, closed, "close the watch: closed, pause 50ms"},
		),
	} {
		t.Run(name, func(t *testing.T) { testCore().follow(t, rules...) })
	}
}

func TestCoreStarts(t *testing.T) {
	for name, rules := range map[string][]rule{
		"far from etcd": {
			{0, ok, "list"},
			{2 * time.Second, slow, "publish nothing known with the error, list"},
			{3 * time.Second, read(list(9, kv("a", "1", 5))),
				"publish [a=1], watch from 10, wait 4s"},
		},
		"an etcd without a leader": {
			{0, ok, "list"},
			{2 * time.Second, slow, "publish nothing known with the error, list"},
			{4 * time.Second, slow, "etcd list failed, list locally"},
			{4 * time.Second, read(list(9, kv("a", "1", 5))),
				"publish [a=1] provisionally with the error, list"},
			{12 * time.Second, slow, "list"},
			{12 * time.Second, lost, "publish [a=1] provisionally with the error, pause 1h0m0s"},
			{13 * time.Second, back, "list"},
			{13 * time.Second, read(list(9, kv("a", "1", 5))),
				"publish [a=1], watch from 10, wait 4s"},
		},
		"an etcd that is slow": {
			{0, ok, "list"},
			{2 * time.Second, slow, "publish nothing known with the error, list"},
			{4 * time.Second, slow, "etcd list failed, list locally"},
			{12 * time.Second, slow, "list"},
			{20 * time.Second, read(list(9, kv("a", "1", 5))),
				"publish [a=1], watch from 10, wait 4s"},
			{25 * time.Second, failed(errNotOpened),
				"close the watch: watch_error, leave the stream, pause 50ms"},
			{25 * time.Second, ok, "list"},
			{26 * time.Second, read(list(9, kv("a", "1", 5))),
				"publish [a=1], watch from 10, wait 4s"},
			{35 * time.Second, opened, "wait 4s"},
			{39 * time.Second, keys(11, 1, 5), "etcd watch restored, wait 30s"},
		},
	} {
		t.Run(name, func(t *testing.T) { testCore().follow(t, rules...) })
	}
}

// A refused list is repeated at growing intervals (K9).
func TestCoreBacksOffFromRefusals(t *testing.T) {
	testCore().follow(t,
		rule{0, ok, "list"},
		rule{0, refused, "etcd list failed, publish nothing known with the error, pause 500ms"},
		rule{1 * time.Second, ok, "list"},
		rule{1 * time.Second, refused, "pause 1s"},
		rule{2 * time.Second, ok, "list"},
		rule{2 * time.Second, refused, "pause 2s"},
		rule{4 * time.Second, ok, "list"},
		rule{4 * time.Second, refused, "pause 4s"},
		rule{8 * time.Second, ok, "list"},
		// the longest pause that the configuration allows
		rule{8 * time.Second, refused, "pause 5s"},
		rule{9 * time.Second, back, "list"},
		rule{9 * time.Second, refused, "pause 5s"},
		// Other failures have the pauses of the conversation.
		rule{14 * time.Second, ok, "list"},
		rule{24 * time.Second, late,
			"etcd list failed, publish nothing known with the error, list locally"},
		rule{25 * time.Second, late, "list"},
		rule{25 * time.Second, read(list(10)), "publish [], watch from 11, wait 4s"},
		rule{25 * time.Second, opened, "wait 4s"},
		rule{25 * time.Second, answered(events(10)), "etcd watch restored, wait 30s"},
		rule{26 * time.Second, closed,
			"close the watch: closed, etcd watch interrupted, pause 50ms"},
		rule{26 * time.Second, ok, "list"},
		rule{26 * time.Second, refused, "etcd list failed, publish [] with the error, pause 500ms"},
	)
}

// A client without a connection does not report a reconnect, so its ranges are
// proven often.
func TestCore_ProvesOftenWithoutAConnection(t *testing.T) {
	conversation := NewConversation(nil)
	conversation.spread = 0
	c := newCore(testRange, decodeText, &Config[string]{Conversation: conversation})
	c.follow(t, with(watching, rule{time.Second, answered(events(10)), "wait 4s"})...)
}

// TestCorePaces makes changes after updates of different durations. The next
// update waits as long, or longer after several changes.
func TestCorePaces(t *testing.T) {
	c := testCore()
	c.follow(t, watching...)
	c.published(200*ms, start)

	c.follow(t,
		rule{0, answered(events(11, put("a", "2", 11))), "wait 200ms"},
		rule{50 * ms, answered(events(12, put("a", "3", 12))), "wait 150ms"},
		rule{200 * ms, ok, "publish [a=3], wait 29.85s"},
	)

	// after two changes, the next update waits four times as long
	c.published(10*ms, start.Add(200*ms))
	c.follow(t, rule{200 * ms, answered(events(13, put("a", "x", 13))), "wait 40ms"})
	c.follow(t, rule{240 * ms, ok, "publish [a=x], wait 29.96s"})
	c.published(time.Hour, start.Add(time.Second))

	c.follow(t,
		rule{1100 * ms, answered(events(14, put("a", "4", 14))), "wait 400ms"},
		rule{1200 * ms, closed, "close the watch: closed, etcd watch interrupted, pause 50ms"},
		rule{1200 * ms, ok, "list"},
		rule{1200 * ms, read(list(14, kv("a", "4", 14))), "publish [a=4], watch from 15, wait 4s"},
		rule{1200 * ms, opened, "wait 4s"},
	)

	c.published(time.Hour, start.Add(1200*ms))
	c.follow(t,
		rule{1300 * ms, answered(events(15, put("a", "5", 15))), "etcd watch restored, wait 400ms"},
		rule{1400 * ms, closed, "close the watch: closed, etcd watch interrupted, pause 100ms"},
		rule{1400 * ms, ok, "list"},
		rule{2400 * ms, late, "etcd list failed, publish [a=5] with the error, list"},
	)

	c.published(time.Hour, start.Add(2400*ms))
	c.follow(t,
		// The end of an error is published without delay.
		rule{2500 * ms, read(list(15, kv("a", "5", 15))), "publish [a=5], watch from 16, wait 4s"},
		rule{2500 * ms, opened, "wait 4s"},
	)

	// The last of many changes is published before the pause of 400 ms is over.
	c.gathered = 20
	c.published(ms, start.Add(2500*ms))

	c.follow(t,
		rule{2550 * ms, answered(events(16, put("a", "6", 16))), "etcd watch restored, wait 20ms"},
		rule{2560 * ms, answered(events(17, put("a", "7", 17))), "wait 20ms"},
		rule{2580 * ms, ok, "publish [a=7], wait 29.98s"},
	)
}

// An error includes why the connection to etcd is down (K11).
func TestCoreNamesTheCause(t *testing.T) {
	const refusedPort = `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:%d: connect: connection refused"`
	cause := fmt.Sprintf(refusedPort, 2379)
	unavailable := errors.New("rpc error: " + cause)
	for _, tt := range []struct {
		name string
		e    event
		wait string
		want string
	}{
		{"a list", because(late, cause), "list",
			`etcd: list "k/": context deadline exceeded: ` + cause},
		{"a list whose error has the cause", because(failed(unavailable), cause), "pause 50ms",
			`etcd: list "k/": ` + unavailable.Error()},
		{"connected", late, "list", `etcd: list "k/": context deadline exceeded`},
		{"refused", refused, "pause 500ms",
			`etcd: list "k/": etcdserver: permission denied (the etcd user's role lacks READ permission for this range)`},
	} {
		c := testCore()
		c.replica.known = true // no local list

		u := c.follow(t, rule{0, ok, "list"},
			rule{0, tt.e, "etcd list failed, publish [] with the error, " + tt.wait})
		if u.Err.Error() != tt.want || !errors.Is(u.Err, tt.e.err) {
			t.Errorf("%s:\n got %v\nwant %s, wrapping %v", tt.name, u.Err, tt.want, tt.e.err)
		}
	}

	c := testCore()
	c.follow(t, with(watching,
		rule{0, closed, "close the watch: closed, etcd watch interrupted, pause 50ms"})...)

	c.follow(t,
		rule{0, ok, "list"},
		rule{0, because(late, fmt.Sprintf(refusedPort, 2379)),
			"etcd list failed, publish [a=1] with the error, list"},
		// The same cause at a different member is not published, but a
		// different cause is.
		rule{0, because(late, fmt.Sprintf(refusedPort, 22379)), "list"},
		rule{0, because(late, "no route to host"),
			"etcd list failed, publish [a=1] with the error, list"},
	)

	// A cause that becomes known later is logged and published once.
	c = testCore()
	u := c.follow(t,
		rule{0, ok, "list"},
		rule{0, late, "publish nothing known with the error, list"},
		rule{0, because(late, cause),
			"etcd list failed, publish nothing known with the error, list locally"},
		rule{0, late, "list"}, // the error of the local list does not hide the cause
		rule{0, because(late, cause), "list locally"},
		rule{0, late, "list"},
	)
	if !strings.HasSuffix(u.Err.Error(), cause) {
		t.Errorf("the error is %v, want it to end with %s", u.Err, cause)
	}
}
