package descriptors

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/loglimit"
)

// Budget bounds the connections of a process to one service, over all of its gRPC connections. It is safe for
// concurrent use, never waits, and may be called with any lock held that no [Holder] takes.
type Budget struct {
	err    error
	report func(missed int)

	mu       sync.Mutex
	core     core
	lines    loglimit.Limiter
	unlogged bool // the bound was reached, and no line has said so
	timer    *time.Timer
}

// NewBudget returns a budget of limit descriptors, at least 1. err is the error for a SubConn that is refused one.
// report logs that the bound is reached, and how many such lines were left out.
func NewBudget(limit int, err error, report func(missed int)) *Budget {
	return &Budget{err: err, report: report, core: core{limit: max(1, limit)}}
}

// AllowLine reports whether a line about the service's connections may be logged now, and how many were left out
// since the last one.
func (b *Budget) AllowLine(now time.Time) (ok bool, missed int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.Allow(now)
}

// Limit returns how many descriptors the budget has.
func (b *Budget) Limit() int { return b.core.limit }

// Err returns the error for a SubConn that is refused a place.
func (b *Budget) Err() error { return b.err }

// Report returns the function that logs that the bound is reached, nil if there is nothing new to log.
func (b *Budget) Report(now time.Time) func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.unlogged {
		return nil
	}
	b.unlogged = false
	ok, missed := b.lines.Allow(now)
	if !ok {
		return nil
	}
	return func() { b.report(missed) }
}

// Share is one gRPC connection's part in a budget. A nil *Share has no budget, and its places are nil.
type Share struct {
	budget *Budget
	share  share
}

// NewShare returns a share for one gRPC connection. It is nil if b is.
func (b *Budget) NewShare() *Share {
	if b == nil {
		return nil
	}
	return &Share{budget: b}
}

// Holder hears about a place that it asked for. Its methods are called with the budget's lock held: they must
// return at once and not call the budget.
type Holder interface {
	Dial()    // the place is held: connect
	Refuse()  // the place waits, for the reason that Outcome gives
	Reclaim() // the place is asked back: release it, unless somebody uses it
}

// Place is the right of one SubConn to be connecting or connected. A nil *Place has no budget and is always held.
type Place struct {
	budget *Budget
	place  *place
}

// NewPlace returns a place that is not held, for a SubConn that takes cost descriptors while it connects.
func (s *Share) NewPlace(holder Holder, cost int) *Place {
	if s == nil {
		return nil
	}
	return &Place{s.budget, s.budget.core.newPlace(&s.share, holder, cost)}
}

// Cost returns how many descriptors it may take to connect to addresses, one after another. A name is looked up,
// and connected to, by two sockets at a time.
func Cost(addresses ...string) int {
	for _, address := range addresses {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return 2
		}
		if _, err := netip.ParseAddr(host); err != nil {
			return 2
		}
	}
	return 1
}

// Outcome is the answer to a request for a place.
type Outcome int

// The outcomes.
const (
	Held    Outcome = iota // connect
	Waiting                // another place was asked back; Dial or Refuse is called next
	Refused                // the bound is reached; Dial is called once there is room
	Paced                  // too many connections have failed lately; Dial is called when it is this one's turn
)

// Want asks for the place. target says that a call names the instance.
func (p *Place) Want(target bool, now time.Time) Outcome {
	if p == nil {
		return Held
	}
	b := p.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.carryOut(b.core.want(p.place, target, now), p.place)
	return p.place.outcome()
}

// Outcome returns the present answer to the last Want, of which there must have been one.
func (p *Place) Outcome() Outcome {
	if p == nil {
		return Held
	}
	p.budget.mu.Lock()
	defer p.budget.mu.Unlock()
	return p.place.outcome()
}

func (p *place) outcome() Outcome {
	switch {
	case p.state != waiting:
		return Held
	case !p.refused:
		return Waiting
	case p.paced:
		return Paced
	}
	return Refused
}

// Opened says that the connection is made.
func (p *Place) Opened(now time.Time) { p.do((*core).opened, now) }

// Failed says that no connection could be made.
func (p *Place) Failed(now time.Time) { p.do((*core).failed, now) }

// Ended says that the connection has ended.
func (p *Place) Ended(now time.Time) { p.do((*core).ended, now) }

// Leave says that nobody uses the SubConn. The place no longer waits.
func (p *Place) Leave(now time.Time) { p.do((*core).leave, now) }

// Join says that somebody uses the SubConn again.
func (p *Place) Join(now time.Time) { p.do((*core).join, now) }

// Release says that the SubConn is gone, and its connection closed.
func (p *Place) Release(now time.Time) { p.do((*core).release, now) }

// do hands an event to the core.
func (p *Place) do(event func(*core, *place, time.Time) effects, now time.Time) {
	if p == nil {
		return
	}
	b := p.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.carryOut(event(&b.core, p.place, now), nil)
}

// carryOut carries out the core's effects. It does not call the holder of informed, which learns of them from the
// caller. It must be called with mu held.
func (b *Budget) carryOut(e effects, informed *place) {
	tell := func(places []*place, call func(Holder)) {
		for _, p := range places {
			if p != informed {
				call(p.holder)
			}
		}
	}
	tell(e.refuse, Holder.Refuse)
	tell(e.dial, Holder.Dial)
	tell(e.reclaim, Holder.Reclaim)
	b.unlogged = b.unlogged || e.full
	switch {
	case !e.wake.IsZero() && b.timer == nil:
		b.timer = time.AfterFunc(time.Until(e.wake), b.expire)
	case !e.wake.IsZero():
		b.timer.Reset(time.Until(e.wake))
	case b.timer != nil:
		b.timer.Stop()
	}
}

func (b *Budget) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.carryOut(b.core.expire(time.Now()), nil)
}
