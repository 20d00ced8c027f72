package runtime

import (
	"fmt"
	"net/netip"
)

// allowedPrefixes are the networks that addresses from etcd may be in; nil allows none.
type allowedPrefixes []netip.Prefix

// newAllowed copies prefixes. A prefix of IPv4 addresses mapped into IPv6 stands for the IPv4 addresses.
func newAllowed(prefixes []netip.Prefix) (allowedPrefixes, error) {
	allowed := make(allowedPrefixes, len(prefixes))
	for i, p := range prefixes {
		if !p.IsValid() {
			return nil, fmt.Errorf("prefix %d of %d is %v: make prefixes with netip.MustParsePrefix", i+1, len(prefixes), p)
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		allowed[i] = p
	}
	return allowed, nil
}

// check returns nil if an address, as host:port, may be dialed, and else an error that says why not. An IPv4 address
// mapped into IPv6 counts as the IPv4 address, as which it is dialed.
func (a allowedPrefixes) check(addr string) error {
	at, err := netip.ParseAddrPort(addr)
	ip := at.Addr().Unmap()
	switch {
	case err != nil:
		return notAllowed(addr, "its host is no IP address: a name may lead anywhere, so names are not allowed")
	case ip.Zone() != "":
		return notAllowed(addr, "its host has a zone, which is another network on each machine")
	}
	for _, p := range a {
		if p.Contains(ip) {
			return nil
		}
	}
	return notAllowed(addr, "its host is in none of the allowed prefixes")
}

func notAllowed(addr, why string) error {
	return fmt.Errorf("address %.80q is not allowed: %s", addr, why)
}
