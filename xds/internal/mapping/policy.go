package mapping

import (
	"errors"
	"fmt"

	planning "github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Policy is a parsed service config.
type Policy struct {
	etcd    *planning.Config                // without the subset
	subset  int                             // how many endpoints of a cluster each client uses; 0: all
	outlier *serviceconfig.OutlierDetection // nil for none
	child   serviceconfig.Policy            // picks among the endpoints of a cluster
	config  *serviceconfig.Config
	methods map[path]*serviceconfig.Method
}

// ReadPolicy parses a service config.
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
		return nil, fmt.Errorf("the policy %.80q has no xDS form", top.Name)
	}
	p.etcd, p.subset = planning.NewConfig(etcd), int(etcd.Subset)
	p.etcd.Subset = 0 // the plan ranks endpoints by a random seed, see [plan.chosen]
	if p.child, err = serviceconfig.FirstLinked(p.etcd.ChildPolicy, isMapped); err != nil {
		return nil, err
	}
	return p, nil
}

// isMapped reports whether a policy has an xDS form, or a similar one.
func isMapped(policy string) bool {
	return serviceconfig.Ours(policy) || policy == serviceconfig.WeightedRoundRobinName || policy == serviceconfig.OutlierDetectionName ||
		policy == serviceconfig.EtcdName
}

// ringHash returns the config of ring_hash_experimental, nil if another policy picks.
func (p *Policy) ringHash() *serviceconfig.RingHash {
	ring, _ := p.child.Config.(*serviceconfig.RingHash)
	return ring
}
