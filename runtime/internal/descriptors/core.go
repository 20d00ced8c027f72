package descriptors

import (
	"container/list"
	"time"
)

// grace is how long a place is kept for a connection that has ended. A server that ends its connections when
// they are old, as many do, is connected to again at once, and does not lose its place to another.
const grace = time.Second

// core decides who may connect. A place is the right of one SubConn to be connecting or connected. The methods
// of core are the events; they return the effects for the shell to carry out.
//
// A free place goes first to a gRPC connection that holds none, then to a call that names its instance, then to a
// SubConn that was connected before, then to the others. SubConns that have failed come last, at a pace. Among
// equals the gRPC connection that holds the fewest goes first, and then the SubConn that has waited longest. The
// last places are kept for the first two, which could else starve while the others hold what they have. Nobody
// loses a connection that is in use.
type core struct {
	limit int // in descriptors
	used  int // by the places that are held

	sharing   []*share  // the gRPC connections with places that wait
	waiting   int       // places that wait
	arrivals  uint64    // numbers them
	resting   list.List // of *place, the first to lapse first
	spare     list.List // of *place, which nobody uses and which were not asked back
	returning int       // places that were asked back
	untold    []*place  // wait for a place that returns, and have not been refused

	full bool // a place was refused since last none waited
	pace pace // of attempts to reach what has failed
	out  effects
}

// effects are for the shell to carry out.
type effects struct {
	dial    []*place  // may connect now
	refuse  []*place  // must wait, and say so
	reclaim []*place  // are asked back, if nobody uses them
	full    bool      // the bound is reached, and was not before
	wake    time.Time // when to call expire; zero: never
}

// share is what one gRPC connection has.
type share struct {
	held  int
	waits [4]list.List // of *place, by rank
}

// place is the place of a SubConn.
type place struct {
	share  *share
	holder Holder
	cost   int // descriptors that connecting may take; a connection takes one
	state  state

	target  bool // a call has named its instance
	proven  bool // it was connected before
	brief   bool // its last connection did not last
	failing bool // its last two did not last, or none could be made
	paid    bool // it took an attempt of the pace
	unused  bool
	asked   bool // it was asked back
	refused bool
	paced   bool // refused though there is room

	arrival uint64        // while it waits
	since   time.Time     // while it is open
	until   time.Time     // while it rests
	rank    rank          // while it waits
	at      *list.Element // in the list of rank, or in resting
	spare   *list.Element // in spare
}

type state int

const (
	idle    state = iota // holds none
	waiting              // wants one
	dialing              // holds one
	open                 // holds one, and was connected
	resting              // holds one for a moment though its connection has ended
	gone
)

func (s state) holds() bool { return s == dialing || s == open || s == resting }

// newPlace returns a place that is idle.
func (c *core) newPlace(s *share, holder Holder, cost int) *place {
	return &place{share: s, holder: holder, cost: min(cost, c.limit)}
}

// want takes the request of a SubConn to connect. target says that a call names its instance.
func (c *core) want(p *place, target bool, now time.Time) effects {
	p.target = p.target || target
	switch p.state {
	case idle:
		c.enqueue(p)
	case waiting:
		if p.rankOf() != p.rank {
			c.dequeue(p)
			c.enqueue(p)
		}
	case resting:
		if c.used+p.cost-1 <= c.limit {
			c.resting.Remove(p.at)
			p.state = dialing
			c.used += p.cost - 1
		} else {
			c.free(p)
			c.enqueue(p)
		}
	case dialing, open, gone: // it has its place, or needs none
	}
	return c.settle(now)
}

// opened takes the news that a connection was made.
func (c *core) opened(p *place, now time.Time) effects {
	if p.state == dialing {
		if p.paid && !p.proven {
			c.pace.giveBack()
		}
		p.state, p.proven, p.since = open, true, now
		c.used -= p.cost - 1
	}
	return c.settle(now)
}

// failed takes the news that no connection could be made.
func (c *core) failed(p *place, now time.Time) effects {
	if p.state == dialing || p.state == open {
		p.failing = p.failing || !p.proven
		c.free(p)
	}
	return c.settle(now)
}

