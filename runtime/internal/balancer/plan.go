package balancer

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// input is everything a plan is made of.
type input struct {
	service   string // the key's name, for error texts
	config    *config
	client    *attr.Client
	endpoints []resolver.Endpoint
	summary   *attr.Summary       // of endpoints; nil: not known
	held      map[string]struct{} // addresses of endpoints that etcd no longer has
	pending   bool                // the endpoints are not known yet
	err       error               // why there are no endpoints
}

// plan says which endpoints a call may go to. A call's lane and method lead to a view of the connections; within it shares
// lead to a group, what is ready to a tier of the group, and the way of picking to an endpoint. All but the making of views
// and what picks count is immutable. Its memory is linear in the endpoints and the config: a view is indexes.
type plan struct {
	in       *input
	traits   traits              // of the way of picking
	counts   bool                // calls under way are counted
	left     []resolver.Endpoint // that may be called at all
	conns    []*conn             // of left; set by the core
	placed   *placed             // nil: there are no lanes
	base     *lane
	lanes    map[string]*lane // that have endpoints
	reports  []string         // problems of the config, for people
	asked    func()           // tells that a view was made for which the plan may want more connections
	instead  *instead         // of picks, where there is nothing to call; else nil
	below    *below           // picks among left, where the way of picking is not ours
	sequence sequence         // of the choices among groups
	rings    rings

	differ bool // some of left serve other methods than others
	making sync.Mutex
	views  []*view // that calls have asked for, guarded by making
}

// instead is what there is where there is nothing to call.
type instead struct {
	state connectivity.State
	err   error
}

// makePlan leaves out what a connection may not call. It is, with route, the order of passes from the entries of a key to a
// pick: package discovery has merged and held before; then come drain, selector, lane, methods, split, zone, subset, and the
// way of picking.
func makePlan(in *input) *plan {
	p := &plan{in: in, instead: in.nothing()}
	p.sequence.shuffle()
	if p.instead != nil {
		return p
	}
	if in.config.way != nil {
		p.traits = in.config.way.traits()
		p.counts = p.traits.counts || in.config.MaxConcurrentRequests > 0
	}
	p.placed = in.placeInLanes()
	p.left = p.selectFrom(p.drain(in.endpoints))
	if p.instead != nil {
		return p
	}
	p.differ = p.methodsDiffer()
	p.divideByLane()
	p.reportLanes()
	p.reportSplit()
	p.reportTwins()
	return p
}

// nothing returns what there is instead if there is nothing to plan, else nil.
func (in *input) nothing() *instead {
	switch {
	case in.client.TargetsOnly:
		return &instead{connectivity.Ready, errTargetsOnly}
	case len(in.endpoints) > 0:
		return nil
	case in.pending:
		return &instead{connectivity.Connecting, balancer.ErrNoSubConnAvailable}
	case in.err != nil:
		return &instead{connectivity.TransientFailure, in.err}
	default:
		return &instead{connectivity.TransientFailure, fmt.Errorf("etcd: no endpoint of %q is known", in.service)}
	}
}

// selectFrom returns the endpoints that the connection's selector selects.
func (p *plan) selectFrom(endpoints []resolver.Endpoint) []resolver.Endpoint {
	left := selected(endpoints, p.in.client)
	if len(left) == 0 {
		text := fmt.Sprintf("etcd: none of the %d endpoints of %q is selected for this connection", len(endpoints), p.in.service)
		if drained := len(p.in.endpoints) - len(endpoints); drained > 0 {
			text += fmt.Sprintf(" (%d more are drained)", drained)
		}
		p.instead = &instead{connectivity.TransientFailure, errors.New(text)}
	}
	return left
}

// selected returns the endpoints that a connection's selector selects.
func selected(endpoints []resolver.Endpoint, client *attr.Client) []resolver.Endpoint {
	if client.Selector == nil {
		return endpoints
	}
	left := make([]resolver.Endpoint, 0, len(endpoints))
	for i := range endpoints {
		if isSelected(&endpoints[i], client) {
			left = append(left, endpoints[i])
		}
	}
	return left
}

// isSelected reports whether a connection's selector, if it has one, selects an endpoint.
func isSelected(ep *resolver.Endpoint, client *attr.Client) bool {
	e := attr.Endpoint(*ep)
	return client.Selector == nil || e == nil || client.Selector(e)
}

// called returns the views that calls have asked for.
func (p *plan) called() []*view {
	p.making.Lock()
	defer p.making.Unlock()
	return p.views[:len(p.views):len(p.views)]
}

// isSettled reports whether all that calls have asked for can serve, or has nothing left to be tried.
func (p *plan) isSettled() bool {
	if p.below != nil {
		return p.below.state().ConnectivityState != connectivity.Connecting
	}
	for _, v := range p.called() {
		if !v.isSettled() {
			return false
		}
	}
	return true
}

// report notes a problem of the config.
func (p *plan) report(format string, args ...any) {
	p.reports = append(p.reports, fmt.Sprintf(format, args...))
}

// reportTwins reports instance ids that two endpoints have: what identifies an instance is its key in etcd.
func (p *plan) reportTwins() {
	twins, first := 0, ""
	for i := 1; i < len(p.left); i++ {
		id := instance(&p.left[i])
		if id == instance(&p.left[i-1]) && p.in.summary != nil {
			if twins++; twins == 1 {
				first = id
			}
		}
	}
	if twins > 0 {
		p.report("%d endpoints have an instance id that another has, such as %.80q: they are told apart by their addresses", twins, first)
	}
}

// address returns the address of an endpoint, "" if it has none.
func address(ep *resolver.Endpoint) string {
	if len(ep.Addresses) == 0 {
		return ""
	}
	return ep.Addresses[0].Addr
}

// instance returns the instance id of an endpoint, or its address if it was not read from etcd.
func instance(ep *resolver.Endpoint) string {
	if e := attr.Endpoint(*ep); e != nil {
		return e.Instance
	}
	return address(ep)
}
