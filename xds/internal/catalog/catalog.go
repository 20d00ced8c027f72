// Package catalog follows services in etcd, and keeps their xDS resources.
//
//	catalog.go  the hosts, by the names that clients dial
//	host.go     one host: its services in etcd, and their resources
package catalog

import (
	"log/slog"
	"maps"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/ads"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/mapping"
)

// Catalog implements [ads.Source]. It is safe for concurrent use.
type Catalog struct {
	hosts map[string]*host // by authority; it does not change
}

// New returns the catalog of services, which must have authorities. It follows a service in etcd from its first Find.
// notify is called after each change of the resources of an authority; it must not block, nor call the catalog.
func New(registry *runtime.Registry, services []*runtime.ServiceDesc, logger *slog.Logger, notify func(authority string)) (*Catalog, error) {
	c := &Catalog{hosts: make(map[string]*host)}
	for _, desc := range services {
		h := c.hosts[desc.Authority]
		if h == nil {
			h = &host{registry: registry, authority: desc.Authority, logger: logger, notify: notify}
			c.hosts[desc.Authority] = h
		}
		if err := h.add(desc); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Find implements [ads.Source].
func (c *Catalog) Find(k ads.Kind, name string, of mapping.Client) ads.Found {
	h := c.hosts[mapping.AuthorityOf(name)]
	if h == nil {
		return ads.Found{}
	}
	s, provisional := h.snapshot(of)
	if s == nil {
		return ads.Found{Pending: true}
	}
	found := ads.Lookup(s, k, name)
	found.Provisional = provisional
	return found
}

// Host is the status of a host.
type Host struct {
	Authority   string
	Key         string
	Known       bool // it was read from etcd
	Endpoints   int
	Unsupported []string // the features that xDS lacks
	Err         error    // why it cannot be read now, or its service config is not in force
}

// Hosts returns the hosts that clients have asked for, sorted.
func (c *Catalog) Hosts() (all []Host) {
	for _, authority := range slices.Sorted(maps.Keys(c.hosts)) {
		if h, used := c.hosts[authority].status(); used {
			all = append(all, h)
		}
	}
	return all
}
