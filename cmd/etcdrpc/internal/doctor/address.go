package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
)

// ipOf returns the IP address of an address, and the unspecified address for localhost. It is invalid for other host names.
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

// isWildcardOrGroup reports whether an address belongs to no single host: unspecified, multicast or broadcast.
func isWildcardOrGroup(ip netip.Addr) bool {
	return ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// IsLocal reports whether an address refers to the caller's own host.
func IsLocal(addr string) bool {
	ip := ipOf(addr)
	return ip.IsLoopback() || isWildcardOrGroup(ip)
}

// isOneHost reports whether etcd and all instances are on one host. Then loopback addresses are correct, as on a developer's
// machine.
func (p *examination) isOneHost() bool {
	elsewhere := func(addr string) bool { return !IsLocal(addr) && !ipOf(addr).IsLinkLocalUnicast() }
	return !slices.ContainsFunc(p.etcd, elsewhere) && !slices.ContainsFunc(p.services, func(s *inventory.Service) bool {
		return slices.ContainsFunc(s.Instances, func(i inventory.Instance) bool { return elsewhere(i.Addr) })
	})
}

// isMisleading reports whether callers of an address may reach another host. It is false if this kind is skipped.
func (p *examination) isMisleading(addr string) bool {
	ip := ipOf(addr)
	return !p.skips(KindLocal) && (ip.IsLinkLocalUnicast() || isWildcardOrGroup(ip) || ip.IsLoopback() && !p.oneHost)
}

// misleadingAddress finds addresses that refer to the caller's own host.
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
			"have its server advertise an address that callers reach: servers of this project detect theirs, or take it from GRPC_ADVERTISE_ADDR", i.Entry.Key)
	}
}
