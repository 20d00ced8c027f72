// Package advertise finds the address that a server announces, and warns if
// only this host can dial it.
package advertise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// EnvName names the environment variable with the address that servers
// announce.
const EnvName = "GRPC_ADVERTISE_ADDR"

// remedy is the part of errors and warnings that says what to do.
const remedy = "set another address by WithAdvertiseAddress or " + EnvName

// lookupTimeout bounds the search for the local address, which may look up
// etcd's names in DNS.
const lookupTimeout = 2 * time.Second

// Config has the sources of a server's address.
type Config struct {
	// what WithAdvertiseAddress sets: host:port, a host, or a network in which
	// this host has one address
	Option string

	Env  string   // the same from the environment variable EnvName
	Etcd []string // the endpoints of the etcd client

	// the network of the listener's net.Addr, such as "tcp" or "unix"; "" if
	// unknown
	Network string

	// Local returns the local address of the route to addr, host:port. If Local
	// is nil, the system's routes are used.
	Local func(ctx context.Context, network, addr string) (netip.Addr, error)
}

// Address returns the address to announce for a server that listens on listen,
// the text of its net.Addr. It uses the first of these: Option, Env, listen if
// that names one host, and the local address of the route to etcd with the port
// of listen. warning says that other hosts cannot dial the address, or is "".
// An error may be [ErrUnknown].
func (c Config) Address(
	ctx context.Context,
	listen string,
) (addr, warning string, err error) {
	source := "WithAdvertiseAddress"
	given := c.Option
	if given == "" {
		source = EnvName
		given = c.Env
	}

	if given != "" {
		var host, port string

		found, err := inNetwork(given, net.Interfaces, (*net.Interface).Addrs)
		if err == nil {
			host, port, err = withListenerPort(found, listen)
		}

		if err != nil {
			return "", "", fmt.Errorf("etcd: %s: %w", source, err)
		}

		return net.JoinHostPort(host, port), c.warning(source, host), nil
	}

	host, port, err := c.listener(ctx, listen)
	if err != nil {
		return "", "", fmt.Errorf("etcd: no address to advertise: %w; %s", err, remedy)
	}

	addr = net.JoinHostPort(host, port)
	if addr != listen && isLoopback(host) {
		return addr, fmt.Sprintf(
			"etcd is reached over loopback, and only this host can dial %s; %s if callers are on others",
			host, remedy), nil
	}

	return addr, c.warning("the listener", host), nil
}

// warning returns a warning if other hosts cannot dial host, unless all known
// endpoints of etcd are loopback. Otherwise it returns "".
func (c Config) warning(source, host string) string {
	elsewhere := slices.ContainsFunc(hostPorts(c.Etcd), func(target string) bool {
		// "" if the etcd client cannot dial the target
		host, _, _ := net.SplitHostPort(target)
		return host != "" && !isLoopback(host)
	})
	if !isLoopback(host) || !elsewhere {
		return ""
	}

	return fmt.Sprintf(
		"%s: only this host can dial %s, but etcd is on another host; %s if callers are, too",
		source, host, remedy)
}

// EnvIsFullAddress reports whether the address to announce is host:port from
// Env, which only one server can use.
func (c Config) EnvIsFullAddress() bool {
	_, _, err := net.SplitHostPort(c.Env)
	return c.Option == "" && err == nil
}

// inNetwork returns addr itself or, if addr is a network such as 10.0.0.0/8,
// the host's only address in it that can be announced. Addresses of interfaces
// that are down do not count.
func inNetwork(
	addr string,
	interfaces func() ([]net.Interface, error),
	addrsOf func(*net.Interface) ([]net.Addr, error),
) (string, error) {
	_, network, err := net.ParseCIDR(addr)
	if err != nil {
		return addr, nil
	}

	var own []net.Addr

	all, err := interfaces()
	for _, i := range all {
		if i.Flags&net.FlagRunning == 0 { // FlagUp is also set without a carrier
			continue
		}

		addrs, failed := addrsOf(&i)
		own = append(own, addrs...)
		err = errors.Join(err, failed)
	}

	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnknown, err)
	}

	var in []string
	for _, a := range own { // such as 10.0.0.7/24
		p, err := netip.ParsePrefix(a.String())
		ip := p.Addr().String()

		// several interfaces may have it
		if err == nil && announceable(p.Addr(), network) && !slices.Contains(in, ip) {
			in = append(in, ip)
		}
	}

	switch len(in) {
	case 0:
		return "", fmt.Errorf(
			"%w: none of the addresses %.500s of interfaces that are up can be announced for %s",
			ErrUnknown, fmt.Sprint(own), network)

	case 1:
		return in[0], nil
	}

	return "", fmt.Errorf(
		"this host has several addresses in %s, %.500s: name one, or a smaller network",
		network, fmt.Sprint(in))
}

