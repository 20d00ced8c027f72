package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// nearness says for whom an address means the same host.
type nearness int

const (
	farAddress      nearness = iota // for all
	linkAddress                     // for those on one link
	loopbackAddress                 // for those on one host
	nowhereAddress                  // for nobody: a listener's or a group's address, or a name that each host takes for itself
)

// nearnessOf judges an address by its text. A name other than localhost is far.
func nearnessOf(addr string) nearness {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if slices.Contains([]string{"localhost", "localhost.localdomain", "ip6-localhost"}, name) || strings.HasSuffix(name, ".localhost") {
		return nowhereAddress
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return farAddress
	}
	switch ip = ip.Unmap(); {
	case ip.IsUnspecified(), ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return nowhereAddress
	case ip.IsLoopback():
		return loopbackAddress
	case ip.IsLinkLocalUnicast():
		return linkAddress
	}
	return farAddress
}

// IsLocal reports whether an address means the host of whoever calls it.
func IsLocal(addr string) bool {
	n := nearnessOf(addr)
	return n == loopbackAddress || n == nowhereAddress
}

// oneHost reports whether everything that is known of is on one host: etcd and all instances. Then a loopback address is
// right, as it is on a developer's machine.
func (p *patient) oneHost() bool {
	far := func(addr string) bool { return nearnessOf(addr) == farAddress }
	return !slices.ContainsFunc(p.etcd, far) && !slices.ContainsFunc(p.services, func(s *survey.Service) bool {
		return slices.ContainsFunc(s.Instances, func(i survey.Instance) bool { return far(i.Addr) })
	})
}

// isMisleading reports whether callers of an address may reach another host than its instance's.
func (p *patient) isMisleading(addr string) bool {
	n := nearnessOf(addr)
	return n != farAddress && (n != loopbackAddress || !p.alone)
}

// reportMisleading tells of an address that means the host of whoever calls it.
func (p *patient) reportMisleading(i *survey.Instance) {
	means := "the caller's own host"
	if nearnessOf(i.Addr) == linkAddress {
		means = "a host on the caller's own link"
	}
	p.report(KindLocal, fmt.Sprintf("the address %s means %s: clients elsewhere call something else there, or nothing", i.Addr, means),
		"have its server advertise an address that callers reach: servers of this project find out theirs, or are told by GRPC_ADVERTISE_ADDR", i.Entry.Key)
}
