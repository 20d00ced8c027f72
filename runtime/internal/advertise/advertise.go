// Package advertise finds the address that a server announces, and warns if other hosts may not be able to dial
// it.
package advertise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// EnvName names the environment variable with the address that servers announce.
const EnvName = "GRPC_ADVERTISE_ADDR"

// remedy ends errors that there is no address.
const remedy = "set one by WithAdvertiseAddress or " + EnvName

// lookupTimeout bounds the search for the local address, which may ask DNS for etcd's.
const lookupTimeout = 2 * time.Second

// Config says where the address of a server comes from.
type Config struct {
	Option  string   // from WithAdvertiseAddress
	Env     string   // the value of the environment variable EnvName
	Etcd    []string // the endpoints of the etcd client
	Network string   // of the listener's net.Addr: "tcp", "unix" and so on; "": not known
	V6Only  bool     // the listener takes no IPv4: see [V6Only]

	// Local finds the address of this host that traffic to host:port leaves from; nil: by the system.
	Local func(ctx context.Context, network, addr string) (netip.Addr, error)
}

// Address returns the address to announce for a server that listens on listen, the text of its net.Addr. It is
// the option; else the environment variable; else listen, if it is one address; else the local address that
// this host uses to reach etcd, or the default route's if etcd is on loopback, with the port of listen. The
// warning says why other hosts may not be able to dial it; "" is none. An error may be [ErrUnknown].
func (c Config) Address(ctx context.Context, listen string) (addr, warning string, err error) {
	candidate, err := c.candidate(listen)
	if err != nil {
		return "", "", fmt.Errorf("etcd: %w", err)
	}
	var etcd, defaults []route
	if candidate.needsRoutes() {
		etcd, defaults = c.findRoutes(ctx, candidate.family)
	}
	host, warning, err := candidate.decide(etcd, defaults)
	if err != nil {
		return "", "", fmt.Errorf("etcd: no address to advertise: %w; %s", err, remedy)
	}
	if warning != "" {
		warning += "; set another by WithAdvertiseAddress or " + EnvName + " if callers cannot dial it"
	}
	return net.JoinHostPort(host, candidate.port), warning, nil
}

// Speaks reports whether the environment variable names the address of one server alone, for it has a port and decides.
func (c Config) Speaks() bool {
	_, _, err := net.SplitHostPort(c.Env)
	return c.Option == "" && err == nil
}

// candidate returns the address that is given or, without one, the listener's.
func (c Config) candidate(listen string) (candidate, error) {
	for _, given := range []struct{ source, addr string }{{"WithAdvertiseAddress", c.Option}, {EnvName, c.Env}} {
		if given.addr == "" {
			continue
		}
		host, port, err := withListenerPort(given.addr, listen)
		if err != nil {
			return candidate{}, fmt.Errorf("%s: %w", given.source, err)
		}
		return candidate{source: given.source, host: host, port: port}, nil
	}
	found, err := c.listener(listen)
	if err != nil {
		return candidate{}, fmt.Errorf("no address to advertise: %w", err)
	}
	return found, nil
}

// withListenerPort splits a given address, and adds the port of listen if it has none.
func withListenerPort(addr, listen string) (host, port string, err error) {
	if endpoint.CheckAddr(addr, true) != nil && endpoint.CheckAddr(addr, false) == nil {
		_, port, err := net.SplitHostPort(listen)
		if err != nil {
			return "", "", fmt.Errorf("address %q has no port, and neither has the listener's, %q: give host:port", addr, listen)
		}
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), port)
	}
	if err := endpoint.CheckAddr(addr, true); err != nil {
		return "", "", err
	}
	if err := Check(addr); err != nil {
		return "", "", err
	}
	return net.SplitHostPort(addr)
}

