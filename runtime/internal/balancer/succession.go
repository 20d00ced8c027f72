package balancer

import (
	"time"

	"google.golang.org/grpc/connectivity"
)

// settleWithin bounds how long an old plan serves while the connections of a new one are made.
const settleWithin = 5 * time.Second

// succeed makes next the plan. Where it has leaves that are still to connect, as when a split is put
// live, the plan that serves now does so until they have: calls do not wait for connections to
// servers that were connected to before. It must be called with mu held.
func (p *policy) succeed(next plan) {
	if p.previous == nil && p.hasNewLeaves(next) && p.isReady(p.plan) {
		previous := p.plan
		p.previous = &previous
		p.settling = time.AfterFunc(settleWithin, p.settle)
	}
	p.plan = next
}

// settle ends the wait for a new plan.
func (p *policy) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.previous != nil && !p.closed {
		p.retire()
		p.report()
	}
}

// settled tells whether the plan can take over: every leaf has found out how it fares, or the plan
// before it serves no more.
func (p *policy) settled() bool {
	if !p.isReady(*p.previous) {
		return true
	}
	for t := range p.plan.leaves() {
		if l := p.leaves[t.key]; l == nil || l.current == nil || l.current.state.ConnectivityState == connectivity.Connecting {
			return false
		}
	}
	return true
}

// retire ends the plan before, and what only that used.
func (p *policy) retire() {
	p.previous = nil
	p.settling.Stop()
	if unused := p.unused(); len(unused) > 0 {
		// In a goroutine of its own, for one of them may be calling. It ends with the calls.
		go func() {
			for _, l := range unused {
				l.close()
			}
		}()
	}
}

func (p *policy) isReady(of plan) bool {
	return len(of.views) > 0 && p.assemble(of).ConnectivityState == connectivity.Ready
}

func (p *policy) hasNewLeaves(next plan) bool {
	for t := range next.leaves() {
		if p.leaves[t.key] == nil {
			return true
		}
	}
	return false
}
