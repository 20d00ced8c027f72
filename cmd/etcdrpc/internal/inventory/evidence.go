package inventory

import (
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Evident reports whether the keys can only be those of a service: there is a live config, a candidate for leadership, an entry
// in a format that only servers write, or there are several addresses on leases. One address on a lease proves nothing: locks,
// leaders and DNS records look the same.
func (s *Service) Evident() bool {
	if s.Config != nil || len(s.Candidates) > 0 || slices.ContainsFunc(s.Instances, isServerEntry) || slices.ContainsFunc(s.Malformed, isServerEntry) || len(s.Instances) > 0 && endpoint.IsGoFrameKey(s.Key) {
		return true
	}
	addrs := make(map[string]bool)
	for _, i := range s.Instances {
		if i.Entry.Lease != 0 && i.Layout != endpoint.GoFrame {
			addrs[i.Addr] = true
		}
	}
	root, _, _ := strings.Cut(strings.TrimPrefix(s.Key, "/"), "/")
	return len(addrs) > 1 && !slices.Contains(foreignRoots, root)
}

// foreignRoots are the first key segments of programs that store addresses of other things than gRPC services.
var foreignRoots = []string{"apisix", "registry", "skydns", "tidb", "topology", "traefik", "vault"}

// isServerEntry reports whether an entry is named by an address or its lease, or is JSON of a known framework.
func isServerEntry(i Instance) bool {
	e := i.Entry
	switch {
	case e.namesLease(), e.Lease != 0 && strings.Contains(string(e.Value), `"Addr"`):
		return true
	case i.Err != nil:
		return false
	}
	return i.Layout != endpoint.GoFrame && (IsAddress(e.Name()) || e.Lease != 0 && i.Layout.JSON() && !i.Layout.LikeHomeMade())
}

// IsAddress reports whether text is a valid address of an instance.
func IsAddress(text string) bool { return endpoint.CheckAddr(text, true) == nil }
