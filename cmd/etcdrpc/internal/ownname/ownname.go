// Package ownname tells requests to a server by a name of its own from those of web pages of other sites. Such a page may
// have its own name resolve to an address of this host, and would then be shown what is served there.
package ownname

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Is reports whether a Host header names a server: by one of its names, by localhost, or by an address, which cannot be
// made to resolve to anything. Of a server at a loopback address alone, other addresses are no names.
func Is(host string, names []string, loopback bool) bool {
	name := bare(host)
	if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(bare(n), name) }) {
		return true
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Unmap().IsLoopback() || !loopback
	}
	return strings.EqualFold(name, "localhost")
}

// bare returns a host without the port and the brackets that may be about it.
func bare(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
}

// Loopback reports whether a listener's address is a loopback address.
func Loopback(at net.Addr) bool {
	addr, err := netip.ParseAddrPort(at.String())
	return err == nil && addr.Addr().Unmap().IsLoopback()
}

// Only has a handler at a loopback address answer requests by its own names alone. At another address it has any name.
func Only(at net.Addr, handler http.Handler) http.Handler {
	if !Loopback(at) {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !Is(r.Host, nil, true) {
			http.Error(w, "nothing is served by that name here: call it localhost, or by its address", http.StatusMisdirectedRequest)
			return
		}
		handler.ServeHTTP(w, r)
	})
}
