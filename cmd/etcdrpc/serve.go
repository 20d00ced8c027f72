package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// servePages serves until ctx ends, and then closes all connections.
func servePages(ctx context.Context, listener net.Listener, pages http.Handler, notes io.Writer) error {
	server := &http.Server{
		Handler: localOnly(listener.Addr(), pages), ErrorLog: log.New(notes, "etcdrpc: ", 0), MaxHeaderBytes: 32 << 10,
		ReadTimeout: 15 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })() // the listener is closed in any case
	if err := server.Serve(listener); ctx.Err() == nil || !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve at %s: %w", listener.Addr(), err)
	}
	return nil
}

// localOnly has a listener on loopback reject requests whose Host header does not name this host, against DNS rebinding: a web page
// of another site could resolve its own name to an address of this host and read the responses. At other addresses any name is allowed.
func localOnly(at net.Addr, handler http.Handler) http.Handler {
	if !isLocal(at.String()) {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLocal(r.Host) {
			http.Error(w, "unknown Host header: use localhost, or the address", http.StatusMisdirectedRequest)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// isLocal reports whether a host, with or without a port, is localhost or a loopback address, which cannot be rebound.
func isLocal(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(name, "localhost")
}
