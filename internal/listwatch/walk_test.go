package listwatch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/modelcheck"
)

// walked is the core of a range and its etcd, which answers with one key a
// page.
type walked struct {
	now  time.Time
	core *core[string]
	do   action // the call that the core waits for
	etcd history

	opening  bool
	watching bool
	dead     bool  // the watch no longer delivers answers
	next     int64 // the first revision that the watch has not delivered yet
	check    bool  // the connection is back, and the core has not handled that yet

	past     *history // a backup to restore, nil for none
	restored bool     // etcd was restored at least once

	// etcd was restored behind a proxy or a member, and has answered no list or
	// proof since
	unseen bool

	certain bool // a linearizable list was answered
	last    *Update[string]
	had     string             // the items of last, when it was published
	resume  *page              // the page with which the next list must resume; nil for any
	broken  modelcheck.Verdict // the rule that the last step broke
}

// history is the content of etcd at each revision since first.
type history struct {
	first, rev int64
	states     []content
	compacted  int64
}

// content is the values of the keys k/a and k/b.
type content [2]entry

// entry is the value of a key. The zero value means no entry.
type entry struct {
	value       string
	create, mod int64
}

var keysWalked = [...]string{"k/a", "k/b"}

// at returns the content at a kept revision.
func (h *history) at(rev int64) content {
	return h.states[max(rev-h.first, 0)]
}

func (h *history) set(i int, value string) bool {
	now := h.at(h.rev)
	if value == "" && now[i].value == "" {
		return false
	}

	h.rev++

	switch {
	case value == "":
		now[i] = entry{}
	case now[i].value == "":
		now[i] = entry{value, h.rev, h.rev}
	default:
		now[i] = entry{value, now[i].create, h.rev}
	}

	h.states = append(h.states, now)

	return true
}

func (h *history) header() *etcdserverpb.ResponseHeader {
	return header(1, 1, int(h.rev))
}

// read answers a read of one page, at the latest revision or at an earlier one.
func (h *history) read(p page) (*clientv3.GetResponse, error) {
	rev := h.rev
	if p.revision != 0 {
		rev = p.revision
	}

	switch {
	case rev > h.rev:
		return nil, rpctypes.ErrFutureRev
	case rev < h.compacted || rev < h.first:
		return nil, rpctypes.ErrCompacted
	}

	resp := &clientv3.GetResponse{Header: h.header()}
	for i, e := range h.at(rev) {
		switch {
		case e.value == "":
		case keysWalked[i] < p.from:
			resp.Count++
		default:
			resp.Count++
			resp.Kvs = append(resp.Kvs, e.kv(i))
		}
	}

	if len(resp.Kvs) > 1 {
		resp.Kvs = resp.Kvs[:1]
		resp.More = true
	}

	return resp, nil
}

func (e entry) kv(i int) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key:            []byte(keysWalked[i]),
		Value:          []byte(e.value),
		CreateRevision: e.create,
		ModRevision:    e.mod,
	}
}

// events returns the changes from one revision to another.
func (h *history) events(from, to int64) []*clientv3.Event {
	var all []*clientv3.Event
	for rev := max(from, h.first+1); rev <= to; rev++ {
		before := h.at(rev - 1)
		after := h.at(rev)
		for i := range after {
			switch {
			case before[i] == after[i]:
			case after[i].value == "":
				all = append(all, del(keysWalked[i], int(rev)))
			default:
				all = append(all, &clientv3.Event{Type: clientv3.EventTypePut, Kv: after[i].kv(i)})
			}
		}
	}

	return all
}

func startWalk() *walked {
	w := &walked{now: start, etcd: history{first: 10, rev: 10, states: make([]content, 1)}}
	w.etcd.set(0, "1")
	w.core = testCore()
	w.step(event{})

	return w
}

