package election

import (
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

const (
	// askAgainMin and askAgainMax space the questions to etcd that got no answer, refusedMin and refusedMax those that it
	// refuses.
	askAgainMin = 50 * time.Millisecond
	askAgainMax = time.Second
	refusedMin  = 500 * time.Millisecond
	refusedMax  = time.Minute
	// warnAt is how many answers in a row must name another candidate than the watch: the watch may be behind.
	warnAt = 5
)

// First is the candidate that precedes all others, as far as known. The zero value is none.
type First = candidate.First

// View is what an instance is told of the candidates.
type View struct {
	First  First // that precedes all others
	Blind  bool  // etcd does not let them be watched, so that First may be another by now
	Yields bool  // a drain names the instance, and another one stands that it does not name
}

// Term is a leadership. The zero value is none.
type Term struct {
	Token int64     // the candidate's create revision
	Until time.Time // when it ends unless it is renewed
}

// core decides whether a candidate leads. Its methods are events: each takes the time, and returns what is to be done.
type core struct {
	own  lease.Candidacy
	view View

	highest int64 // create revision of any candidate seen

	refused bool // etcd does not let the instance read who leads
	yielded bool // it has led, and is to do so no more

	resigned First // the own candidate that has resigned, until it is deleted; the zero value: none

	confirmed int64  // the create revision for which etcd has said that no candidate precedes the own one
	asking    uint64 // the number of the question that etcd is being asked; 0: none
	asked     uint64 // the questions so far
	others    int    // answers in a row that named another candidate
	askAt     time.Time
	pause     time.Duration // before the next question, if this one is not answered
}

// effects is what an event leaves to do.
type effects struct {
	ask  uint64    // the number of a question: ask etcd which candidate precedes all others; its answer is the event answered
	warn First     // log that etcd names this candidate, and the watch the own one
	back int64     // log that the own candidate was created below this revision, so that etcd gives tokens again; 0: no
	wake time.Time // when the event tick is due; zero: never
}

// stood takes in what is known of the own candidate.
func (c *core) stood(now time.Time, own lease.Candidacy) effects {
	var back int64
	if own.Created != c.own.Created {
		if own.Created != 0 && own.Created < c.highest {
			back, c.highest = c.highest, own.Created
		}
		c.highest = max(c.highest, own.Created)
		if !c.refused {
			c.askAt, c.pause = time.Time{}, 0
		}
		c.confirmed, c.asking, c.others = 0, 0, 0 // an answer counts for the candidate that was there when etcd was asked
	}
	c.own = own
	e := c.due(now)
	e.back = back
	return e
}

// heard takes in what a watch tells of the candidates.
func (c *core) heard(now time.Time, view View) effects {
	c.view, c.highest = view, max(c.highest, view.First.Created)
	if !view.Blind && view.First != c.resigned { // it is gone, so a new one comes behind all others
		c.resigned = First{}
	}
	return c.due(now)
}

// resign withdraws the own candidate if it leads with token. The instance stands again once the candidate is deleted.
func (c *core) resign(now time.Time, token int64) effects {
	if term := c.term(now); term != (Term{}) && term.Token == token {
		c.resigned = First{Key: c.own.Key, Created: c.own.Created}
	}
	return c.due(now)
}

// answer is etcd's to a question.
type answer struct {
	first   First // the candidate that precedes all others
	err     error // there is no answer
	refused bool  // ... because etcd does not let the instance read them
}

// answered takes in the answer to a question.
func (c *core) answered(now time.Time, question uint64, a answer) effects {
	if question != c.asking || question == 0 {
		return c.due(now)
	}
	c.asking = 0
	switch {
	case a.refused:
		c.refused = true
		c.askAgain(now, refusedMin, refusedMax)
	case a.err != nil:
		c.askAgain(now, askAgainMin, askAgainMax)
	case c.refused: // it is not any more; who is the first has yet to be asked
		c.refused, c.askAt, c.pause = false, time.Time{}, 0
	case a.first == First{Key: c.own.Key, Created: c.own.Created}:
		c.confirmed, c.pause, c.others = c.own.Created, 0, 0
	case a.first == First{}:
		c.askAgain(now, askAgainMin, askAgainMax)
	default:
		c.askAgain(now, askAgainMin, askAgainMax)
		if c.others++; c.others == warnAt {
			e := c.due(now)
			e.warn = a.first
			return e
		}
	}
	return c.due(now)
}

// askAgain has the next question wait, longer each time.
func (c *core) askAgain(now time.Time, least, most time.Duration) {
	c.pause = min(max(2*c.pause, least), most)
	c.askAt = now.Add(c.pause)
}

// tick does what has become due.
func (c *core) tick(now time.Time) effects { return c.due(now) }

// term returns the leadership at a time.
func (c *core) term(now time.Time) Term {
	if c.aside() || !c.isFirst() || c.confirmed != c.own.Created || ended(now, c.own.Until) {
		return Term{}
	}
	return Term{c.own.Created, c.own.Until}
}

// isFirst reports whether the own candidate may be in etcd, and is the first as far as the watch tells.
func (c *core) isFirst() bool {
	return c.own.Created != 0 && (c.view.Blind || c.view.First == First{Key: c.own.Key, Created: c.own.Created})
}

// unanswered reports whether it is for want of etcd's answer that the own candidate does not lead.
func (c *core) unanswered() bool {
	return c.refused || !c.aside() && c.isFirst() && c.confirmed != c.own.Created
}

// aside reports whether the instance is not to stand, for it cannot lead or is not to.
func (c *core) aside() bool { return c.refused || c.yielded || c.resigned != First{} }

// due returns what is to be done.
func (c *core) due(now time.Time) effects {
	c.yielded = c.view.Yields && (c.yielded || c.term(now) != Term{})
	var e effects
	if t := c.term(now); t != (Term{}) {
		e.wake = t.Until
		return e
	}
	if !c.unanswered() || c.asking != 0 || !c.refused && ended(now, c.own.Until) {
		return e
	}
	if now.Before(c.askAt) {
		e.wake = c.askAt
		return e
	}
	c.asked++
	c.asking, e.ask = c.asked, c.asked
	return e
}

// ended reports whether a time has come by either clock. The monotonic one may stand still while the machine sleeps.
func ended(now, until time.Time) bool {
	return !now.Before(until) || !now.Round(0).Before(until.Round(0))
}
