package mapping

import (
	"errors"
	"fmt"

	planning "github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Policy is the service config of a service, read.
type Policy struct {
	etcd    *planning.Config
	outlier *serviceconfig.OutlierDetection // nil: there is none
	child   serviceconfig.Policy            // picks among the endpoints of a set
	config  *serviceconfig.Config
	methods map[path]*serviceconfig.Method // what config says of each
	groups  []string                       // the parts of names of clusters that are for the groups of the split
}

// ReadPolicy reads a service config.
func ReadPolicy(text string) (*Policy, error) {
	wrapped, err := serviceconfig.Wrap(text, isMapped)
	if err != nil {
		return nil, err
	}
	config, err := serviceconfig.Parse(wrapped.JSON)
	if err != nil {
		return nil, err
	}
	if len(config.LoadBalancing) == 0 {
		return nil, errors.New("the service config names no policy")
	}
	p := &Policy{config: config, methods: make(map[path]*serviceconfig.Method)}
	for i := range config.Methods {
		for _, name := range config.Methods[i].Name {
			p.methods[path{name.Service, name.Method}] = &config.Methods[i]
		}
	}
	top := config.LoadBalancing[0]
	p.outlier, _ = top.Config.(*serviceconfig.OutlierDetection)
	etcd := top.Etcd()
	if etcd == nil {
		return nil, fmt.Errorf("the policy %.80q cannot be said in xDS", top.Name)
	}
	p.etcd = planning.NewConfig(etcd)
	if p.child, err = serviceconfig.FirstLinked(p.etcd.ChildPolicy, isMapped); err != nil {
		return nil, err
	}
	for _, s := range p.etcd.Split {
		p.groups = append(p.groups, brief(s.Key()))
	}
	return p, nil
}

// isMapped reports whether xDS has a policy, or something near to it.
func isMapped(policy string) bool {
	return serviceconfig.Ours(policy) || policy == serviceconfig.WeightedRoundRobinName || policy == serviceconfig.OutlierDetectionName ||
		policy == serviceconfig.EtcdName
}

// ringHash returns the config of ring_hash_experimental, nil if another policy picks.
func (p *Policy) ringHash() *serviceconfig.RingHash {
	ring, _ := p.child.Config.(*serviceconfig.RingHash)
	return ring
}

// weighs reports whether the weights of endpoints count.
func (p *Policy) weighs() bool { return p.child.Name == serviceconfig.WeightedName }