// step passes an event to the core, and keeps the step that the core returns.
func (w *walked) step(e event) {
	before := w.do
	d := w.core.step(e, w.now)

	if d.closeWatch {
		w.watching = false
		w.opening = false
	}

	if d.open > 0 {
		if w.watching || w.opening {
			w.broken.Record("two watches are open")
		}

		w.opening = true
		w.next = d.open
	}

	if d.update != nil {
		w.judge(d.update)
		w.last = d.update
		w.had = itemsOf(d.update)
		w.core.published(0, w.now)
	}

	w.do = d.action

	failed := e.err != nil && !e.pending && before.call == callList
	final := failed || e.read != nil
	if final && w.do.wish != nil && *w.do.wish == *before.wish {
		w.broken.Record("a range wants again what it has just got, and would not be asked: %+v",
			w.do.wish)
	}

	if failed && !w.opening && !w.watching && w.do.call != callPause {
		w.broken.Record("no pause after a failure, but %v", w.do)
	}

	if w.do.call == callList && w.resume != nil {
		page := w.do.wish.page
		if page.from != w.resume.from || page.revision != w.resume.revision {
			w.broken.Record("a list resumed with %+v, want %+v", page, *w.resume)
		}

		w.resume = nil
	}

	n := min(w.oldest(), w.etcd.rev-1) - w.etcd.first
	if n > 0 { // no call can request these revisions any more
		w.etcd.states = w.etcd.states[n:]
		w.etcd.first += n
	}
}

// oldest returns the oldest revision that a call can still request.
func (w *walked) oldest() int64 {
	oldest := w.core.replica.applied
	if l := w.core.listing.header; l != nil {
		oldest = min(oldest, l.GetRevision())
	}

	if w.watching || w.opening {
		oldest = min(oldest, w.next-1)
	}

	return oldest
}

// judge records a rule that an update breaks.
func (w *walked) judge(u *Update[string]) {
	var before *Snapshot[string]
	if w.last != nil {
		before = w.last.Snapshot
	}

	now := u.Snapshot
	switch {
	case before == nil && now == nil:
		return
	case now == nil:
		w.broken.Record("a known snapshot became unknown")
		return
	case before != nil && now.Provisional && !before.Provisional:
		w.broken.Record("a certain snapshot became provisional")
	case !now.Provisional && !w.certain:
		w.broken.Record("the snapshot of a member without a leader is not provisional")
	case before != nil && now.Revision < before.Revision && !before.Provisional && !w.restored:
		w.broken.Record("an older revision replaced a newer one: %d after %d",
			now.Revision, before.Revision)
	}

	if !w.restored {
		if got, want := text(now.Items), w.etcd.at(now.Revision).String(); got != want {
			w.broken.Record("a snapshot has %q at revision %d, and etcd had %q",
				got, now.Revision, want)
		}
	}

	if before != nil {
		if got := itemsOf(w.last); got != w.had {
			w.broken.Record("the items of the snapshot before changed from %q to %q", w.had, got)
		}

		// Entries that vanish must be in Removed: the mark of the owner may be
		// in the last value alone.
		for _, old := range before.Items {
			has := func(i *Item[string]) bool { return i.Key == old.Key }
			if !slices.ContainsFunc(now.Items, has) && !slices.ContainsFunc(now.Removed, has) {
				w.broken.Record("the removal of %s is not reported", old.Key)
			}
		}
	}
}

func itemsOf(u *Update[string]) string {
	if u.Snapshot == nil {
		return ""
	}

	return text(u.Snapshot.Items)
}

// String describes what the keys hold.
func (c content) String() string {
	var all []string
	for i, e := range c {
		if e.value != "" {
			all = append(all, keysWalked[i]+"="+e.value)
		}
	}

	return strings.Join(all, " ")
}

// answer makes the pending call or the opening of the watch succeed, or the
// pending pause or wait end.
func (w *walked) answer() bool {
	switch w.do.call {
	case callPause:
		w.now = w.now.Add(w.do.pause)
		w.step(event{})
	case callList:
		resp, err := w.etcd.read(w.do.wish.page)
		w.certain = w.certain || !w.do.wish.page.local && err == nil && !resp.More
		w.unseen = w.unseen && err != nil
		w.step(event{read: resp, err: err})

	case callWait:
		if w.opening {
			w.opening = false
			w.watching = true
			w.dead = false
			w.step(event{opened: true})

			break
		}

		if w.do.until.Before(w.do.wish.due) {
			w.now = later(w.now, w.do.until)
			w.step(event{})

			break
		}

		w.proveAt(w.do.wish.due)
	}

	return true
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}

	return a
}

