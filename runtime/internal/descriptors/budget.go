package descriptors

import (
	"container/list"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
)

// Budget bounds the connections of a process to one service, over all of its gRPC connections. A permit that is given
// back goes to whoever has waited longest. It is safe for concurrent use, and never waits.
type Budget struct {
	limit  int
	err    error
	report func(missed int)

	mu      sync.Mutex
	used    int
	waiting list.List // of *Permit
	full    bool      // a permit was refused, and since then some have always waited
	unsaid  bool      // ... and no line has said so
	lines   loglimit.Limiter
}

// NewBudget returns a budget of limit connections, at least 1. err is why one is refused. report logs that the bound
// is reached, and how many such lines were left out.
func NewBudget(limit int, err error, report func(missed int)) *Budget {
	return &Budget{limit: max(1, limit), err: err, report: report}
}

// AllowLine reports whether a line about the service's connections may be logged now, and how many were left out
// since the last one.
func (b *Budget) AllowLine(now time.Time) (ok bool, missed int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.Allow(now)
}

// Limit returns how many connections the budget has.
func (b *Budget) Limit() int { return b.limit }

// Err returns why a connection is refused.
func (b *Budget) Err() error { return b.err }

// Report returns the function that logs that the bound is reached, nil if there is nothing new to log.
func (b *Budget) Report(now time.Time) func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.unsaid {
		return nil
	}
	b.unsaid = false
	ok, missed := b.lines.Allow(now)
	if !ok {
		return nil
	}
	return func() { b.report(missed) }
}

// Share is one gRPC connection's part in a budget. While it holds no permit it is given one whatever the bound, so that
// the gRPC connections of a process cannot starve one another. One permit more is for the leader. A nil *Share has no bound,
// and its permits are nil.
type Share struct {
	budget *Budget
	held   int     // without beyond
	beyond *Permit // the leader's, held beyond the bound; nil: none
}

// NewShare returns a share for one gRPC connection. It is nil if b is.
func (b *Budget) NewShare() *Share {
	if b == nil {
		return nil
	}
	return &Share{budget: b}
}

// Permit is the right to be connecting or connected. A nil *Permit is always held.
type Permit struct {
	share   *Share
	granted func()
	held    bool
	waits   *list.Element // in Budget.waiting; nil: it does not wait
}

// NewPermit returns a permit that is not held. granted is called, with the budget's lock held, when a permit that waits
// is given: it must return at once and not call the budget.
func (s *Share) NewPermit(granted func()) *Permit {
	if s == nil {
		return nil
	}
	return &Permit{share: s, granted: granted}
}

// Acquire reports whether the permit is held now. If not, it waits until it is given, before all others if it is urgent.
func (p *Permit) Acquire(urgent bool) bool { return p.acquire(urgent, false) }

// Lead is Acquire for the permit of the leader, which is held beyond the bound where it must be, unless another one is.
func (p *Permit) Lead() bool { return p.acquire(true, true) }

func (p *Permit) acquire(urgent, leads bool) bool {
	if p == nil {
		return true
	}
	b := p.share.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case p.held:
	case p.waits == nil && (b.used < b.limit || p.share.held == 0):
		p.hold()
	case leads && p.share.beyond == nil:
		p.waitNoLonger()
		p.held, p.share.beyond = true, p
	case p.waits != nil && urgent:
		b.waiting.MoveToFront(p.waits)
	case p.waits != nil:
	case urgent:
		p.waits = b.waiting.PushFront(p)
	default:
		p.waits = b.waiting.PushBack(p)
	}
	if !p.held && !b.full {
		b.full, b.unsaid = true, true
	}
	return p.held
}

// Yield reports whether a permit counts as any other from now on, for it is not the leader's any more. If it does not, because
// no place is free, it is to be released.
func (p *Permit) Yield() bool {
	if p == nil {
		return true
	}
	b := p.share.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.share.beyond == p && b.used < b.limit {
		p.share.beyond = nil
		p.hold()
	}
	return p.share.beyond != p
}

// Release gives the permit back, or has it wait no longer. A share that has lost its last one is given another whatever the
// bound, if one waits.
func (p *Permit) Release() {
	if p == nil {
		return
	}
	b := p.share.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	p.waitNoLonger()
	switch {
	case p.share.beyond == p:
		p.held, p.share.beyond = false, nil
	case p.held:
		p.held = false
		p.share.held--
		b.used--
	}
	for e := b.waiting.Front(); e != nil && (b.used < b.limit || p.share.held == 0); {
		next := e.Value.(*Permit)
		e = e.Next()
		if b.used < b.limit || next.share == p.share {
			next.waitNoLonger()
			next.hold()
			next.granted()
		}
	}
	b.full = b.full && b.waiting.Len() > 0
}

// waitNoLonger must be called with the budget's lock held.
func (p *Permit) waitNoLonger() {
	if p.waits != nil {
		p.share.budget.waiting.Remove(p.waits)
		p.waits = nil
	}
}

// hold must be called with the budget's lock held.
func (p *Permit) hold() {
	p.held = true
	p.share.held++
	p.share.budget.used++
}