// ended takes the news that a connection has ended.
func (c *core) ended(p *place, now time.Time) effects {
	switch p.state {
	case dialing:
		p.failing = true
		c.free(p)
	case open:
		brief := now.Sub(p.since) < grace
		p.failing, p.brief = brief && p.brief, brief
		if p.unused || p.failing {
			c.free(p)
			break
		}
		p.state, p.until = resting, now.Add(grace)
		p.at = c.resting.PushBack(p)
	}
	return c.settle(now)
}

// leave takes the news that nobody uses a SubConn, which may linger.
func (c *core) leave(p *place, now time.Time) effects {
	if p.unused || p.state == gone {
		return c.settle(now)
	}
	p.unused = true
	switch p.state {
	case waiting:
		c.dequeue(p)
		p.refused = false
	case resting:
		c.free(p)
	case dialing, open:
		p.spare = c.spare.PushBack(p)
	}
	return c.settle(now)
}

// join takes the news that somebody uses a SubConn again.
func (c *core) join(p *place, now time.Time) effects {
	p.unused = false
	c.keep(p)
	return c.settle(now)
}

// release takes the news that a SubConn is gone, and its connection closed.
func (c *core) release(p *place, now time.Time) effects {
	if p.state == waiting {
		c.dequeue(p)
	} else if p.state.holds() {
		c.free(p)
	}
	p.state = gone
	return c.settle(now)
}

// expire takes the time, at effects.wake or later.
func (c *core) expire(now time.Time) effects { return c.settle(now) }

// settle gives the free places to those who wait, asks back what nobody uses, and refuses the rest.
func (c *core) settle(now time.Time) effects {
	for e := c.resting.Front(); e != nil && !now.Before(e.Value.(*place).until); e = c.resting.Front() {
		c.free(e.Value.(*place))
	}
	next, r := c.next(c.pace.ready(now))
	for next != nil && c.used+next.cost <= c.bound(r) {
		c.take(next, now)
		next, r = c.next(c.pace.ready(now))
	}
	for next != nil && c.waiting > c.returning && c.spare.Len() > 0 {
		c.askBack(c.spare.Front().Value.(*place))
	}
	for len(c.untold) > c.returning {
		c.refuse()
	}
	c.full = c.full && c.waiting > 0
	c.out.wake = c.wake(next)
	out := c.out
	c.out = effects{}
	return out
}

// wake returns when time alone may free a place or bring a turn, zero for never. next is the place that is next.
func (c *core) wake(next *place) (at time.Time) {
	if c.waiting == 0 {
		return time.Time{}
	}
	if e := c.resting.Front(); e != nil {
		at = e.Value.(*place).until
	}
	if turn := c.pace.turn(); next == nil && (at.IsZero() || turn.Before(at)) {
		at = turn
	}
	return at
}

// take makes a place that waits a held one.
func (c *core) take(p *place, now time.Time) {
	c.dequeue(p)
	if p.paid = p.rank == failing; p.paid {
		c.pace.take(now)
	}
	p.state, p.refused = dialing, false
	p.share.held++
	c.used += p.cost
	c.out.dial = append(c.out.dial, p)
}

// free gives up a place that is held.
func (c *core) free(p *place) {
	switch p.state {
	case dialing:
		c.used -= p.cost
	case resting:
		c.resting.Remove(p.at)
		c.used--
	default:
		c.used--
	}
	p.share.held--
	p.state = idle
	c.keep(p)
}

// askBack asks for the return of a place that nobody uses.
func (c *core) askBack(p *place) {
	c.spare.Remove(p.spare)
	p.spare, p.asked = nil, true
	c.returning++
	c.out.reclaim = append(c.out.reclaim, p)
}

// keep ends the asking for a place, which is in use again or free.
func (c *core) keep(p *place) {
	if p.spare != nil {
		c.spare.Remove(p.spare)
		p.spare = nil
	}
	if p.asked {
		p.asked = false
		c.returning--
	}
}

// refuse tells the last of the untold that it has to wait.
func (c *core) refuse() {
	p := c.untold[len(c.untold)-1]
	c.untold = c.untold[:len(c.untold)-1]
	p.refused, p.paced = true, p.rank == failing && c.used+p.cost <= c.bound(failing)
	c.out.refuse = append(c.out.refuse, p)
	if !p.paced {
		c.out.full = c.out.full || !c.full
		c.full = true
	}
}