// prove answers a proof before the proof is due, together with the proof of
// another range.
func (w *walked) prove() bool {
	if w.do.call != callWait {
		return false
	}

	early := w.do.wish.early
	if early.After(w.now.Add(w.do.wish.due.Sub(early))) {
		return false
	}

	w.proveAt(early)

	return true
}

// proveAt answers a proof at a time, or now if that has passed.
func (w *walked) proveAt(at time.Time) {
	w.now = later(w.now, at)
	w.unseen = false
	w.step(event{read: w.proofOf(), proof: true})
}

// proofOf returns the number of keys, and the key changed last.
func (w *walked) proofOf() *clientv3.GetResponse {
	resp := &clientv3.GetResponse{Header: w.etcd.header()}
	for i, e := range w.etcd.at(w.etcd.rev) {
		if e.value == "" {
			continue
		}

		resp.Count++

		if len(resp.Kvs) == 0 || e.mod > resp.Kvs[0].ModRevision {
			resp.Kvs = []*mvccpb.KeyValue{e.kv(i)}
		}
	}

	return resp
}

// fail makes the pending call fail.
func (w *walked) fail(err error) bool {
	late := errors.Is(err, context.DeadlineExceeded)

	switch w.do.call {
	case callPause:
		return false
	case callWait:
		if w.opening {
			w.opening = false
			w.now = w.now.Add(maxTimeout)

			if late {
				err = errNotOpened
			}

			w.step(event{err: err})

			return true
		}

		w.now = later(w.now, w.do.wish.due)
		w.step(event{err: err, proof: true, pending: late})

		return true

	case callList:
		page := w.do.wish.page
		resumable := page.from != "" && !page.local
		if late && resumable && !w.check && !w.opening && !w.watching {
			w.resume = &page
		}
	}

	w.now = w.now.Add(firstTimeout)
	w.step(event{err: err, pending: late})

	return true
}

// send delivers the next changes on the watch, of at most limit revisions.
func (w *walked) send(limit int64) bool {
	if w.do.call != callWait || !w.watching || w.dead {
		return false
	}

	resp := watchAnswer(w.etcd.header())

	switch {
	case w.next <= w.etcd.compacted:
		resp.CompactRevision = w.etcd.compacted
		resp.Canceled = true
	case w.next <= w.etcd.rev:
		last := min(w.etcd.rev, w.next+limit-1)
		resp.Events = w.etcd.events(w.next, last)
		w.next = last + 1

	default:
		return false
	}

	w.step(event{answer: resp})

	return true
}

// lose makes an open watch end.
func (w *walked) lose(e event) bool {
	could := w.do.call == callWait && w.watching
	if could {
		w.step(e)
	}

	return could
}

// lag delivers the answer of a member that is behind by one revision.
func (w *walked) lag() bool {
	behind := w.etcd
	behind.rev--
	if behind.rev < behind.first {
		return false
	}

	switch {
	case w.do.call == callList && w.do.wish.page.local:
		resp, err := behind.read(w.do.wish.page)
		w.step(event{read: resp, err: err})
	case w.do.call == callWait && w.watching && !w.dead && w.next == w.etcd.rev+1:
		w.step(event{answer: watchAnswer(behind.header())})
	default:
		return false
	}

	return true
}

func (w *walked) restore() bool {
	if w.past == nil || w.past.rev == w.etcd.rev {
		return false
	}

	w.etcd = *w.past
	w.past = nil
	w.restored = true
	w.check = true
	w.resume = nil

	return true
}

// change sets the value of a key, or deletes it.
func (w *walked) change(i int, deleted bool) bool {
	if w.unseen {
		return false // the revision could become the known one, and hide the restore
	}

	value := "1"
	switch {
	case deleted:
		value = ""
	case w.etcd.at(w.etcd.rev)[i].value == value:
		value = "2"
	}

	return w.etcd.set(i, value)
}

// notice reports to the core that the connection to etcd is back.
func (w *walked) notice() bool {
	w.check = false
	w.resume = nil
	w.step(event{back: true})

	return true
}

