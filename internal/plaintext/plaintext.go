// Package plaintext finds etcd clients that send their password without TLS, and removes passwords from endpoints for display.
package plaintext

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Exposed returns the hosts, with their ports, that an etcd client reaches over a network without TLS. Loopback addresses and
// Unix sockets do not count. withTLS says whether the client has a TLS configuration. Names are not resolved.
func Exposed(endpoints []string, withTLS bool) []string {
	if len(endpoints) == 0 || Secured(endpoints[0], withTLS) {
		return nil
	}
	var exposed []string
	for _, e := range Shown(endpoints) {
		if addr := address(e); addr != "" && !local(addr) {
			exposed = append(exposed, addr)
		}
	}
	return exposed
}

// Shown returns the endpoints of an etcd client for display: without user and password, which etcd's client accepts in URLs and
// ignores. If an endpoint is not the URL of a host, Shown removes all text up to the last "@" except the scheme.
func Shown(endpoints []string) []string {
	shown := slices.Clone(endpoints)
	for i, e := range shown {
		if strings.HasPrefix(e, "unix") {
			continue // in the name of a socket, "@" has another meaning
		}
		start := 0
		if slashes := strings.Index(e, "//"); slashes >= 0 {
			start = slashes + len("//")
		}
		authority := e[start:]
		if u, err := url.Parse(e); err == nil && u.Host != "" {
			if end := strings.IndexAny(authority, "/?#"); end >= 0 {
				authority = authority[:end]
			}
		}
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			shown[i] = e[:start] + e[start+at+1:]
		}
	}
	return shown
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

// local reports whether the text of addr names this host.
func local(addr string) bool {
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
