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
	return s.Config != nil || slices.ContainsFunc(s.Instances, s.isServers) || slices.ContainsFunc(s.Malformed, s.isServersFault)
}

// isServers reports whether a well-formed entry is a server's: it is named by an address, or on a lease that it is not a
// lock's, or in the JSON of a framework. JSON that only resembles one may be a setting.
func (s *Service) isServers(i Instance) bool {
	switch {
	case IsAddress(i.Instance):
		return true
	case i.Layout.JSON() && WriterOf(s.Key, i.Entry) != "" && !s.IsMapped(i):
		return true
	}
	return i.Entry.Lease != 0 && !isLock(i.Entry)
}

// isServersFault reports whether a malformed entry is a server's: it is named by an address or by its lease, or in the
// JSON of a framework, or on a lease with something that was to be an address.
func (s *Service) isServersFault(i Instance) bool {
	e := i.Entry
	switch {
	case IsAddress(i.Instance), WriterOf(s.Key, e) != "":
		return true
	case e.Lease == 0 || isLock(e):
		return false
	}
	return strings.HasSuffix(e.Key, strconv.FormatInt(e.Lease, 10)) || wantsAddress(string(e.Value))
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
		return !strings.HasPrefix(value, "{") && !wantsAddress(value) && !s.isServersFault(i)
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
