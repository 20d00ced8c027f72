package plan

import (
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// drain separates the endpoints that the config drains from the others.
func (p *Plan[E]) drain() (live, drained []E) {
	all, c := p.Endpoints, p.Config
	if len(c.Drain) == 0 {
		return all, nil
	}
	names := make(map[string]bool, len(c.Drain)) // those in Drain that are an endpoint's
	at := func(i int) *endpoint.Endpoint { return p.Of(&all[i]) }
	var inBase, isCalled, isHeld func(i int) bool
	if p.placed != nil {
		inBase = func(i int) bool { return p.placed.isBase(at(i)) }
		isCalled = func(i int) bool { return inBase(i) && p.Client.selects(at(i)) }
	}
	if p.IsHeld != nil {
		isHeld = func(i int) bool { return p.IsHeld(at(i).Addr) }
	}
	d := serviceconfig.DecideDrain(&c.Etcd, len(all), func(i int) bool { return c.drains(at(i), names) }, inBase, isCalled, isHeld)
	p.reportDrain(names)
	if problem := d.Problem(); problem != "" {
		p.report("%s", problem)
	}
	live = make([]E, 0, len(all))
	for i, e := range all {
		if d.Drained[i] {
			drained = append(drained, e)
		} else {
			live = append(live, e)
		}
	}
	return live, drained
}

// drains reports whether the config names an endpoint in drain, and notes by which names, unless named is nil.
func (c *Config) drains(e *endpoint.Endpoint, named map[string]bool) (drains bool) {
	for _, name := range [...]string{e.Instance, e.Addr} {
		if _, ok := c.drained[name]; ok {
			drains = true
			if named != nil {
				named[name] = true
			}
		}
	}
	return drains
}

// maxReported bounds how many names one report spells out.
const maxReported = 5

// reportDrain reports the names in drain that match no endpoint.
func (p *Plan[E]) reportDrain(named map[string]bool) {
	var unknown []string
	more := 0
	for _, name := range p.Config.Drain {
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
		p.report("drain names %s: no endpoint of %q has that name", strings.Join(unknown, ", "), p.Service)
	}
}
