package listwatch

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

const (
	// maxReads bounds the ranges of a request. By default, etcd allows 128
	// operations in a transaction.
	maxReads = 100

	// The timeout of a request is firstTimeout or, if that is longer, twice the
	// time that etcd took for the last answer. It doubles after a request
	// without an answer, up to maxTimeout. So a slow etcd is rarely asked again
	// before it has answered.
	firstTimeout = 5 * time.Second
	maxTimeout   = 80 * time.Second

	// firstRetryPause bounds the pause after a first failed request, and
	// maxRetryPause all pauses.
	firstRetryPause = 50 * time.Millisecond
	maxRetryPause   = time.Second
)

// wish is what a range wants to read next.
type wish struct {
	page  page      // this page, at once; zero for a proof
	due   time.Time // when a proof is due
	early time.Time // from then on, the proof may join another range's proof
	asOf  int64     // the highest revision that the range knew before
}

// same reports whether two wishes are for the same read.
func (w *wish) same(o *wish) bool {
	return w.page == o.page && w.early == o.early && w.due == o.due
}

// asker is a range in the conversation with etcd. The conversation's lock
// guards it.
type asker struct {
	in     Range
	answer chan event    // has the outcome of the wish
	conn   chan struct{} // has a signal after the connection to etcd is back or lost

	wish *wish // nil for nothing; an answer belongs to the wish that wish points to

	// etcd has refused a request of this range alone, so others would be
	// refused with it
	alone bool
}

// forget drops an answer that the range has not received.
func (a *asker) forget() {
	select {
	case <-a.answer:
	default:
	}
}

// apart reports whether the range needs a request of its own: etcd refused the
// range alone, the page is not the first and so may be large, or the page is
// one member's own view.
func (a *asker) apart() bool {
	return a.alone || a.wish.page.revision != 0 || a.wish.page.local
}

// ask is a wish in a request.
type ask struct {
	*asker
	wish *wish
}

// stale reports whether the range wants something else by now.
func (a ask) stale() bool {
	return a.wish != a.asker.wish
}

// queue is the core of a client's requests of one kind: for pages or for
// proofs. There is at most one request under way. The next request reads at
// most limit of the waiting ranges, or a single range that needs a request of
// its own. queue does no I/O and reads no clock.
//
// etcd refuses a request as a whole if the user lacks the right to one of its
// ranges. Each refused request halves limit, and each answered one doubles it.
// A range that is refused alone stays alone until etcd has answered it.
type queue struct {
	waiting []*asker
	limit   int // the most ranges of the next request
	timeout time.Duration
	pauses  backoff.Backoff
	from    time.Time // no request begins before this time

	asked []ask // the wishes in the request under way; nil if none is under way
}

func newQueue() queue {
	return queue{
		limit:   maxReads,
		timeout: firstTimeout,
		pauses:  backoff.Backoff{Base: firstRetryPause, Max: maxRetryPause},
	}
}

func (q *queue) add(a *asker) {
	q.waiting = append(q.waiting, a)
}

func (q *queue) remove(a *asker) {
	q.waiting = slices.DeleteFunc(q.waiting, func(b *asker) bool { return a == b })
}

// next returns when to make the next request. ok is false if there is nothing
// to ask now.
func (q *queue) next() (at time.Time, ok bool) {
	if q.asked != nil || len(q.waiting) == 0 {
		return at, false
	}

	first := slices.MinFunc(q.waiting, func(a, b *asker) int {
		return a.wish.due.Compare(b.wish.due)
	})
	if first.wish.due.Before(q.from) {
		return q.from, true
	}

	return first.wish.due, true
}

// begin begins the next request. asked then has its ranges.
func (q *queue) begin(now time.Time) {
	join := func(a *asker) bool {
		fits := len(q.asked) == 0 ||
			len(q.asked) < q.limit && !a.apart() && !q.asked[0].apart()
		if !fits || a.wish.early.After(now) {
			return false
		}

		q.asked = append(q.asked, ask{a, a.wish})

		return true
	}

	q.waiting = slices.DeleteFunc(q.waiting, join)
}

// answered handles the end of the request under way. took is how long etcd took
// for it. report says whether to pass the outcome to the ranges, and again
// whether the queue repeats the request. If one of several ranges may have made
// the request fail, the queue repeats it in halves, without a report.
func (q *queue) answered(
	err error,
	took time.Duration,
	now time.Time,
) (report, again bool) {
	asked := q.asked
	q.asked = nil

	code := etcderr.Code(err)

	// the request failed because of what it asks for
	ours := etcderr.Refused(err) || code == codes.OutOfRange || tooLarge(err)

	switch {
	case err == nil:
		q.limit = min(2*q.limit, maxReads)
		q.timeout = min(max(firstTimeout, 2*took), maxTimeout)
		q.pauses.Reset()

		for _, a := range asked {
			a.alone = false
		}

		return true, false

	case code == codes.Unauthenticated:
		return true, false
	case !ours:
		if etcderr.TimedOut(err) {
			q.timeout = min(2*q.timeout, maxTimeout)
			q.limit = (len(asked) + 1) / 2 // the answer may be large, and the link slow
		}

		q.from = now.Add(backoff.Jitter(q.pauses.Bound()))
		q.requeue(asked)

		return true, true

	case len(asked) == 1:
		asked[0].alone = true
		return true, false
	default:
		q.limit = len(asked) / 2
		q.requeue(asked)

		return false, true
	}
}

func (q *queue) requeue(asked []ask) {
	for _, a := range asked {
		if !a.stale() {
			q.add(a.asker)
		}
	}
}
