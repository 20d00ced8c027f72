package survey

import (
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Evident reports whether this can be nothing but a service. An address on a lease alone is no proof: locks, leaders and records
// of DNS are kept so. It takes a live config, a candidate for the leader, an entry in a format that only servers write, or
// several addresses on leases.
func (s *Service) Evident() bool {
	if s.Config != nil || len(s.Standing) > 0 || slices.ContainsFunc(s.Instances, isServers) || slices.ContainsFunc(s.Malformed, isServers) || len(s.Instances) > 0 && endpoint.IsGoFrameKey(s.Key) {
		return true
	}
	addrs := make(map[string]bool)
	for _, i := range s.Instances {
		if i.Entry.Lease != 0 && i.Layout != endpoint.GoFrame {
			addrs[i.Addr] = true
		}
	}
	root, _, _ := strings.Cut(strings.TrimPrefix(s.Key, "/"), "/")
	return len(addrs) > 1 && !slices.Contains(others, root)
}

// others are the first segments of the keys of programs that keep addresses of something else than gRPC services in etcd.
var others = []string{"apisix", "registry", "skydns", "tidb", "topology", "traefik", "vault"}

// isServers reports whether an entry is a server's: it is named by an address or by its lease, or in JSON that clients know.
func isServers(i Instance) bool {
	e := i.Entry
	switch {
	case e.namesLease(), e.Lease != 0 && strings.Contains(string(e.Value), `"Addr"`):
		return true
	case i.Err != nil:
		return false
	}
	return i.Layout != endpoint.GoFrame && (IsAddress(e.Name()) || e.Lease != 0 && i.Layout.JSON() && !i.Layout.LikeHomeMade())
}

// IsAddress reports whether a text is an address that an instance may have.
func IsAddress(text string) bool { return endpoint.CheckAddr(text, true) == nil }