// settle answers the pending call, and delivers changes on the watch.
func (w *walked) settle() string {
	switch {
	case w.well():
		return ""
	case w.check && w.notice():
		return "the connection is back"
	case w.send(math.MaxInt32):
		return "the watch sends changes"
	}

	call := w.do.call
	w.answer()

	return fmt.Sprintf("call %d is answered", call)
}

// well reports whether the last update is complete, and a watch or a proof will
// report the next change.
func (w *walked) well() bool {
	if w.last == nil || w.check || !w.watching || w.do.call != callWait {
		return false
	}

	s := w.last.Snapshot
	known := s != nil && !s.Provisional && w.last.Err == nil
	delivered := w.dead || w.next == w.etcd.rev+1

	return known && delivered && text(s.Items) == w.etcd.at(w.etcd.rev).String()
}

var walkEvents = []modelcheck.Event[walked]{
	{Name: "the call is answered", Do: (*walked).answer},
	{Name: "the call times out", Do: func(w *walked) bool {
		return w.fail(context.DeadlineExceeded)
	}},
	{Name: "the call is denied", Do: func(w *walked) bool {
		return w.fail(rpctypes.ErrPermissionDenied)
	}},
	{Name: "a proof comes early", Do: (*walked).prove},
	{Name: "the watch sends all changes", Do: func(w *walked) bool {
		return w.send(math.MaxInt32)
	}},
	{Name: "the watch sends one change", Do: func(w *walked) bool {
		return w.etcd.rev > w.next && w.send(1)
	}},
	{Name: "a lagging member answers", Do: (*walked).lag},
	{Name: "the watch ends", Do: func(w *walked) bool { return w.lose(event{err: errClosed}) }},
	{Name: "the watch moves to another stream", Do: func(w *walked) bool {
		return w.lose(event{moved: true})
	}},
	{Name: "the watch dies in silence", Do: func(w *walked) bool {
		could := w.watching && !w.dead
		w.dead = w.watching

		return could
	}},
	{Name: "a changes", Do: func(w *walked) bool { return w.change(0, false) }},
	{Name: "a is deleted", Do: func(w *walked) bool { return w.change(0, true) }},
	{Name: "b changes", Do: func(w *walked) bool { return w.change(1, false) }},
	{Name: "etcd compacts", Do: func(w *walked) bool {
		could := w.etcd.compacted < w.etcd.rev
		w.etcd.compacted = w.etcd.rev

		return could
	}},
	{Name: "etcd is backed up", Do: func(w *walked) bool {
		past := w.etcd
		past.states = slices.Clone(past.states)
		w.past = &past

		return true
	}},
	{Name: "etcd is restored", Do: (*walked).restore},
	{Name: "etcd is restored behind a proxy", Do: func(w *walked) bool {
		if w.past == nil || w.past.rev > w.etcd.rev || !w.restore() {
			return false
		}

		w.check = false
		w.unseen = true

		return true
	}},
	{Name: "etcd is restored, and other members stay connected", Do: func(w *walked) bool {
		if !w.watching || !w.restore() {
			return false
		}

		w.check = false
		w.unseen = true

		return true
	}},
	{Name: "the connection is back", Do: (*walked).notice},
	{Name: "the connection is lost", Do: func(w *walked) bool {
		w.check = true
		w.resume = nil
		w.step(event{lost: errors.New("no route to host")})

		return true
	}},
	{Name: "the last update took long", Do: func(w *walked) bool {
		if w.core.publishAt.After(w.now) {
			return false
		}

		w.core.published(time.Second, w.now)

		return true
	}},
}

func watchWalk(start func() *walked) modelcheck.World[walked] {
	return modelcheck.World[walked]{
		Start: start,
		Rules: []modelcheck.Rule[walked]{{
			Name:   "each step is allowed",
			Broken: func(w *walked) string { return string(w.broken) },
		}},
		Events: walkEvents,
		Settle: (*walked).settle,
		Within: 40,
	}
}

func TestWalk(t *testing.T) {
	watching := func() *walked {
		w := startWalk()
		for range 5 {
			w.settle()
		}

		return w
	}

	for name, start := range map[string]func() *walked{
		"from nothing": startWalk,
		"from a watch": watching,
	} {
		t.Run(name, func(t *testing.T) { modelcheck.Walk(t, 30000, 20, watchWalk(start)) })
	}
}
