package survey

import (
	"fmt"

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

// Placement returns which instances are in which lanes, nil if no route of the policy asks for lanes. The policy may be nil.
func (s *Service) Placement(policy *serviceconfig.Etcd) *plan.Placement {
	if policy == nil {
		return nil
	}
	return plan.NewConfig(policy).Place(s.endpoints())
}

func (s *Service) endpoints() []*endpoint.Endpoint {
	all := make([]*endpoint.Endpoint, len(s.Instances))
	for i := range all {
		all[i] = &s.Instances[i].Endpoint
	}
	return all
}

// Drained returns the addresses that clients keep new calls from by the live config. All entries of an address are drained
// with it, whichever of them clients know it by.
func (s *Service) Drained() map[string]bool {
	policy := s.Policy()
	if policy == nil || len(policy.Drain) == 0 {
		return nil
	}
	addrs, _ := s.Merged().Drain(policy)
	return addrs
}

// Drain returns the addresses that a policy keeps new calls from, for a service with the instances that clients make, and
// how clients follow its list.
func (s *Service) Drain(policy *serviceconfig.Etcd) (addrs map[string]bool, followed *plan.Drain) {
	config, all := plan.NewConfig(policy), s.endpoints()
	followed = config.FollowDrain(all, config.Place(all), nil, nil)
	addrs = make(map[string]bool)
	for e := range followed.Drained {
		addrs[e.Addr] = true
	}
	return addrs, followed
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
