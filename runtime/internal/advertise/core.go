package advertise

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ErrUnknown is the error of an address that may be found later: the network is not up, or a name cannot be looked up.
var ErrUnknown = errors.New("this host's address on the way to etcd is not known yet")

// candidate is an address that a server could announce, before the routes of this host are known.
type candidate struct {
	source string // who gives it, for warnings
	host   string // "": any address of this host that others can dial
	port   string
	family family // of that address
}

// family restricts the addresses at which a listener is reached.
type family int

const (
	anyFamily family = iota
	ipv4
	ipv6
)

// route is the way from this host to a target.
type route struct {
	target  string     // host:port
	host    string     // of target
	local   netip.Addr // the address that traffic leaves from
	err     error      // there is no way, or it is not known
	unknown bool       // which of these, too, as the host cannot be looked up
}

// needsRoutes reports whether decide needs the routes to etcd and the default routes.
func (c candidate) needsRoutes() bool { return c.host == "" || isLoopback(c.host) }

// decide returns the host to announce, given the routes to etcd's endpoints and the default routes. The warning
// says why other hosts may not be able to dial it.
func (c candidate) decide(etcd, defaults []route) (host, warning string, err error) {
	switch {
	case c.host == "":
		return c.find(etcd, defaults)
	case isLoopback(c.host) && slices.ContainsFunc(etcd, func(r route) bool { return !r.loopback() }):
		return c.host, fmt.Sprintf("%s: only this host can dial %s, and etcd is on another", c.source, c.host), nil
	default:
		return c.host, linkLocal(c.host), nil
	}
}

// find returns the host to announce for a listener on all addresses of this host: the local address of the
// route to etcd if it is not loopback, else the default route's, else loopback. The way to etcd must be known by then.
func (c candidate) find(etcd, defaults []route) (host, warning string, err error) {
	if to := slices.IndexFunc(etcd, route.leadsOut); to >= 0 {
		local := etcd[to].local.Unmap()
		return local.String(), strings.Join(nonEmpty(linkLocal(local.String()), ambiguous(etcd[to:])), "; "), nil
	}
	to := slices.IndexFunc(defaults, route.leadsOut)
	elsewhere := len(etcd) > 0 && !slices.ContainsFunc(etcd, route.loopback)
	if elsewhere && (to < 0 || slices.ContainsFunc(etcd, func(r route) bool { return r.unknown })) {
		errs := make([]error, len(etcd))
		for i, r := range etcd {
			errs[i] = r.cause()
		}
		return "", "", fmt.Errorf("%w: %w", ErrUnknown, errors.Join(errs...))
	}
	if to >= 0 {
		local := defaults[to].local.Unmap().String()
		if elsewhere {
			warning = fmt.Sprintf("no way to etcd is found: announcing %s, the default route's", local)
		}
		return local, strings.Join(nonEmpty(linkLocal(local), warning), "; "), nil
	}
	host = c.loopback(etcd)
	return host, fmt.Sprintf("etcd is reached over loopback, and there is no default route: announcing %s, which only this host can dial", host), nil
}

// loopback returns a loopback address that the listener takes, the route's to etcd if that has one.
func (c candidate) loopback(etcd []route) string {
	for _, r := range etcd {
		if r.err == nil && r.local.IsLoopback() {
			return r.local.Unmap().String()
		}
	}
	if c.family == ipv6 {
		return "::1"
	}
	return "127.0.0.1"
}

// ambiguous warns of routes that leave from another address than the first route. Routes of another family do
// not count, for a host with both families has two addresses.
func ambiguous(etcd []route) string {
	first := etcd[0]
	for _, r := range etcd[1:] {
		if r.leadsOut() && r.local.Unmap() != first.local.Unmap() && r.local.Unmap().Is4() == first.local.Unmap().Is4() {
			return fmt.Sprintf("this host reaches etcd from different addresses, %s (to %s) and %s (to %s): announcing the first",
				first.local.Unmap(), first.target, r.local.Unmap(), r.target)
		}
	}
	return ""
}

// leadsOut reports whether others could dial the address that traffic to the target leaves from.
func (r route) leadsOut() bool {
	ip := r.local.Unmap()
	return r.err == nil && ip.IsValid() && !ip.IsLoopback() && undialable(ip) == ""
}

// cause returns why a route does not lead out.
func (r route) cause() error {
	if r.err != nil {
		return r.err
	}
	return fmt.Errorf("to %s traffic leaves from %s", r.target, r.local)
}

// loopback reports whether the target is this host itself.
func (r route) loopback() bool {
	return r.err == nil && r.local.IsLoopback() || isLoopback(r.host)
}

// isLoopback reports whether a host, a name or an address, leads every host to itself.
func isLoopback(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	return name == "localhost" || strings.HasPrefix(name, "localhost.") || strings.HasSuffix(name, ".localhost")
}

// linkLocal warns of an IPv4 address that only hosts on its link can dial.
func linkLocal(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLinkLocalUnicast() {
		return fmt.Sprintf("%s is link-local: only hosts on the same link can dial it", host)
	}
	return ""
}

// undialable returns why nobody can dial an address, "" if they can.
func undialable(ip netip.Addr) string {
	ip = ip.Unmap()
	switch {
	case ip.IsUnspecified():
		return "it is no address of a host"
	case ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "it is the address of many"
	case ip.Zone() != "" || ip.Is6() && ip.IsLinkLocalUnicast():
		return "it is link-local, and means nothing on another host"
	}
	return ""
}

func nonEmpty(texts ...string) []string {
	return slices.DeleteFunc(texts, func(text string) bool { return text == "" })
}
