package listwatch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/modelcheck"
)

// asking is a queue with some ranges. Each range wants a page, then a proof
// every 30 s, and after a refusal nothing for a while.
type asking struct {
	now      time.Time
	queue    queue
	ranges   []*asked
	requests int
	most     int           // the ranges that etcd allows in a request
	took     time.Duration // how long etcd takes for the next answer
	splits   int           // requests in a row without a report to the ranges
	broken   modelcheck.Verdict
}

// asked is a range of the queue.
type asked struct {
	asker
	denied  bool // etcd denies it
	refused bool // the last outcome was a refusal
}

func startAsking(ranges int) *asking {
	w := &asking{now: start, queue: newQueue(), most: maxReads}
	for range ranges {
		r := &asked{}
		w.ranges = append(w.ranges, r)
		w.want(r, wish{page: page{limit: 1}})
	}

	return w
}

func (w *asking) want(r *asked, next wish) {
	w.queue.remove(&r.asker)
	r.wish = nil

	if next != (wish{}) {
		r.wish = &next
		w.queue.add(&r.asker)
	}
}

// advance makes the next request, or passes the time until one is due.
func (w *asking) advance() bool {
	at, ok := w.queue.next()
	if !ok {
		return false
	}

	if at.After(w.now) {
		w.now = at
	}

	w.queue.begin(w.now)
	w.requests++

	under := w.queue.asked
	if len(under) == 0 || len(under) > maxReads || w.queue.timeout > maxTimeout {
		w.broken.Record("a request has %d ranges and a timeout of %v", len(under), w.queue.timeout)
	}

	for _, a := range under {
		if (a.alone || a.wish.page.revision != 0) && len(under) > 1 {
			w.broken.Record("a range that must be alone shares a request")
		}

		if a.wish.early.After(w.now) {
			w.broken.Record("a range is proven too early")
		}
	}

	return true
}

// answer ends the request under way.
func (w *asking) answer(err error) bool {
	under := w.queue.asked
	if under == nil {
		return false
	}

	for _, a := range under {
		if err == nil && w.of(a).denied {
			err = rpctypes.ErrPermissionDenied
		}
	}

	if err == nil && len(under) > w.most {
		err = rpctypes.ErrTooManyOps
	}

	report, again := w.queue.answered(err, w.took, w.now)

	w.splits++
	if report {
		w.splits = 0
	}

	if w.splits > 2*maxReads {
		w.broken.Record("%d requests without an outcome", w.splits)
	}

	for _, a := range under {
		r := w.of(a)

		switch {
		case a.stale() || !report:
		case again && !errors.Is(err, context.DeadlineExceeded):
			w.broken.Record("a refused range is asked again at once")
		case again:
		case err != nil && !r.denied:
			w.broken.Record("a range is refused for another")

		default:
			r.refused = err != nil
			w.want(r, wish{})

			if !r.refused {
				w.want(r, wish{early: w.now.Add(proveEvery / 2), due: w.now.Add(proveEvery)})
			}
		}
	}

	return true
}

func (w *asking) of(a ask) *asked {
	for _, r := range w.ranges {
		if &r.asker == a.asker {
			return r
		}
	}

	panic("an unknown range")
}

// well reports whether every range is proven, or knows that it is denied.
func (w *asking) well() bool {
	for _, r := range w.ranges {
		if r.refused != r.denied || !r.denied && (r.wish == nil || !r.wish.early.After(w.now)) {
			return false
		}
	}

	return true
}

func (w *asking) settle() string {
	if w.well() {
		return ""
	}

	if w.answer(nil) {
		return "etcd answers"
	}

	for _, r := range w.ranges {
		if r.refused && !r.denied && r.wish == nil { // the pause is over
			w.want(r, wish{page: page{limit: 1}})
		}
	}

	w.advance()

	return "the next request, or time passes"
}

// TestQueueWalk checks that a range is never refused because of another range,
// that no request is too large, too long or too early, and that every range has
// its answer soon after the last fault.
func TestQueueWalk(t *testing.T) {
	var all []modelcheck.Event[asking]
	add := func(name string, do func(w *asking) bool) {
		all = append(all, modelcheck.Event[asking]{Name: name, Do: do})
	}
	for range 3 {
		add("the next request, or time passes", (*asking).advance)
		add("etcd answers", func(w *asking) bool { return w.answer(nil) })
	}

	add("etcd allows few operations", func(w *asking) bool {
		w.most = 2
		return true
	})

	add("the request times out", func(w *asking) bool {
		w.now = w.now.Add(w.queue.timeout)
		return w.answer(context.DeadlineExceeded)
	})

	for i := range 3 {
		for _, denied := range []bool{true, false} {
			add(fmt.Sprintf("range %d is denied: %v", i, denied), func(w *asking) bool {
				w.ranges[i].denied = denied
				return true
			})
		}

		for _, next := range []wish{
			{page: page{limit: 1}},
			{page: page{limit: 1, revision: 7}},
			{page: page{limit: 1, local: true}},
			{early: start, due: start.Add(proveSoon)},
		} {
			add(fmt.Sprintf("range %d wants %+v", i, next), func(w *asking) bool {
				w.want(w.ranges[i], next)
				return true
			})
		}
	}

	for _, ranges := range []int{3, 7, 120} {
		t.Run(fmt.Sprint(ranges, " ranges"), func(t *testing.T) {
			modelcheck.Walk(t, 60000/ranges, 20, modelcheck.World[asking]{
				Start: func() *asking { return startAsking(ranges) },
				Rules: []modelcheck.Rule[asking]{{
					Name:   "each step is allowed",
					Broken: func(w *asking) string { return string(w.broken) },
				}},
				Events: all,
				Settle: (*asking).settle,
				Within: 60 + 4*ranges,
			})
		})
	}
}

// TestQueue_CountsRequests counts the requests until every range has its
// answer.
func TestQueue_CountsRequests(t *testing.T) {
	for _, tt := range []struct {
		ranges int
		denied func(i int) bool
		most   int
	}{
		{10, func(int) bool { return false }, 1},
		{120, func(int) bool { return false }, 3},
		{10, func(i int) bool { return i == 3 }, 9},
		{50, func(i int) bool { return i == 20 }, 15},
		{10, func(i int) bool { return i >= 5 }, 13}, // no right to any live config
		{10, func(i int) bool { return i%2 == 1 }, 17},
	} {
		w := startAsking(tt.ranges)
		for i, r := range w.ranges {
			r.denied = tt.denied(i)
		}

		for !w.well() && w.requests < 1000 {
			w.settle()
		}

		if w.requests > tt.most {
			t.Errorf("%d ranges: %d requests, want at most %d", tt.ranges, w.requests, tt.most)
		}
	}
}

// A request has a longer timeout after one that took long, or that etcd did not
// answer.
func TestQueue_WaitsForWhatIsSlow(t *testing.T) {
	w := startAsking(1)
	for i, want := range []time.Duration{5, 10, 20, 40, 80, 80} {
		w.advance()

		if got := w.queue.timeout; got != want*time.Second {
			t.Errorf("request %d has %v, want %v s", i, got, int(want))
		}

		w.now = w.now.Add(w.queue.timeout)
		w.answer(context.DeadlineExceeded)
	}

	for _, took := range []time.Duration{10, 1} {
		w.want(w.ranges[0], wish{page: page{limit: 1}})
		w.advance()
		w.took = took * time.Second
		w.answer(nil)

		want := max(firstTimeout, 2*took*time.Second)
		if got := w.queue.timeout; got != want {
			t.Errorf("after an answer in %v s, a request has %v, want %v", int(took), got, want)
		}
	}
}
