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
	switch {
	case name == "localhost", name == "localhost.localdomain", name == "ip6-localhost", strings.HasSuffix(name, ".localhost"):
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
	if slices.ContainsFunc(p.etcd, far) {
		return false
	}
	return !slices.ContainsFunc(p.services, func(s *survey.Service) bool {
		return slices.ContainsFunc(s.Instances, func(i survey.Instance) bool { return far(i.Addr) })
	})
}

// isMisleading reports whether callers of an address may reach another host than its instance's.
func (p *patient) isMisleading(addr string) bool {
	switch nearnessOf(addr) {
	case farAddress:
		return false
	case loopbackAddress:
		return !p.alone
	}
	return true
}

// checkAddress finds an address that means the host of whoever calls it.
func (p *patient) checkAddress(i *survey.Instance) []Finding {
	if !p.isMisleading(i.Addr) {
		return nil
	}
	means := "the caller's own host"
	if nearnessOf(i.Addr) == linkAddress {
		means = "a host on the caller's own link"
	}
	return []Finding{newFinding(KindLocal, []string{p.full(i.Entry.Key)},
		fmt.Sprintf("the address %s means %s: clients elsewhere call something else there, or nothing", i.Addr, means),
		"have its server advertise an address that callers reach: servers of this project find out theirs, or are told by GRPC_ADVERTISE_ADDR")}
}

// etcdHosts returns the endpoints of etcd without their schemes. A Unix socket is on this host.
func etcdHosts(endpoints []string) (hosts []string) {
	for _, e := range endpoints {
		if strings.HasPrefix(e, "unix") {
			continue
		}
		if _, rest, ok := strings.Cut(e, "://"); ok {
			e = strings.Trim(rest, "/")
		}
		hosts = append(hosts, e)
	}
	return hosts
}
