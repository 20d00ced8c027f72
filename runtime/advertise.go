package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// advertiseEnv names the environment variable with the address that servers announce.
const advertiseEnv = "GRPC_ADVERTISE_ADDR"

// lookupTimeout bounds the search for the local address, which may ask DNS for etcd's.
const lookupTimeout = 2 * time.Second

// advertiser finds the address under which callers reach a server.
type advertiser struct {
	option string   // WithAdvertiseAddress
	env    string   // GRPC_ADVERTISE_ADDR
	etcd   []string // the endpoints of the etcd client
	// local finds the address of this host that traffic to host:port leaves from.
	local func(ctx context.Context, network, addr string) (netip.Addr, error)
}

// address decides for a server that listens on listen, a net.Addr's text: the option; else the
// environment; else listen, where it is one address; else the local address that this host uses to
// reach etcd, with the port of listen.
func (a *advertiser) address(ctx context.Context, listen string) (string, error) {
	for _, given := range []struct{ name, addr string }{{"WithAdvertiseAddress", a.option}, {advertiseEnv, a.env}} {
		if given.addr == "" {
			continue
		}
		addr, err := completed(given.addr, listen)
		if err != nil {
			return "", fmt.Errorf("etcd: %s: %w", given.name, err)
		}
		return addr, nil
	}
	addr, err := a.fromListener(ctx, listen)
	if err != nil {
		return "", fmt.Errorf("etcd: no address to advertise: %w; set one by WithAdvertiseAddress or %s", err, advertiseEnv)
	}
	return addr, nil
}

// completed is a given address, with the port of listen where it has none.
func completed(addr, listen string) (string, error) {
	if endpoint.CheckAddr(addr, true) != nil && endpoint.CheckAddr(addr, false) == nil {
		_, port, err := net.SplitHostPort(listen)
		if err != nil {
			return "", fmt.Errorf("address %q has no port, and neither has the listener's, %q", addr, listen)
		}
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), port)
	}
	if err := endpoint.CheckAddr(addr, true); err != nil {
		return "", err
	}
	return addr, checkAdvertised(addr)
}

func (a *advertiser) fromListener(ctx context.Context, listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("the listener's address %q is not host:port", listen)
	}
	if port == "0" || port == "" {
		return "", fmt.Errorf("the listener's address %q has no port", listen)
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && ip.IsUnspecified():
	case err == nil && ip.Zone() != "":
		return "", fmt.Errorf("the listener's address %q means nothing on another host", listen)
	default:
		addr := net.JoinHostPort(host, port)
		return addr, endpoint.CheckAddr(addr, true)
	}
	network := "udp"
	if ip.Is4() {
		network = "udp4" // 0.0.0.0 hears no IPv6
	}
	local, err := a.towardsEtcd(ctx, network)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(local.String(), port), nil
}

// anywhere are addresses of documentation: they belong to nobody, and lead to the local address of
// the default route when no name of etcd's can be looked up.
var anywhere = []string{"192.0.2.1:2379", "[2001:db8::1]:2379"}

// towardsEtcd finds this host's address on the way to etcd.
func (a *advertiser) towardsEtcd(ctx context.Context, network string) (netip.Addr, error) {
	bounded, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var errs []error
	targets := hostPorts(a.etcd)
	for i, target := range append(targets, anywhere...) {
		if i == len(targets) {
			bounded = ctx // no name to look up from here on
		}
		ip, err := a.local(bounded, network, target)
		if err == nil && ip.IsValid() && !ip.IsUnspecified() && ip.Zone() == "" {
			return ip.Unmap(), nil
		}
		errs = append(errs, err)
	}
	return netip.Addr{}, fmt.Errorf("this host has no address on the way to etcd: %w", errors.Join(errs...))
}

// hostPorts are the etcd client's endpoints, which may be URLs, without those that are sockets.
func hostPorts(endpoints []string) []string {
	var all []string
	for _, e := range endpoints {
		host := e
		if strings.Contains(e, "://") {
			u, err := url.Parse(e)
			if err != nil || strings.HasPrefix(u.Scheme, "unix") {
				continue
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

// localAddr asks the kernel for the way to addr. No packet is sent, save to look a name up.
func localAddr(ctx context.Context, network, addr string) (netip.Addr, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return netip.MustParseAddrPort(conn.LocalAddr().String()).Addr(), nil
}
