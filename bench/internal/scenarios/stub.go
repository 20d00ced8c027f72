package scenarios

import (
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
	right   int // of conns that have as many endpoints as wanted
	arrived chan time.Time
	each    func(at time.Time, size int) // told of every update, may be nil
}

// stub stands in for gRPC: it takes what a resolver tells, keeps the last of it as gRPC does, and
// costs next to nothing.
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

func (s *stub) ReportError(error) {}

func (s *stub) NewAddress([]resolver.Address) {}

func (s *stub) ParseServiceConfig(string) *serviceconfig.ParseResult {
	return &serviceconfig.ParseResult{}
}

func (g *group) tell(s *stub, state resolver.State, size int) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	s.state = state
	if g.each != nil {
		g.each(now, size)
	}
	if size == s.size {
		return
	}
	if s.size == g.want {
		g.right--
	}
	if s.size = size; size != g.want {
		return
	}
	if g.right++; g.right == len(g.conns) && g.arrived != nil {
		g.arrived <- now
		g.arrived = nil
	}
}

// expect returns a channel that tells when all connections have size endpoints.
func (g *group) expect(size int) <-chan time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	arrived := make(chan time.Time, 1)
	g.want, g.right, g.arrived = size, 0, arrived
	for _, s := range g.conns {
		if s.size == size {
			g.right++
		}
	}
	if len(g.conns) > 0 && g.right == len(g.conns) {
		arrived <- time.Now()
		g.arrived = nil
	}
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

// within waits for what a channel tells, for a bounded time.
func within(arrived <-chan time.Time, limit time.Duration) (at time.Time, ok bool) {
	select {
	case at := <-arrived:
		return at, true
	case <-time.After(limit):
		return time.Time{}, false
	}
}
