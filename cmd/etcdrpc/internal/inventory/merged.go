package inventory

import (
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Merged returns the service with the instances that clients call: one for each address, and none that its owner is
// withdrawing. Their order is kept.
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

// ByAddr returns the instances by address. Each address must occur once.
func (s *Service) ByAddr() map[string]*Instance {
	all := make(map[string]*Instance, len(s.Instances))
	for n := range s.Instances {
		all[s.Instances[n].Addr] = &s.Instances[n]
	}
	return all
}

// WithUncalled returns all well-formed entries. called holds those that clients call, with their shares. The share of each
// other entry says why it gets no calls.
func (s *Service) WithUncalled(called *Service) []Instance {
	all, by := slices.Clone(called.Instances), called.ByAddr()
	for _, i := range s.Instances {
		if reason := i.uncalledReason(by[i.Addr]); reason != "" {
			i.Share = &Share{Why: reason}
			all = append(all, i)
		}
	}
	slices.SortStableFunc(all, Instance.compare)
	return all
}

// uncalledReason returns why clients do not call an entry, "" if they do. called is the instance called at its address, or nil.
func (i *Instance) uncalledReason(called *Instance) string {
	switch {
	case called == nil:
		return "is being withdrawn by its owner"
	case called.Entry.Key != i.Entry.Key:
		return "has the address of " + called.Instance + ", which stands for both"
	}
	return ""
}
