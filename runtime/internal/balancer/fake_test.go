package balancer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
)

// fakeConn is gRPC as the policy sees it. Its SubConns become ready, and healthy, as soon as they are
// told to connect and pump is called, unless their address is down.
type fakeConn struct {
	balancer.ClientConn

	mu     sync.Mutex
	events []func()
	made   []*fakeSubConn
	down   map[string]error
	hangs  map[string]bool // they neither take nor refuse connections
	silent map[string]bool // they do not tell their health
	unwell map[string]error
	state  balancer.State
	states int
}

type fakeSubConn struct {
	balancer.SubConn
	cc       *fakeConn
	addrs    []resolver.Address
	listener func(balancer.SubConnState)

	mu        sync.Mutex
	state     connectivity.State
	told      connectivity.State // to the listener
	shutdowns int
	connects  int
	health    func(balancer.SubConnState)
	registers int
}

func (c *fakeConn) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &fakeSubConn{cc: c, addrs: addrs, listener: opts.StateListener, state: connectivity.Idle}
	c.made = append(c.made, s)
	return s, nil
}

func (c *fakeConn) UpdateState(s balancer.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
	c.states++
}

func (c *fakeConn) ResolveNow(resolver.ResolveNowOptions) {}
func (c *fakeConn) Target() string                        { return "etcd:///acme/user" }

func (c *fakeConn) MetricsRecorder() stats.MetricsRecorder { return noMetrics{} }

type noMetrics struct {
	stats.UnimplementedMetricsRecorder
}

func (c *fakeConn) queue(event func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, event)
}

// pump calls listeners, as gRPC's serializer does, until there is nothing to tell. after runs when
// there is nothing for a moment.
func (c *fakeConn) pump(after func()) {
	for {
		c.mu.Lock()
		events := c.events
		c.events = nil
		c.mu.Unlock()
		if len(events) == 0 {
			if after == nil {
				return
			}
			after()
			c.mu.Lock()
			more := len(c.events) > 0
			c.mu.Unlock()
			if !more {
				return
			}
			continue
		}
		for _, event := range events {
			event()
		}
	}
}

func (c *fakeConn) open() (open []*fakeSubConn) {
	c.mu.Lock()
	made := slices.Clone(c.made)
	c.mu.Unlock()
	for _, s := range made {
		s.mu.Lock()
		if s.shutdowns == 0 {
			open = append(open, s)
		}
		s.mu.Unlock()
	}
	return open
}

func (s *fakeSubConn) set(state connectivity.State, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setLocked(state, err)
}

func (s *fakeSubConn) setLocked(state connectivity.State, err error) {
	if s.state == connectivity.Shutdown || s.state == state {
		return // gRPC tells changes
	}
	s.state = state
	s.cc.queue(func() {
		s.mu.Lock()
		s.told, s.health = state, nil
		s.mu.Unlock()
		s.listener(balancer.SubConnState{ConnectivityState: state, ConnectionError: err})
	})
}

func (s *fakeSubConn) Connect() {
	s.cc.mu.Lock()
	err, hangs := s.cc.down[s.addrs[0].Addr], s.cc.hangs[s.addrs[0].Addr]
	s.cc.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connects++
	if s.state != connectivity.Idle {
		return
	}
	s.setLocked(connectivity.Connecting, nil)
	switch {
	case hangs:
	case err != nil:
		s.setLocked(connectivity.TransientFailure, err)
	default:
		s.setLocked(connectivity.Ready, nil)
	}
}

// RegisterHealthListener reports READY to the listener, unless the state changes or another listener is
// registered before that.
func (s *fakeSubConn) RegisterHealthListener(f func(balancer.SubConnState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told != connectivity.Ready {
		return
	}
	s.registers++
	of := s.registers
	s.health = f
	s.cc.queue(func() {
		s.cc.mu.Lock()
		silent, unwell := s.cc.silent[s.addrs[0].Addr], s.cc.unwell[s.addrs[0].Addr]
		s.cc.mu.Unlock()
		s.mu.Lock()
		current := s.health != nil && s.registers == of && !silent
		s.mu.Unlock()
		switch {
		case current && unwell != nil:
			f(balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: unwell})
		case current:
			f(balancer.SubConnState{ConnectivityState: connectivity.Ready})
		}
	})
}

func (s *fakeSubConn) Shutdown() {
	s.mu.Lock()
	s.shutdowns++
	s.state, s.health = connectivity.Shutdown, nil
	s.mu.Unlock()
	s.cc.queue(func() { s.listener(balancer.SubConnState{ConnectivityState: connectivity.Shutdown}) })
}

func (s *fakeSubConn) UpdateAddresses(addrs []resolver.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs = addrs
}

var errRefused = errors.New("refused")

// connectedTo returns which addresses have connections, or are being connected to.
func (c *fakeConn) connectedTo() (all string) {
	for _, s := range c.open() {
		s.mu.Lock()
		if s.state == connectivity.Ready || s.state == connectivity.Connecting {
			all += strings.TrimSuffix(s.addrs[0].Addr, ":1")
		}
		s.mu.Unlock()
	}
	return all
}

// last returns the last SubConn that was made to an address.
func (c *fakeConn) last(addr string) (found *fakeSubConn) {
	for _, s := range c.made {
		if s.addrs[0].Addr == addr {
			found = s
		}
	}
	return found
}

func stateOf(cc *fakeConn) balancer.State {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return cc.state
}

func addrs(open []*fakeSubConn) string {
	var all []string
	for _, s := range open {
		all = append(all, strings.TrimSuffix(s.addrs[0].Addr, ":1"))
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// begin begins a call with the picker in force, and returns where it goes.
func (c *fakeConn) begin(ctx context.Context, method string) (addr string, end func(), err error) {
	c.mu.Lock()
	picker := c.state.Picker
	c.mu.Unlock()
	result, err := picker.Pick(balancer.PickInfo{Ctx: ctx, FullMethodName: method})
	if err != nil {
		return "", nil, err
	}
	return result.SubConn.(*fakeSubConn).addrs[0].Addr, func() {
		if result.Done != nil {
			result.Done(balancer.DoneInfo{BytesReceived: true})
		}
	}, nil
}

// revive ends the backoff of failed connections.
func (c *fakeConn) revive() {
	for _, sc := range c.open() {
		sc.mu.Lock()
		down := sc.state == connectivity.TransientFailure
		sc.mu.Unlock()
		if down {
			sc.set(connectivity.Idle, nil)
		}
	}
}
