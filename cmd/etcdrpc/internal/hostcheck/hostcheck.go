// Package hostcheck rejects requests whose Host header does not name the server, against DNS rebinding: a web page of another
// site could resolve its own name to an address of this host and read the responses.
package hostcheck

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Allowed reports whether a Host header names a server: by one of names, localhost or an IP address, which cannot be rebound. If the
// server is on loopback only, other addresses do not name it.
func Allowed(host string, names []string, loopback bool) bool {
	name := hostname(host)
	if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(hostname(n), name) }) {
		return true
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Unmap().IsLoopback() || !loopback
	}
	return strings.EqualFold(name, "localhost")
}

// hostname returns a host without its port and brackets.
func hostname(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
}

// Loopback reports whether a listener is on a loopback address.
func Loopback(at net.Addr) bool {
	addr, err := netip.ParseAddrPort(at.String())
	return err == nil && addr.Addr().Unmap().IsLoopback()
}

// Only rejects requests to a loopback listener whose Host header does not name it. At other addresses any name is allowed.
func Only(at net.Addr, handler http.Handler) http.Handler {
	if !Loopback(at) {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !Allowed(r.Host, nil, true) {
			http.Error(w, "unknown Host header: use localhost, or the address", http.StatusMisdirectedRequest)
			return
		}
		handler.ServeHTTP(w, r)
	})
}
