package advertise

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// ErrUnknown means that the address may be found later: the network is not up,
// or a name cannot be looked up.
var ErrUnknown = errors.New("this host's address is not known yet")

// route is a route from this host to a target.
type route struct {
	target string     // host:port
	local  netip.Addr // the source address of packets on the route
	err    error      // why the route is not known
}

// choose returns the local address of the first known route to another host or,
// without one, a known loopback address.
func choose(routes []route) (netip.Addr, error) {
	var loopback netip.Addr

	errs := make([]error, len(routes))
	for i, r := range routes {
		local := r.local.Unmap()
		switch {
		case r.err != nil:
			errs[i] = r.err
		case local.IsLoopback():
			loopback = local

		case undialable(local) != "":
			errs[i] = fmt.Errorf(
				"the route to %s has the local address %s, which other hosts cannot dial",
				r.target, local)

		default:
			return local, nil
		}
	}

	if loopback.IsValid() {
		return loopback, nil
	}

	return netip.Addr{}, fmt.Errorf("%w: %w", ErrUnknown, errors.Join(errs...))
}

// undialable returns why no host can dial an address, or "" if some host may be
// able to.
func undialable(ip netip.Addr) string {
	ip = ip.Unmap()
	switch {
	case ip.IsUnspecified():
		return "it is the unspecified address"
	case ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "it is a multicast or broadcast address"
	case ip.Zone() != "" || ip.Is6() && ip.IsLinkLocalUnicast():
		return "it is link-local, and has no meaning on other networks"
	}

	return ""
}

// isLoopback reports whether a host name or address is loopback.
func isLoopback(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}

	name := strings.TrimSuffix(strings.ToLower(host), ".")

	return name == "localhost" ||
		strings.HasPrefix(name, "localhost.") ||
		strings.HasSuffix(name, ".localhost")
}
