package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// following returns the services whose keys begin with that of s, without s. The services are sorted by key, so those
// stand together.
func (p *patient) following(s *service) []*service {
	compare := func(o *service, key string) int { return strings.Compare(o.key, key) }
	from, found := slices.BinarySearchFunc(p.services, s.key, compare)
	if found {
		from++
	}
	to := from
	for to < len(p.services) && strings.HasPrefix(p.services[to].key, s.key) {
		to++
	}
	return p.services[from:to]
}

// checkNeighbours finds the services that get in the way of this one by their keys. A service far below this one is told
// of where the nearest above it is looked at.
func (p *patient) checkNeighbours(s *service) (all []finding) {
	for _, o := range p.following(s) {
		if !o.inUse() {
			continue
		}
		if strings.HasPrefix(o.key, s.key+"/") && p.parent(o) == s {
			all = append(all, finding{kindNestedKey, []string{p.full(s.key) + "/", p.full(o.key) + "/"},
				fmt.Sprintf("%s lies below %s: who lists the latter by its prefix, as other registries' clients do, finds the instances of both", o.key, s.key),
				"give one of them a key that is not below the other's; the plugin refuses to generate both"})
			continue
		}
		if f, ok := checkSuffix(s, o, p.full); ok {
			all = append(all, f)
			continue
		}
		if why := mixesUp(s, o); why != "" {
			all = append(all, finding{kindNeighbour, []string{p.full(s.key), p.full(o.key)},
				fmt.Sprintf("%s begins like %s: %s", o.key, s.key, why),
				fmt.Sprintf("rename one of them so that neither key begins with the other; until then write nothing under %s that the readers of %s cannot bear (docs/layouts.md)", o.key, s.key)})
		}
	}
	return all
}

// parent is the nearest service that a service lies below, nil if there is none.
func (p *patient) parent(s *service) *service {
	if p.inUse == nil {
		p.inUse = make(map[string]*service)
		for _, o := range p.services {
			if o.inUse() {
				p.inUse[o.key] = o
			}
		}
	}
	return p.inUse[servicekey.Outer(s.key, servicekey.Nested, func(key string) bool { return p.inUse[key] != nil })]
}

// mixesUp says why the readers of a service, who list by its bare key, mix another one up with it; ""
// where they do not. Readers of the layouts that are not named list by the key with a slash.
func mixesUp(s, o *service) string {
	if !strings.HasPrefix(o.key, s.key) || strings.HasPrefix(o.key, s.key+"/") {
		return ""
	}
	has := func(match func(instance) bool) bool { return slices.ContainsFunc(o.instances, match) }
	unparsed := func(i instance) bool { return !kratosParses(i.entry.value) }
	switch {
	case s.uses(endpoint.LeaseSuffix):
		return "gateways that list the lease suffix by the bare key take its instances for their own"
	case s.uses(endpoint.GoFrame) && has(func(i instance) bool { return !namedByAddrs(i.entry.name()) }):
		return "GoFrame's reader lists by the bare key, and panics at a key that does not end in host:port"
	case s.uses(endpoint.GoFrame) && has(func(i instance) bool { return !i.layout.JSON() }):
		return "GoFrame's reader lists by the bare key, and gives up on the whole list over a value that is not JSON"
	case s.uses(endpoint.Kratos) && (has(unparsed) || slices.ContainsFunc(o.malformed, unparsed)):
		return "kratos' reader lists by the bare key, and gives up on the whole list over an entry that it cannot parse"
	}
	return ""
}

// kratosParses reports whether kratos' reader can decode a value as an instance, of whichever service. It takes the fields
// of etcd's naming package and of go-micro that have the names of its own, in either case, for its own.
func kratosParses(value []byte) bool {
	var its struct {
		ID        string            `json:"id"`
		Name      string            `json:"name"`
		Version   string            `json:"version"`
		Metadata  map[string]string `json:"metadata"`
		Endpoints []string          `json:"endpoints"`
	}
	return json.Unmarshal(value, &its) == nil
}

// namedByAddrs reports whether GoFrame's reader can take the last segment of a key for the addresses of a server.
func namedByAddrs(name string) bool {
	for addr := range strings.SplitSeq(name, ",") {
		if strings.Count(addr, ":") != 1 {
			return false
		}
	}
	return true
}
