package bench

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

// group is a set of connections to one key, with the number of endpoints that each received last.
type group struct {
	mu      sync.Mutex
	conns   []*stub
	want    int
	arrived chan time.Time // receives the time when all conns have the expected number
}

// stub stands in for gRPC: it receives a resolver's state, keeps the last one as gRPC does, and costs
// almost nothing.
type stub struct {
	resolver.ClientConn
	group *group
	size  int
	state resolver.State
}

func (s *stub) UpdateState(state resolver.State) error {
	s.group.tell(s, state, max(len(state.Endpoints), len(state.Addresses)))
	return nil
}

func (*stub) ReportError(error)             {}
func (*stub) NewAddress([]resolver.Address) {}
func (*stub) ParseServiceConfig(string) *serviceconfig.ParseResult {
	return &serviceconfig.ParseResult{}
}

// tell records the number of endpoints that a connection received.
func (g *group) tell(s *stub, state resolver.State, size int) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	s.state = state
	s.size = size
	g.check(now)
}

// check signals arrived if all connections have the expected number of endpoints.
func (g *group) check(now time.Time) {
	if g.arrived != nil && !slices.ContainsFunc(g.conns, func(s *stub) bool { return s.size != g.want }) {
		g.arrived <- now
		g.arrived = nil
	}
}

// expect returns a channel that signals when all connections have size endpoints.
func (g *group) expect(size int) <-chan time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	arrived := make(chan time.Time, 1)
	g.want, g.arrived = size, arrived
	g.check(time.Now())
	return arrived
}

// add makes a connection without a state.
func (g *group) add() *stub {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := &stub{group: g, size: -1}
	g.conns = append(g.conns, s)
	return s
}
