package balancer

import (
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

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
	below    child            // picks among left, where the way of picking is not ours
	sequence sequence         // of the choices among groups
	rings    rings

	differ bool // some of left serve other methods than others
	making sync.Mutex
	views  []*view // that calls have asked for, guarded by making
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

// lane is the endpoints of a lane, or of the base, which is where calls without a lane go.
type lane struct {
	name    string // "": the base
	strict  bool
	members []int32 // of plan.left
	among   int     // how many lanes share the endpoints that they may have

	route  atomic.Pointer[route]             // of all calls, where all endpoints serve the same; nil: not made yet
	routes atomic.Pointer[map[string]*route] // by method, of those that were called

	// Made by the first call, guarded by plan.making.
	classes classes
	views   map[uint32]*view // by the classes in them, as bits
}

// placed says which endpoints are in which lanes.
type placed struct {
	config *serviceconfig.Lanes
	*serviceconfig.Placement
	of     map[*endpoint.Endpoint][]string // the endpoints in a lane; what is not there is the base
	noBase bool                            // there is no base: all endpoints stand in for it
}

// classes are the distinct texts in which the endpoints of a lane name the methods that they serve.
type classes struct {
	texts []string // nil: there are too many to keep apart, or no others
	of    []uint8  // of each member
}

// route is where the calls of a lane go, or those of one of its methods.
type route struct{ first, then *view } // then takes what first cannot; nil: nothing does

// view is where the calls of one kind go: those of a lane, or without one, of methods that the same instances serve. All
// views of a plan are of one set of connections.
type view struct {
	plan   *plan
	groups []group
	lane   *lane
	method string // of a call that it was made for

	settled atomic.Bool // it could serve, or nothing in it was left to be tried
	making  sync.Mutex  // the next standing
	now     atomic.Pointer[standing]
}

// group is the endpoints that have one share of a view's calls.
type group struct {
	weight uint32
	tiers  []*tier // in order of preference
}

// standing is what of a view can take calls, as of one picker. It is immutable, and made by the first pick that needs it.
type standing struct {
	epoch     uint64 // of the picker
	groups    []share
	otherwise error // for calls, if there are no groups
	yields    bool  // there are none, and nothing is new: a lane that is not strict leaves its calls to the base
}

// share is a group in which some endpoints are ready, and its share of the calls.
type share struct {
	upTo uint64 // the sum of the weights up to and with this group's
	stay uint64 // the sum up to which its calls stay in the client's zone
	away int    // the set for the others, by index
	sets []*set
}

// child is a policy that is not ours, as those see it that pick.
type child interface {
	state() balancer.State
	pick(info balancer.PickInfo) (balancer.PickResult, error)
}
