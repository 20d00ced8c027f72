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

// fakeConn is a fake of gRPC for the policy. Its SubConns become ready and
// healthy once Connect and then pump are called, unless a test has set a fault
// for their address.
type fakeConn struct {
	balancer.ClientConn

	mu     sync.Mutex // guards the fields below, and all fields of the SubConns
	events []func()
	made   []*fakeSubConn
	down   map[string]error // addresses that refuse connections, and the error
	hangs  map[string]bool  // addresses that neither accept nor refuse connections
	silent map[string]bool  // addresses that do not report their health
	unwell map[string]error // addresses that report that they are unhealthy, and why
	state  balancer.State
}

type fakeSubConn struct {
	balancer.SubConn
	*fakeConn
	addrs     []resolver.Address
	listener  func(balancer.SubConnState)
	state     connectivity.State
	told      connectivity.State // the last state that the listener got
	connects  int
	health    func(balancer.SubConnState)
	registers int // the number of calls of RegisterHealthListener
}

func (c *fakeConn) NewSubConn(
	addrs []resolver.Address,
	opts balancer.NewSubConnOptions,
) (balancer.SubConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	s := &fakeSubConn{
		fakeConn: c,
		addrs:    addrs,
		listener: opts.StateListener,
		state:    connectivity.Idle,
	}

	c.made = append(c.made, s)

	return s, nil
}

func (c *fakeConn) UpdateState(s balancer.State) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.state = s
}

func (c *fakeConn) MetricsRecorder() stats.MetricsRecorder {
	return noMetrics{}
}

type noMetrics struct {
	stats.UnimplementedMetricsRecorder
}

func (c *fakeConn) queue(event func()) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.events = append(c.events, event)
}

// pump calls listeners, as gRPC's serializer does, until the queue is empty.
// Then it calls rest, which may queue more events.
func (c *fakeConn) pump(rest func()) {
	for rested := false; ; {
		c.mu.Lock()
		events := c.events
		c.events = nil
		c.mu.Unlock()

		for _, event := range events {
			event()
		}

		switch {
		case len(events) > 0:
			rested = false
		case rested:
			return
		default:
			rested = true
			rest()
		}
	}
}

func (c *fakeConn) open() (open []*fakeSubConn) {
	c.mu.Lock()
	defer c.mu.Unlock()

	for _, s := range c.made {
		if s.state != connectivity.Shutdown {
			open = append(open, s)
		}
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
		return // gRPC reports only changes
	}

	s.state = state
	s.events = append(s.events, func() {
		s.mu.Lock()
		s.told = state
		s.health = nil
		s.mu.Unlock()

		s.listener(balancer.SubConnState{ConnectivityState: state, ConnectionError: err})
	})
}

func (s *fakeSubConn) Connect() {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.connects++

	if s.state != connectivity.Idle {
		return
	}

	s.setLocked(connectivity.Connecting, nil)

	addr := s.addrs[0].Addr
	if err := s.down[addr]; err != nil && !s.hangs[addr] {
		s.setLocked(connectivity.TransientFailure, err)
	} else if !s.hangs[addr] {
		s.setLocked(connectivity.Ready, nil)
	}
}

// RegisterHealthListener queues a report to the listener: READY, or the fault
// of the address. The report is dropped if the state changes or another
// listener is registered first.
func (s *fakeSubConn) RegisterHealthListener(f func(balancer.SubConnState)) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.told != connectivity.Ready {
		return
	}

	s.registers++
	s.health = f
	of := s.registers
	addr := s.addrs[0].Addr
	s.events = append(s.events, func() {
		s.mu.Lock()
		unwell := s.unwell[addr]
		outdated := s.health == nil || s.registers != of || s.silent[addr]
		s.mu.Unlock()

		switch {
		case outdated:
		case unwell != nil:
			f(balancer.SubConnState{
				ConnectivityState: connectivity.TransientFailure,
				ConnectionError:   unwell,
			})

		default:
			f(balancer.SubConnState{ConnectivityState: connectivity.Ready})
		}
	})
}

func (s *fakeSubConn) Shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.setLocked(connectivity.Shutdown, nil)
}

var errRefused = errors.New("refused")

// last returns the newest SubConn to an address, or nil.
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

// begin begins a call with the newest picker, and returns the instance that the
// call goes to.
func (c *fakeConn) begin(
	ctx context.Context,
	method string,
) (instance string, end func(error), err error) {
	result, err := stateOf(c).Picker.Pick(balancer.PickInfo{Ctx: ctx, FullMethodName: method})
	if err != nil {
		return "", nil, err
	}

	return strings.TrimSuffix(result.SubConn.(*fakeSubConn).addrs[0].Addr, ":1"), func(err error) {
		if result.Done != nil {
			result.Done(balancer.DoneInfo{Err: err, BytesReceived: true})
		}
	}, nil
}
