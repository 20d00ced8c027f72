package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/hostcheck"
)

// servePages serves until ctx ends, and then closes all connections.
func servePages(ctx context.Context, listener net.Listener, pages http.Handler, notes io.Writer) error {
	server := &http.Server{
		Handler: hostcheck.Only(listener.Addr(), pages), ErrorLog: log.New(notes, "etcdrpc: ", 0), MaxHeaderBytes: 32 << 10,
		ReadTimeout: 15 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })() // the listener is closed in any case
	if err := server.Serve(listener); ctx.Err() == nil || !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve at %s: %w", listener.Addr(), err)
	}
	return nil
}
