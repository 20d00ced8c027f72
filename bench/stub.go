package bench

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

// group is some connections to one key and how many endpoints each was told last.
type group struct {
	mu      sync.Mutex
	conns   []*stub
	want    int
	arrived chan time.Time // told when all conns have as many endpoints as wanted
}

// stub stands in for gRPC: it takes what a resolver tells, keeps the last of it as gRPC does, and costs next to
// nothing.
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

// tell notes that a connection was told of so many endpoints.
func (g *group) tell(s *stub, state resolver.State, size int) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	s.state = state
	s.size = size
	g.check(now)
}

// check tells if all connections have as many endpoints as wanted.
func (g *group) check(now time.Time) {
	if g.arrived != nil && !slices.ContainsFunc(g.conns, func(s *stub) bool { return s.size != g.want }) {
		g.arrived <- now
		g.arrived = nil
	}
}

// expect returns a channel that tells when all connections have size endpoints.
func (g *group) expect(size int) <-chan time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	arrived := make(chan time.Time, 1)
	g.want, g.arrived = size, arrived
	g.check(time.Now())
	return arrived
}

// add makes a connection that has not been told anything yet.
func (g *group) add() *stub {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := &stub{group: g, size: -1}
	g.conns = append(g.conns, s)
	return s
}