// listener returns the candidate that the address of a listener makes.
func (c Config) listener(listen string) (candidate, error) {
	if isSocket(c.Network, listen) {
		return candidate{}, fmt.Errorf("the server listens on a Unix socket, %q, which callers on other hosts cannot dial: "+
			"listen on TCP, or name a TCP address that leads to the socket by WithAdvertiseAddress or %s", listen, EnvName)
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return candidate{}, fmt.Errorf("the listener's address %q is not host:port; %s", listen, remedy)
	}
	if !servicekey.IsPort(port) {
		return candidate{}, fmt.Errorf("the listener's address %q has no port from 1 to 65535; %s", listen, remedy)
	}
	found := candidate{source: "the listener", host: host, port: port, family: c.family()}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && ip.Unmap().IsUnspecified():
		found.host = ""
		if ip.Unmap().Is4() {
			found.family = ipv4 // 0.0.0.0 takes no IPv6
		}
	case err == nil && undialable(ip) != "":
		return candidate{}, fmt.Errorf("the listener's address %q: nobody can dial %s: %s; %s", listen, host, undialable(ip), remedy)
	default:
		if err := endpoint.CheckAddr(listen, true); err != nil {
			return candidate{}, fmt.Errorf("the listener's %w; %s", err, remedy)
		}
	}
	return found, nil
}

// family returns the family that the listener takes.
func (c Config) family() family {
	switch {
	case c.V6Only || c.Network == "tcp6":
		return ipv6
	case c.Network == "tcp4":
		return ipv4
	}
	return anyFamily
}

// isSocket reports whether a listener's address is a Unix socket, which may be a path, abstract, or without a
// name.
func isSocket(network, listen string) bool {
	return strings.HasPrefix(network, "unix") || strings.HasPrefix(listen, "@") || strings.Contains(listen, "/")
}

// Check returns an error if nobody can dial an address. It does not check the syntax.
func Check(addr string) error {
	if addr == "" {
		return errors.New("the endpoint has no address")
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]") // a layout may do without a port
	}
	why := ""
	if ip, err := netip.ParseAddr(host); err == nil {
		why = undialable(ip)
	} else if _, err := strconv.ParseUint(host, 10, 64); err == nil {
		why = "it is a number"
	}
	if why != "" {
		return fmt.Errorf("address %q: nobody can dial %s: %s: name an address of this host", addr, host, why)
	}
	return nil
}

// anywhere holds addresses that are reserved for documentation. They are nobody's, so the default route leads
// to them.
var anywhere = []string{"192.0.2.1:2379", "[2001:db8::1]:2379"}

// findRoutes finds the routes to etcd's endpoints and the default routes, IPv4's first.
func (c Config) findRoutes(ctx context.Context, f family) (etcd, defaults []route) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	local := c.Local
	if local == nil {
		local = localAddr
	}
	targets := hostPorts(c.Etcd)
	all := make([]route, 0, len(targets)+len(anywhere))
	for _, target := range append(targets, anywhere...) {
		host, _, _ := net.SplitHostPort(target) // hostPorts made it
		all = append(all, route{target: target, host: host})
	}
	network := map[family]string{anyFamily: "udp", ipv4: "udp4", ipv6: "udp6"}[f]
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			all[i].local, all[i].err = local(ctx, network, all[i].target)
			all[i].unknown = lookupFailed(all[i].err)
		})
	}
	wg.Wait()
	return all[:len(targets)], all[len(targets):]
}

// lookupFailed reports whether an error leaves it open where a name leads to. That there is no such name does not.
func lookupFailed(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && !dns.IsNotFound || errors.Is(err, context.DeadlineExceeded)
}

// hostPorts returns the etcd client's endpoints, which may be URLs, as host:port. It leaves out Unix sockets.
func hostPorts(endpoints []string) []string {
	var all []string
	for _, e := range endpoints {
		if strings.HasPrefix(e, "unix:") || strings.HasPrefix(e, "unixs:") {
			continue
		}
		host := e
		if strings.Contains(e, "://") {
			u, err := url.Parse(e)
			if err != nil {
				continue // the etcd client cannot dial it, either
			}
			host = u.Host
		}
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), "2379")
			if _, _, err := net.SplitHostPort(host); err != nil {
				continue // neither
			}
		}
		all = append(all, host)
	}
	return all
}

// localAddr returns the local address of the route to addr. It sends no packet, except to look up a name.
func localAddr(ctx context.Context, network, addr string) (netip.Addr, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return netip.MustParseAddrPort(conn.LocalAddr().String()).Addr(), nil
}
