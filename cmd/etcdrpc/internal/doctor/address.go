package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// ipOf returns the IP address in the text of an address, or that of any host for localhost, which each host takes for itself. It
// is not valid for other names.
func ipOf(addr string) netip.Addr {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if slices.Contains([]string{"localhost", "localhost.localdomain", "ip6-localhost"}, name) || strings.HasSuffix(name, ".localhost") {
		return netip.IPv4Unspecified()
	}
	ip, _ := netip.ParseAddr(host)
	return ip.Unmap()
}

// isNobodys reports whether no host has an address to itself: a listener's or a group's.
func isNobodys(ip netip.Addr) bool {
	return ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// IsLocal reports whether an address means the host of whoever calls it.
func IsLocal(addr string) bool {
	ip := ipOf(addr)
	return ip.IsLoopback() || isNobodys(ip)
}

// oneHost reports whether everything that is known of is on one host: etcd and all instances. Then a loopback address is
// right, as it is on a developer's machine.
func (p *patient) oneHost() bool {
	elsewhere := func(addr string) bool { return !IsLocal(addr) && !ipOf(addr).IsLinkLocalUnicast() }
	return !slices.ContainsFunc(p.etcd, elsewhere) && !slices.ContainsFunc(p.services, func(s *survey.Service) bool {
		return slices.ContainsFunc(s.Instances, func(i survey.Instance) bool { return elsewhere(i.Addr) })
	})
}

// isMisleading reports whether callers of an address may reach another host than its instance's. Who skips that says that they do not.
func (p *patient) isMisleading(addr string) bool {
	ip := ipOf(addr)
	return !p.skips(KindLocal) && (ip.IsLinkLocalUnicast() || isNobodys(ip) || ip.IsLoopback() && !p.alone)
}

// misleadingAddress finds the addresses that mean the host of whoever calls them.
func (x *subject) misleadingAddress() {
	for _, i := range x.Instances {
		if i.Leaving() || !x.isMisleading(i.Addr) {
			continue
		}
		means := "the caller's own host"
		if ipOf(i.Addr).IsLinkLocalUnicast() {
			means = "a host on the caller's own link"
		}
		x.report(KindLocal, fmt.Sprintf("the address %s means %s: clients elsewhere call something else there, or nothing", i.Addr, means),
			"have its server advertise an address that callers reach: servers of this project find out theirs, or are told by GRPC_ADVERTISE_ADDR", i.Entry.Key)
	}
}
