package survey

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// leaderPrefix is where the candidates for the leadership of services are.
const leaderPrefix = servicekey.LeaderSegment + "/"

// Evident reports whether this is a service rather than something else that is kept in etcd, such as a lock, or a setting that
// happens to be an address: it has a live service config, or an entry that nothing but a server writes.
func (s *Service) Evident() bool {
	return s.Config != nil || slices.ContainsFunc(s.Instances, s.isServers) || slices.ContainsFunc(s.Malformed, s.isServers)
}

// Proven reports whether this can be nothing but a service. An address on a lease alone is no proof: locks, leaders and records
// of DNS are kept so. It takes a live config, a candidate for the leader, an entry in a format that only servers write, or
// several addresses on leases that are no other program's.
func (s *Service) Proven() bool {
	if s.Config != nil || s.Led || slices.ContainsFunc(s.Instances, s.isFormat) || slices.ContainsFunc(s.Malformed, s.isFormat) {
		return true
	}
	addrs := make(map[string]bool)
	for _, i := range s.Instances {
		if i.Entry.Lease != 0 && i.Layout != endpoint.GoFrame && !isLock(i.Entry) {
			addrs[i.Addr] = true
		}
	}
	root, _, _ := strings.Cut(strings.TrimPrefix(s.Key, "/"), "/")
	return len(addrs) > 1 && !slices.Contains(others, root)
}

// others are the first segments of the keys of programs that keep addresses of something else than gRPC services in etcd.
var others = []string{"apisix", "registry", "skydns", "tidb", "topology", "traefik", "vault"}

// isFormat reports whether an entry is in a format that only servers write: it is named by its address or by its lease, or in
// the JSON of a framework.
func (s *Service) isFormat(i Instance) bool {
	e := i.Entry
	switch {
	case i.Layout == endpoint.GoFrame: // its values say nothing of an address
		return endpoint.IsGoFrameKey(s.Key)
	case e.namesLease():
		return true
	case IsAddress(e.Name()) && (i.Err == nil || wantsAddress(string(e.Value))):
		return true
	}
	return WriterOf(s.Key, e) != "" && (e.Lease != 0 || !s.IsMapped(i))
}

// isServers reports whether an entry is a server's: it is named by an address, in the JSON of a framework, or on a lease that
// is not a lock's. JSON that is well-formed and only resembles a framework's may be a setting, and a malformed entry on a
// lease has to be named by that, or to have been meant as an address.
func (s *Service) isServers(i Instance) bool {
	e := i.Entry
	switch {
	case IsAddress(i.Instance), WriterOf(s.Key, e) != "" && (i.Err != nil || i.Layout.JSON() && !s.IsMapped(i)):
		return true
	case e.Lease == 0 || isLock(e):
		return false
	}
	return i.Err == nil || e.namesLease() || wantsAddress(string(e.Value))
}

// Faulty returns the malformed entries without what a program with JSON of its own keeps beside that of its servers, such as
// a counter or the name of a leader.
func (s *Service) Faulty() []Instance {
	foreign := func(i Instance) bool { return !s.IsMapped(i) }
	if len(s.Instances) == 0 || slices.ContainsFunc(s.Instances, foreign) {
		return s.Malformed
	}
	return slices.DeleteFunc(slices.Clone(s.Malformed), func(i Instance) bool {
		value := strings.TrimSpace(string(i.Entry.Value))
		return !strings.HasPrefix(value, "{") && !wantsAddress(value) && !s.isServers(i)
	})
}

// IsAddress reports whether a text is an address that an instance may have.
func IsAddress(text string) bool { return endpoint.CheckAddr(text, true) == nil }

// isLock reports whether an entry has the name that etcd's locks and elections give theirs: the id of its lease, in
// hexadecimal.
func isLock(e Entry) bool { return e.Lease != 0 && e.Name() == strconv.FormatInt(e.Lease, 16) }

// wantsAddress reports whether a text that clients cannot read was to be an address, or an object with one.
func wantsAddress(value string) bool {
	value = strings.Trim(strings.TrimSpace(value), "\"'\x00\ufeff") // as encoders and editors put around text
	value = strings.TrimSuffix(value, "/")
	if strings.HasPrefix(value, "{") {
		return slices.ContainsFunc([]string{`"Addr"`, `"addr"`, `"address"`, `"endpoints"`, `"nodes"`}, func(name string) bool {
			return strings.Contains(value, name)
		})
	}
	scheme, rest, found := strings.Cut(value, ":")
	if found && slices.Contains([]string{"grpc", "grpcs", "dns", "passthrough", "unix", "etcd"}, scheme) && strings.HasPrefix(rest, "/") {
		return true
	}
	for part := range strings.SplitSeq(value, ",") {
		if !resemblesAddress(strings.TrimSpace(part)) {
			return false
		}
	}
	return true
}

// resemblesAddress reports whether a text is an IP address alone, a port alone, or a host and a number that may be no port.
func resemblesAddress(text string) bool {
	if net.ParseIP(strings.Trim(text, "[]")) != nil {
		return true
	}
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		return false
	}
	_, err := strconv.Atoi(text[colon+1:])
	return err == nil && colon == 0 || (err == nil || colon == len(text)-1) && IsAddress(text[:colon]+":1")
}
