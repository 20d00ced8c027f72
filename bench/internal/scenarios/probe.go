package scenarios

import (
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/connectivity"
)

// probe takes the place of the policies that connect, for the connections to one service. It notes
// what it is told as a stub does, and connects to nothing. So what a resolver found has gone through
// gRPC when it arrives here and, where this project's policy stands above round_robin, through that.
type probe struct {
	service string
	stubs   []*stub
	built   atomic.Int64
}

// installProbe registers a probe by the names of the policies that peers have: round_robin, and
// p2c_ewma, which go-zero's processes link. It comes before all that makes connections, since gRPC's
// register of policies takes no lock.
func installProbe(service string) *probe {
	p := &probe{service: service}
	for _, name := range []string{roundrobin.Name, policyOf[peerGoZero]} {
		if policy := balancer.Get(name); policy != nil {
			balancer.Register(probeBuilder{policy, p})
		}
	}
	return p
}

// probeBuilder has its name from the policy in whose place it is. That still serves other targets:
// the etcd client uses round_robin, too.
type probeBuilder struct {
	balancer.Builder
	probe *probe
}

func (b probeBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	p := b.probe
	if opts.Target.Endpoint() != p.service {
		return b.Builder.Build(cc, opts)
	}
	return &probing{cc: cc, stub: p.stubs[(p.built.Add(1)-1)%int64(len(p.stubs))]}
}

// openerOf makes a peer ready to connect. The floor has no gRPC.
func (p *probe) openerOf(peer string, client *clientv3.Client) (opener, error) {
	if peer == peerFloor {
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
