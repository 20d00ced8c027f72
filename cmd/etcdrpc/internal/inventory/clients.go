package inventory

import (
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Merged returns the service with only the instances that clients call, in the
// same order: one for each address, without those that their owners are
// withdrawing.
func (s *Service) Merged() *Service {
	marks := make(endpoint.Marks)
	for _, i := range s.Instances {
		if i.Leaving() {
			marks.Add(endpoint.Mark{
				Addr:     i.Addr,
				Instance: i.Instance,
				Lease:    i.Entry.Lease,
				Revision: i.Entry.ModRevision,
			})
		}
	}

	var kept []int // the indexes of entries in s.Instances
	var entries []endpoint.Entry

	for n := range s.Instances {
		i := &s.Instances[n]
		e := endpoint.Entry{
			Endpoint:       &i.Endpoint,
			Layout:         i.Layout,
			CreateRevision: i.Entry.CreateRevision,
		}
		if marks.Cover(e, i.Entry.Lease) {
			continue
		}

		kept = append(kept, n)
		entries = append(entries, e)
	}

	set := endpoint.Merge(entries)
	slices.Sort(set)

	m := *s
	m.Instances = make([]Instance, len(set))
	for n, at := range set {
		m.Instances[n] = s.Instances[kept[at]]
	}

	return &m
}

// ByAddr returns the instances by address. Each address must occur once.
func (s *Service) ByAddr() map[string]*Instance {
	all := make(map[string]*Instance, len(s.Instances))
	for n := range s.Instances {
		all[s.Instances[n].Addr] = &s.Instances[n]
	}

	return all
}

// WithUncalled returns all well-formed entries. called holds the entries that
// clients call, with their shares. For an entry that clients do not call, the
// share has the reason.
func (s *Service) WithUncalled(called *Service) []Instance {
	all := slices.Clone(called.Instances)
	calledAt := called.ByAddr()
	for _, i := range s.Instances {
		why := "is being withdrawn by its owner"

		if at := calledAt[i.Addr]; at != nil {
			if at.Entry.Key == i.Entry.Key {
				continue
			}

			why = "has the address of " + at.Instance + ", which stands for both"
		}

		i.Share = &Share{Why: why}
		all = append(all, i)
	}

	slices.SortStableFunc(all, Instance.compare)

	return all
}

// Live returns the live config as clients read it, nil if there is none. The
// error is the reason why clients refuse it.
func (s *Service) Live() (*serviceconfig.Config, error) {
	if s.Config == nil {
		return nil, nil
	}

	if err := s.Config.checkSize(); err != nil {
		return nil, fmt.Errorf("the service config has %w", err)
	}

	config, err := serviceconfig.ParseLive(string(s.Config.Value))
	config.Etcd().EndDrains(time.Now())

	return config, err
}

// Refused is the state of a live config that clients refuse.
const Refused = "refused"

// ConfigState returns the state of the live config, "" if there is none.
func (s *Service) ConfigState() string {
	if _, err := s.Live(); err != nil {
		return Refused
	}

	if s.Config != nil {
		return "in force"
	}

	return ""
}

// ConfigRevision returns the revision of the live config, 0 if there is none.
func (s *Service) ConfigRevision() int64 {
	if s.Config == nil {
		return 0
	}

	return s.Config.ModRevision
}

// Policy returns the policy "etcd" of the live config, nil if there is none or
// clients refuse it.
func (s *Service) Policy() *serviceconfig.Etcd {
	live, _ := s.Live()
	return live.Etcd()
}

// Plan is a planner.Plan of instances.
type Plan = planner.Plan[*Instance]

// Plan returns the plan of a client in zone under policy, which may be nil. s
// must be [Service.Merged], because clients merge entries before they plan.
func (s *Service) Plan(policy *serviceconfig.Etcd, zone string) *Plan {
	if policy == nil {
		policy = new(serviceconfig.Etcd)
	}

	all := make([]*Instance, len(s.Instances))
	for n := range all {
		all[n] = &s.Instances[n]
	}

	return planner.Make(&planner.Input[*Instance]{
		Service:   s.Key,
		Config:    planner.NewConfig(policy),
		Client:    &planner.Client{Zone: zone, Seed: maphash.MakeSeed()},
		Endpoints: all,
		Of:        func(i **Instance) *endpoint.Endpoint { return &(*i).Endpoint },
	})
}

// WithLane returns the instances whose metadata names a lane under the
// conventional name "lane".
func WithLane(instances []Instance) (found []Instance) {
	for _, i := range instances {
		if i.Metadata["lane"] != "" {
			found = append(found, i)
		}
	}

	return found
}
