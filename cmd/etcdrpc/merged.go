package main

import (
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// merged returns the service with the instances that clients make of its entries: one an address, and
// none that its owner is withdrawing. The instances stay in their order.
func (s *service) merged() *service {
	marks := make(endpoint.Marks)
	for n := range s.instances {
		if i := &s.instances[n]; i.Leaving() {
			marks.Add(i.Addr, i.entry.modRevision)
		}
	}
	var kept []int
	var entries []endpoint.Entry
	for n := range s.instances {
		i := &s.instances[n]
		if marks.Cover(i.Addr, i.entry.createRevision) {
			continue
		}
		kept = append(kept, n)
		entries = append(entries, endpoint.Entry{Endpoint: &i.Endpoint, Layout: i.layout, CreateRevision: i.entry.createRevision})
	}
	set := endpoint.Merge(entries)
	slices.Sort(set)
	m := *s
	m.instances = make([]instance, len(set))
	for n, at := range set {
		m.instances[n] = s.instances[kept[at]]
	}
	return &m
}

// at returns the instance at an address, nil if there is none.
func (s *service) at(addr string) *instance {
	n := slices.IndexFunc(s.instances, func(i instance) bool { return i.Addr == addr })
	if n < 0 {
		return nil
	}
	return &s.instances[n]
}
