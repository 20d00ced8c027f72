// Package allow decides which addresses a process may dial, whoever writes them to etcd.
package allow

import (
	"errors"
	"fmt"
	"net/netip"
)

// List holds the networks that addresses may be in. It is immutable. The zero value allows none.
type List struct{ prefixes []netip.Prefix }

// New returns a list of prefixes. A prefix of IPv4 addresses mapped into IPv6 stands for the IPv4 addresses.
func New(prefixes []netip.Prefix) (List, error) {
	l := List{make([]netip.Prefix, len(prefixes))}
	for i, p := range prefixes {
		if !p.IsValid() {
			return List{}, fmt.Errorf("prefix %d of %d is %v: make prefixes with netip.MustParsePrefix", i+1, len(prefixes), p)
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		l.prefixes[i] = p
	}
	return l, nil
}

var (
	errName = errors.New("its host is no IP address: a name may lead anywhere, so names are not allowed")
	errZone = errors.New("its host has a zone, which is another network on each machine")
)

// Check returns nil if an address, as host:port, may be dialed, and else an error that says why not. An IPv4 address
// mapped into IPv6 counts as the IPv4 address, as which it is dialed.
func (l List) Check(addr string) error {
	at, err := netip.ParseAddrPort(addr)
	ip := at.Addr().Unmap()
	switch {
	case err != nil:
		return notAllowed(addr, errName)
	case ip.Zone() != "":
		return notAllowed(addr, errZone)
	}
	for _, p := range l.prefixes {
		if p.Contains(ip) {
			return nil
		}
	}
	return notAllowed(addr, errors.New("its host is in none of the allowed prefixes"))
}

func notAllowed(addr string, why error) error {
	return fmt.Errorf("address %.80q is not allowed: %w", addr, why)
}
