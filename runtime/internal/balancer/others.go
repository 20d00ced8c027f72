package balancer

import (
	"fmt"

	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// belowOf returns the policy below for a plan: that of the plan before if it is of the same kind. It is told of the plan.
func (p *policy) belowOf(next *plan) *below {
	c := next.in.config.below
	b := p.below
	if b == nil || b.config.builder.Name() != c.builder.Name() {
		b = &below{ClientConn: p.cc, spawn: p.spawn, told: connecting()}
		b.changed = func() { p.queue.put(func() { p.core.belowChanged(p.now()) }) }
		b.broken = func(why error) { p.queue.put(func() { p.condemn(b, why) }) }
		b.put(func() { b.balancer = c.builder.Build(b, p.opts) })
	}
	b.config = c
	state := p.state
	most := 0
	if p.budget != nil {
		most = p.budget.Limit()
	}
	state.Endpoints = next.endpointsOf(next.bySubset(next.all(), bounds{next.in.subsetOf(), most}))
	state.Addresses = attr.Addresses(state.Endpoints) // policies that are older than endpoints know no others
	b.call(func(child balancer.Balancer) {
		// An error would have gRPC ask the resolver again, which has nothing else to say.
		_ = child.UpdateClientConnState(balancer.ClientConnState{ResolverState: state, BalancerConfig: c.config})
	})
	return b
}

// maxBad bounds how many configs are remembered as bad.
const maxBad = 16

// condemned returns why a config is not used: a policy below has panicked with it. nil: it is.
func (p *policy) condemned(c *config) error {
	if c.below == nil {
		return nil
	}
	return p.bad[c.below.builder.Name()+c.below.text]
}

// condemn makes a new plan after a policy below has panicked.
func (p *policy) condemn(b *below, why error) {
	c := b.config
	key := c.builder.Name() + c.text
	if p.bad[key] == nil {
		if p.bad == nil || len(p.bad) >= maxBad {
			p.bad = make(map[string]error)
		}
		p.bad[key] = fmt.Errorf("etcd: the policy %q is not used: %w", c.builder.Name(), why)
		p.tell(fmt.Sprintf("the policy %q is not used: %v", c.builder.Name(), why))
	}
	if p.below == b {
		p.below = nil
		p.plan()
	}
}
