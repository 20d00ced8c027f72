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
			marks.Add(endpoint.Mark{Addr: i.Addr, Instance: i.Instance, Lease: i.Entry.Lease, Revision: i.Entry.ModRevision})
		}
	}
	var kept []int
	var entries []endpoint.Entry
	for n := range s.Instances {
		i := &s.Instances[n]
		e := endpoint.Entry{Endpoint: &i.Endpoint, Layout: i.Layout, CreateRevision: i.Entry.CreateRevision}
		if marks.Cover(e, i.Entry.Lease) {
			continue
		}
		kept, entries = append(kept, n), append(entries, e)
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

// ByAddr returns the instances by their addresses, of which each is to be there once.
func (s *Service) ByAddr() map[string]*Instance {
	all := make(map[string]*Instance, len(s.Instances))
	for n := range s.Instances {
		all[s.Instances[n].Addr] = &s.Instances[n]
	}
	return all
}

// WithUncalled returns all well-formed entries, those that clients call as they are in called, which is what they make of the service.
// The others have a share that says why they have no calls.
func (s *Service) WithUncalled(called *Service) []Instance {
	all, by := slices.Clone(called.Instances), called.ByAddr()
	for _, i := range s.Instances {
		if why := i.whyUncalled(by[i.Addr]); why != "" {
			i.Share = &Share{Why: why}
			all = append(all, i)
		}
	}
	slices.SortStableFunc(all, Instance.compare)
	return all
}

// whyUncalled says why clients make no instance of an entry, "" if they do. called is what they call at its address; nil:
// nothing.
func (i *Instance) whyUncalled(called *Instance) string {
	switch {
	case called == nil:
		return "is being withdrawn by its owner"
	case called.Entry.Key != i.Entry.Key:
		return "has the address of " + called.Instance + ", which stands for both"
	}
	return ""
}
