package balancer

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// drain separates the endpoints that the config drains from the others.
func (p *plan) drain(endpoints []resolver.Endpoint) (live, drained []resolver.Endpoint) {
	c := p.in.config
	if len(c.Drain) == 0 {
		return endpoints, nil
	}
	names := make(map[string]bool, len(c.Drain)) // those in Drain that are an endpoint's
	var inBase, isCalled func(i int) bool
	if p.placed != nil {
		inBase = func(i int) bool { return p.placed.isBase(&endpoints[i]) }
		isCalled = func(i int) bool { return inBase(i) && isSelected(&endpoints[i], p.in.client) }
	}
	var isHeld func(i int) bool
	if len(p.in.held) > 0 {
		isHeld = func(i int) bool { return p.in.isHeld(&endpoints[i]) }
	}
	d := serviceconfig.DecideDrain(&c.Etcd, len(endpoints), func(i int) bool { return c.drains(&endpoints[i], names) }, inBase, isCalled, isHeld)
	p.reportDrain(names)
	if problem := d.Problem(); problem != "" {
		p.report("%s", problem)
	}
	live = make([]resolver.Endpoint, 0, len(endpoints))
	for i, ep := range endpoints {
		if d.Drained[i] {
			drained = append(drained, ep)
		} else {
			live = append(live, ep)
		}
	}
	return live, drained
}

// drains reports whether the config names an endpoint in drain, and notes by which names, unless named is nil.
func (c *config) drains(ep *resolver.Endpoint, named map[string]bool) bool {
	e := attr.Endpoint(*ep)
	if e == nil {
		return false
	}
	_, byInstance := c.drained[e.Instance]
	_, byAddr := c.drained[e.Addr]
	if byInstance && named != nil {
		named[e.Instance] = true
	}
	if byAddr && named != nil {
		named[e.Addr] = true
	}
	return byInstance || byAddr
}

// maxReported bounds how many names one report spells out.
const maxReported = 5

// reportDrain reports the names in drain that match no endpoint.
func (p *plan) reportDrain(named map[string]bool) {
	var unknown []string
	more := 0
	for _, name := range p.in.config.Drain {
		switch {
		case named[name]:
		case len(unknown) < maxReported:
			unknown = append(unknown, fmt.Sprintf("%.80q", name))
		default:
			more++
		}
	}
	if more > 0 {
		unknown = append(unknown, fmt.Sprintf("%d more", more))
	}
	if len(unknown) > 0 {
		p.report("drain names %s: no endpoint of %q has that name", strings.Join(unknown, ", "), p.in.service)
	}
}
