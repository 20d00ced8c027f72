package survey

import (
	"fmt"
	"hash/maphash"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Live returns the live config of the service as clients read it, nil if there is none. The error says why they do not go by it.
func (s *Service) Live() (*serviceconfig.Config, error) {
	if s.Config == nil {
		return nil, nil
	}
	if err := s.Config.tooLarge(); err != nil {
		return nil, fmt.Errorf("the service config has %w", err)
	}
	return serviceconfig.ParseLive(string(s.Config.Value))
}

// ConfigRevision returns the revision of the live config, 0 if there is none.
func (s *Service) ConfigRevision() int64 {
	if s.Config == nil {
		return 0
	}
	return s.Config.ModRevision
}

// Policy returns the policy "etcd" of the live config, nil if clients go by none.
func (s *Service) Policy() *serviceconfig.Etcd {
	live, err := s.Live()
	if err != nil || live == nil || len(live.LoadBalancing) == 0 {
		return nil
	}
	return live.LoadBalancing[0].Etcd()
}

// Plan is what a client makes of the instances of a service.
type Plan = plan.Plan[*Instance]

// Plan plans the calls of a client in a zone by a policy, as clients do, with the instances that they make of the entries: those of a
// service that is [Service.Merged]. The policy may be nil.
func (s *Service) Plan(policy *serviceconfig.Etcd, zone string) *Plan {
	if policy == nil {
		policy = new(serviceconfig.Etcd)
	}
	all := make([]*Instance, len(s.Instances))
	for n := range all {
		all[n] = &s.Instances[n]
	}
	return plan.Make(&plan.Input[*Instance]{
		Service: s.Key, Config: plan.NewConfig(policy), Client: &plan.Client{Zone: zone, Seed: maphash.MakeSeed()}, Endpoints: all,
		Of: func(i **Instance) *endpoint.Endpoint { return &(*i).Endpoint },
	})
}

// drained returns the addresses that clients keep new calls from by the live config. All entries of an address are drained
// with it, whichever of them clients know it by.
func (s *Service) drained() map[string]bool {
	policy := s.Policy()
	if policy == nil || len(policy.Drain) == 0 {
		return nil
	}
	addrs := make(map[string]bool)
	for e := range s.Merged().Plan(policy, "").Drain.Drained {
		addrs[e.Addr] = true
	}
	return addrs
}

// Laned returns the instances that say which lane they are in, in the metadata that names it by convention.
func Laned(instances []Instance) (laned []Instance) {
	for _, i := range instances {
		if i.Metadata["lane"] != "" {
			laned = append(laned, i)
		}
	}
	return laned
}
