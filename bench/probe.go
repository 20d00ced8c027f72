package bench

import (
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

// openProbed follows the service with one gRPC connection of the child's peer.
// The floor has no gRPC connection.
func (c *child) openProbed() *group {
	g := &group{}
	if c.Peer == peerFloor {
		c.open()(g, c.Key, 1, c.Size)
		return g
	}

	// before any connection, because gRPC's policy registry has no lock
	installProbe(c.Key, g.add())
	c.dial().Connect()
	within(g.expect(c.Size))

	return g
}

// installProbe replaces the policy of connections to a service by a probe,
// which records the states that it receives from the resolver through gRPC.
// This project's policy stays, and is extended by a probe.
func installProbe(service string, s *stub) {
	replace := func(
		cc balancer.ClientConn,
		_ balancer.BuildOptions,
	) balancer.Balancer {
		return &probing{cc: cc, stub: s}
	}

	for _, name := range []string{roundrobin.Name, policyOf[peerGoZero]} {
		if policy := balancer.Get(name); policy != nil {
			balancer.Register(probeBuilder{policy, service, replace})
		}
	}

	ours := balancer.Get("etcd")
	extend := func(
		cc balancer.ClientConn,
		opts balancer.BuildOptions,
	) balancer.Balancer {
		return extended{ours.Build(connections{cc}, opts), s} // with fake connections
	}

	balancer.Register(struct {
		probeBuilder
		balancer.ConfigParser
	}{probeBuilder{ours, service, extend}, ours.(balancer.ConfigParser)})
}

// probeBuilder replaces a policy for one service. Other targets keep the
// policy: the etcd client also uses round_robin.
type probeBuilder struct {
	balancer.Builder
	service string
	probe   func(balancer.ClientConn, balancer.BuildOptions) balancer.Balancer
}

func (b probeBuilder) Build(
	cc balancer.ClientConn,
	opts balancer.BuildOptions,
) balancer.Balancer {
	if opts.Target.Endpoint() != b.service {
		return b.Builder.Build(cc, opts)
	}

	return b.probe(cc, opts)
}

// probing is the policy that records the states.
type probing struct {
	cc    balancer.ClientConn
	stub  *stub
	inUse bool
}

func (p *probing) UpdateClientConnState(s balancer.ClientConnState) error {
	p.stub.group.record(p.stub, s.ResolverState, len(s.ResolverState.Endpoints))

	if !p.inUse {
		p.inUse = true
		p.cc.UpdateState(balancer.State{
			ConnectivityState: connectivity.Ready,
			Picker:            base.NewErrPicker(balancer.ErrNoSubConnAvailable),
		})
	}

	return nil
}

func (*probing) ResolverError(error)                                        {}
func (*probing) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}
func (*probing) ExitIdle()                                                  {}
func (*probing) Close()                                                     {}

// extended is this project's policy with a probe. A change has arrived once the
// policy uses it for calls, even if connections to removed endpoints still
// exist.
type extended struct {
	balancer.Balancer
	stub *stub
}

// sizeOf matches the number of endpoints in the attributes of this project's
// resolver.
var sizeOf = regexp.MustCompile(`(\d+) endpoints`)

func (p extended) UpdateClientConnState(s balancer.ClientConnState) error {
	err := p.Balancer.UpdateClientConnState(s)
	found := sizeOf.FindStringSubmatch(s.ResolverState.Attributes.String())
	if err == nil && found != nil {
		size, _ := strconv.Atoi(found[1])
		p.stub.group.record(p.stub, resolver.State{}, size)
	}

	return err
}

// connections makes fake SubConns, which are ready as soon as they are asked to
// connect.
type connections struct{ balancer.ClientConn }

func (connections) NewSubConn(
	_ []resolver.Address,
	opts balancer.NewSubConnOptions,
) (balancer.SubConn, error) {
	return &subConn{listener: opts.StateListener}, nil
}

type subConn struct {
	balancer.SubConn
	listener func(balancer.SubConnState)
}

func (s *subConn) notify(state connectivity.State) {
	go s.listener(balancer.SubConnState{ConnectivityState: state})
}

func (s *subConn) Connect() {
	s.notify(connectivity.Ready)
}

func (s *subConn) Shutdown() {
	s.notify(connectivity.Shutdown)
}

func (s *subConn) RegisterHealthListener(listener func(balancer.SubConnState)) {
	go listener(balancer.SubConnState{ConnectivityState: connectivity.Ready})
}

// group is a set of connections to one key, with the number of endpoints that
// each received last.
type group struct {
	mu      sync.Mutex
	conns   []*stub
	want    int
	arrived chan time.Time // receives the time when all conns have the expected number
}

// stub replaces gRPC's side of a resolver. It keeps the last state, as gRPC
// does, and costs almost nothing.
type stub struct {
	resolver.ClientConn
	group *group
	size  int
	state resolver.State
}

func (s *stub) UpdateState(state resolver.State) error {
	s.group.record(s, state, max(len(state.Endpoints), len(state.Addresses)))
	return nil
}

func (*stub) ReportError(error)             {}
func (*stub) NewAddress([]resolver.Address) {}
func (*stub) ParseServiceConfig(string) *serviceconfig.ParseResult {
	return &serviceconfig.ParseResult{}
}

// record records the number of endpoints that a connection received.
func (g *group) record(s *stub, state resolver.State, size int) {
	now := time.Now()

	g.mu.Lock()
	defer g.mu.Unlock()

	s.state = state
	s.size = size
	g.check(now)
}

// check signals arrived if all connections have the expected number of
// endpoints.
func (g *group) check(now time.Time) {
	differs := func(s *stub) bool { return s.size != g.want }
	if g.arrived != nil && !slices.ContainsFunc(g.conns, differs) {
		g.arrived <- now
		g.arrived = nil
	}
}

// expect returns a channel that receives the time when all connections have
// size endpoints.
func (g *group) expect(size int) <-chan time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()

	arrived := make(chan time.Time, 1)
	g.want = size
	g.arrived = arrived
	g.check(time.Now())

	return arrived
}

// add adds a connection without a state.
func (g *group) add() *stub {
	g.mu.Lock()
	defer g.mu.Unlock()

	s := &stub{group: g, size: -1}
	g.conns = append(g.conns, s)

	return s
}
