package scenarios

import (
	"regexp"
	"strconv"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

// probe takes the place of connections to one service, and connects to nothing. What a resolver found has gone through gRPC when it
// arrives here, and through this project's policy.
type probe struct {
	service string
	stubs   []*stub
	built   atomic.Int64
}

// installProbe registers a probe by the names of the policies that peers have: round_robin, and go-zero's p2c_ewma. It is called
// before any connection is made, since gRPC's register of policies takes no lock.
func installProbe(service string) *probe {
	p := &probe{service: service}
	for _, name := range []string{roundrobin.Name, policyOf[peerGoZero]} {
		if policy := balancer.Get(name); policy != nil {
			balancer.Register(probeBuilder{policy, p})
		}
	}
	ours := balancer.Get("etcd")
	balancer.Register(connectionsBuilder{ours, ours.(balancer.ConfigParser), p})
	return p
}

// stub is the next connection's.
func (p *probe) stub() *stub { return p.stubs[(p.built.Add(1)-1)%int64(len(p.stubs))] }

// connectionsBuilder builds this project's policy over connections that are none.
type connectionsBuilder struct {
	balancer.Builder
	balancer.ConfigParser
	probe *probe
}

func (b connectionsBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	if opts.Target.Endpoint() != b.probe.service {
		return b.Builder.Build(cc, opts)
	}
	return planned{b.Builder.Build(connections{cc}, opts), b.probe.stub()}
}

// planned is this project's policy. A change has arrived once it plans by it: connections to what has left may stay for a while.
type planned struct {
	balancer.Balancer
	*stub
}

func (p planned) UpdateClientConnState(s balancer.ClientConnState) error {
	err := p.Balancer.UpdateClientConnState(s)
	if found := sizeOf.FindStringSubmatch(s.ResolverState.Attributes.String()); err == nil && found != nil {
		size, _ := strconv.Atoi(found[1])
		p.group.tell(p.stub, resolver.State{}, size)
	}
	return err
}

var sizeOf = regexp.MustCompile(`(\d+) endpoints`) // in the attribute by which this project's resolver hands them over

// connections are none: each is ready once it is to connect.
type connections struct{ balancer.ClientConn }

func (connections) NewSubConn(_ []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	return &subConn{listener: opts.StateListener}, nil
}

type subConn struct {
	balancer.SubConn
	listener func(balancer.SubConnState)
}

func (s *subConn) tell(state connectivity.State) {
	go s.listener(balancer.SubConnState{ConnectivityState: state})
}

func (s *subConn) Connect()  { s.tell(connectivity.Ready) }
func (s *subConn) Shutdown() { s.tell(connectivity.Shutdown) }
func (s *subConn) RegisterHealthListener(listener func(balancer.SubConnState)) {
	go listener(balancer.SubConnState{ConnectivityState: connectivity.Ready})
}

// probeBuilder replaces the policy of its name, which still serves other targets: the etcd client uses round_robin, too.
type probeBuilder struct {
	balancer.Builder
	probe *probe
}

func (b probeBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	p := b.probe
	if opts.Target.Endpoint() != p.service {
		return b.Builder.Build(cc, opts)
	}
	return &probing{cc: cc, stub: p.stub()}
}

// openerOf makes a peer ready to connect. The floor and a watch have no gRPC.
func (p *probe) openerOf(peer string, client *clientv3.Client) (opener, error) {
	if peer == peerFloor || peer == peerWatch {
		return openerOf(peer, p.service, client)
	}
	dial, err := dialerOf(peer, client, nil)
	if err != nil {
		return nil, err
	}
	return func(g *group, n int) error {
		for range n {
			p.stubs = append(p.stubs, g.add())
		}
		for range n {
			conn, err := dial(p.service)
			if err != nil {
				return err
			}
			conn.Connect()
		}
		return nil
	}, nil
}

// probing is the probe of one connection.
type probing struct {
	cc    balancer.ClientConn
	stub  *stub
	inUse bool
}

func (p *probing) UpdateClientConnState(s balancer.ClientConnState) error {
	p.stub.group.tell(p.stub, s.ResolverState, len(s.ResolverState.Endpoints))
	if !p.inUse {
		p.inUse = true
		p.cc.UpdateState(balancer.State{ConnectivityState: connectivity.Ready, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)})
	}
	return nil
}

func (p *probing) ResolverError(error) {}

func (p *probing) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

func (p *probing) ExitIdle() {}

func (p *probing) Close() {}
