package balancer

import (
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
)

// switcher is the balancer registered with gRPC. It runs the policy that the config names. When the config names another
// policy, the current policy serves until the next policy has left CONNECTING, or the current policy is not READY. grpc-go's
// internal/balancer/gracefulswitch does the same, but only gRPC may import that package.
type switcher struct {
	cc      balancer.ClientConn
	opts    balancer.BuildOptions
	closing sync.WaitGroup

	mu      sync.Mutex
	current *side // the side whose pickers gRPC has; nil before the first config
	next    *side // the side that will replace current; may be nil
}

// side is one policy of a switcher, and its ClientConn.
type side struct {
	balancer.ClientConn
	switcher *switcher
	config   *config
	policy   *policy
	state    balancer.State // the policy's last state; guarded by switcher.mu
}

// UpdateClientConnState implements [balancer.Balancer]. gRPC calls the methods of a balancer one at a time.
func (s *switcher) UpdateClientConnState(state balancer.ClientConnState) error {
	c, err := configOf(state.BalancerConfig)
	if err != nil {
		return err
	}
	newest := s.newest()
	if newest == nil || newest.config.others.Name() != c.others.Name() {
		newest = s.build(c)
	}
	newest.config = c
	if current := s.serving(); current != newest { // the current side gets the endpoints, too, and keeps its config
		_ = current.policy.UpdateClientConnState(balancer.ClientConnState{ResolverState: state.ResolverState, BalancerConfig: current.config})
	}
	return newest.policy.UpdateClientConnState(state)
}

// newest returns the side that was built last, or nil.
func (s *switcher) newest() *side {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		return s.next
	}
	return s.current
}

// serving returns the side whose pickers gRPC uses or will use.
func (s *switcher) serving() *side {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// build makes the side for a config.
func (s *switcher) build(c *config) *side {
	built := &side{ClientConn: s.cc, switcher: s, config: c, state: balancer.State{ConnectivityState: connectivity.Connecting}}
	built.policy = newPolicy(built, s.opts)
	s.mu.Lock()
	unused := s.next
	if s.next = nil; s.current == nil {
		s.current = built
	} else {
		s.next = built
	}
	s.mu.Unlock()
	if unused != nil {
		unused.policy.Close()
	}
	if p := built.policy; c.others != nil {
		p.others = newOthers(p.cc, p.opts, c.others, func() { p.queue.put(p.core.publish) })
	}
	return built
}

// UpdateState implements [balancer.ClientConn].
func (d *side) UpdateState(state balancer.State) {
	s := d.switcher
	s.mu.Lock()
	defer s.mu.Unlock()
	if d != s.current && d != s.next {
		return // d is closed
	}
	d.state = state
	if s.next != nil && (s.next.state.ConnectivityState != connectivity.Connecting || s.current.state.ConnectivityState != connectivity.Ready) {
		// Close runs in another goroutine, because the holder of the policy's lock may wait for s.mu.
		s.closing.Go(s.current.policy.Close)
		s.current, s.next = s.next, nil
	}
	if d != s.next && s.current.state.Picker != nil {
		s.cc.UpdateState(s.current.state)
	}
}

// ResolverError implements [balancer.Balancer].
func (s *switcher) ResolverError(err error) {
	newest := s.newest()
	if newest == nil {
		c, _ := defaultConfig() // its policies are always linked
		newest = s.build(c)
	}
	newest.policy.ResolverError(err)
}

// UpdateSubConnState is deprecated by gRPC: SubConns have listeners.
func (s *switcher) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle implements [balancer.Balancer].
func (s *switcher) ExitIdle() {
	if newest := s.newest(); newest != nil {
		newest.policy.ExitIdle()
	}
}

// Close implements [balancer.Balancer].
func (s *switcher) Close() {
	s.mu.Lock()
	sides := []*side{s.current, s.next}
	s.current, s.next = nil, nil
	s.mu.Unlock()
	for _, d := range sides {
		if d != nil {
			d.policy.Close()
		}
	}
	s.closing.Wait()
}
