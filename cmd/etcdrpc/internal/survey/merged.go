package survey

import (
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Merged returns the service with the instances that clients make of its entries: one an address, and
// none that its owner is withdrawing. The instances stay in their order.
func (s *Service) Merged() *Service {
	marks := make(endpoint.Marks)
	for n := range s.Instances {
		if i := &s.Instances[n]; i.Leaving() {
			marks.Add(i.Addr, i.Entry.ModRevision)
		}
	}
	var kept []int
	var entries []endpoint.Entry
	for n := range s.Instances {
		i := &s.Instances[n]
		if marks.Cover(i.Addr, i.Entry.CreateRevision) {
			continue
		}
		kept = append(kept, n)
		entries = append(entries, endpoint.Entry{Endpoint: &i.Endpoint, Layout: i.Layout, CreateRevision: i.Entry.CreateRevision})
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

// Withdrawn returns the addresses at which clients have no instance, because the owners of their entries are withdrawing them.
func (s *Service) Withdrawn() map[string]bool {
	leaving := func(i Instance) bool { return i.Leaving() }
	if !slices.ContainsFunc(s.Instances, leaving) {
		return nil
	}
	addrs := make(map[string]bool)
	for _, i := range s.Instances {
		addrs[i.Addr] = true
	}
	for _, i := range s.Merged().Instances {
		delete(addrs, i.Addr)
	}
	return addrs
}

// At returns the instance at an address, nil if there is none.
func (s *Service) At(addr string) *Instance {
	n := slices.IndexFunc(s.Instances, func(i Instance) bool { return i.Addr == addr })
	if n < 0 {
		return nil
	}
	return &s.Instances[n]
}
