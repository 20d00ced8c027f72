// Package plaintext finds etcd clients that send their password without TLS.
package plaintext

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcdcause"
)

// Exposed returns the hosts, with their ports, that an etcd client reaches over a network without TLS. Loopback addresses and
// Unix sockets do not count. withTLS reports whether the client has a TLS configuration. Names are not resolved.
func Exposed(endpoints []string, withTLS bool) []string {
	if len(endpoints) == 0 || Secured(endpoints[0], withTLS) {
		return nil
	}
	return Remote(endpoints)
}

// Remote returns the hosts, with their ports, that an etcd client reaches over a network.
func Remote(endpoints []string) (remote []string) {
	for _, e := range etcdcause.Shown(endpoints) {
		if addr := address(e); addr != "" && !Local(addr) {
			remote = append(remote, addr)
		}
	}
	return remote
}

// Secured reports whether a client with this first endpoint uses TLS. That endpoint decides for
// all: https:// requires TLS, http:// forbids it, and otherwise the configuration decides.
func Secured(first string, withTLS bool) bool {
	scheme, _, _ := strings.Cut(first, ":")
	switch strings.ToLower(scheme) {
	case "https", "unixs":
		return true
	case "http":
		return false
	}
	return withTLS
}

// address returns the host:port of an endpoint, "" if the endpoint is a Unix socket.
func address(endpoint string) string {
	if strings.HasPrefix(endpoint, "unix:") || strings.HasPrefix(endpoint, "unixs:") {
		return ""
	}
	if !strings.Contains(endpoint, "://") {
		return endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return endpoint
	}
	if u.Host == "" { // gRPC's own form, such as dns:///etcd.example:2379
		return strings.TrimPrefix(u.Path, "/")
	}
	return u.Host
}

// Local reports whether the text of addr names this host.
func Local(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.Unmap().IsLoopback() || ip.Unmap().IsUnspecified())
}