// announceable reports whether an address can be announced for a network. A
// loopback address can only be announced for a loopback network.
func announceable(ip netip.Addr, network *net.IPNet) bool {
	return network.Contains(ip.AsSlice()) &&
		undialable(ip) == "" &&
		ip.IsLoopback() == network.IP.IsLoopback()
}

// withListenerPort splits addr, and checks it. If addr has no port, it returns
// the port of listen.
func withListenerPort(addr, listen string) (host, port string, err error) {
	if endpoint.CheckAddr(addr, true) != nil && endpoint.CheckAddr(addr, false) == nil {
		_, port, err := net.SplitHostPort(listen)
		if err != nil {
			return "", "", fmt.Errorf(
				"address %q has no port, and neither has the listener's, %q: give host:port",
				addr, listen)
		}

		addr = net.JoinHostPort(strings.Trim(addr, "[]"), port)
	}

	err = cmp.Or(endpoint.CheckAddr(addr, true), Check(addr))
	if err != nil {
		return "", "", err
	}

	return net.SplitHostPort(addr)
}

// listener splits a listener's address. If the listener is on all addresses,
// the host is the local address of the route to etcd.
func (c Config) listener(
	ctx context.Context,
	listen string,
) (host, port string, err error) {
	// The address of a Unix socket may be a path, abstract, or unnamed.
	if strings.HasPrefix(c.Network, "unix") ||
		strings.HasPrefix(listen, "@") ||
		strings.Contains(listen, "/") {
		return "", "", fmt.Errorf(
			"the server listens on a Unix socket, %q, which callers on other hosts cannot dial: listen on TCP, or name a TCP address that leads to the socket",
			listen)
	}

	host, port, err = net.SplitHostPort(listen)
	if err != nil {
		return "", "", fmt.Errorf("the listener's address %q is not host:port", listen)
	}

	if !servicekey.IsPort(port) {
		return "", "", fmt.Errorf(
			"the listener's address %q has no port from 1 to 65535", listen)
	}

	ip, err := netip.ParseAddr(host)
	if host == "" || err == nil && ip.Unmap().IsUnspecified() {
		network := "udp"
		if ip.Unmap().Is4() {
			network = "udp4" // 0.0.0.0 does not accept IPv6
		}

		local, err := c.towardsEtcd(ctx, network)

		return local.String(), port, err
	}

	if why := undialable(ip); err == nil && why != "" {
		return "", "", fmt.Errorf("the listener's address %q: nobody can dial %s: %s",
			listen, host, why)
	}

	if err := endpoint.CheckAddr(listen, true); err != nil {
		return "", "", fmt.Errorf("the listener's %w", err)
	}

	return host, port, nil
}

// towardsEtcd returns the local address of the route to etcd.
func (c Config) towardsEtcd(ctx context.Context, network string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()

	local := c.Local
	if local == nil {
		local = localAddr
	}

	targets := hostPorts(c.Etcd)
	if len(targets) == 0 {
		return netip.Addr{}, errors.New(
			"the server listens on all addresses of this host, and the etcd client has no TCP endpoint that shows which one to announce")
	}

	routes := make([]route, len(targets))

	var wg sync.WaitGroup
	for i, target := range targets {
		wg.Go(func() {
			addr, err := local(ctx, network, target)
			routes[i] = route{target, addr, err}
		})
	}

	wg.Wait()

	return choose(routes)
}

// Check returns an error if no host can dial an address. It does not check the
// syntax.
func Check(addr string) error {
	if addr == "" {
		return errors.New("the endpoint has no address")
	}

	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]") // in EndpointJSON, addr may lack a port
	}

	why := ""
	if ip, err := netip.ParseAddr(host); err == nil {
		why = undialable(ip)
	} else if _, err := strconv.ParseUint(host, 10, 64); err == nil {
		why = "it is a number"
	}

	if why != "" {
		return fmt.Errorf(
			"address %q: nobody can dial %s: %s: name an address of this host", addr,
			host, why)
	}

	return nil
}

// hostPorts returns the etcd client's endpoints, which may be URLs, as
// host:port. It omits Unix sockets.
func hostPorts(endpoints []string) (all []string) {
	for _, host := range endpoints {
		if strings.HasPrefix(host, "unix:") || strings.HasPrefix(host, "unixs:") {
			continue
		}

		if strings.Contains(host, "://") {
			u, err := url.Parse(host)
			if err != nil {
				continue // the etcd client cannot dial it, either
			}

			host = u.Host
		}

		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), "2379")
		}

		all = append(all, host)
	}

	return all
}

// localAddr returns the local address of the route to addr. It sends no packet,
// except to look up a name.
func localAddr(ctx context.Context, network, addr string) (netip.Addr, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()

	return netip.MustParseAddrPort(conn.LocalAddr().String()).Addr(), nil
}
