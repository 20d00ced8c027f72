package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// revokeTimeout bounds how long a command that ends waits for etcd to revoke
// its lease.
const revokeTimeout = time.Second

// withRegistry runs a long-running command on a registry of package runtime.
func (a *app) withRegistry(
	cmd *cobra.Command,
	do func(*runtime.Registry, io.Writer, *slog.Logger) error,
	opts ...runtime.Option,
) error {
	cfg, err := a.settings.config(cmd.Context())
	if err != nil {
		return err
	}

	client, err := store.Connect(cfg)
	if err != nil {
		return err
	}
	defer client.Close()

	notes, end := startNotes(a.notes)
	defer end()

	withoutTime := func(_ []string, attr slog.Attr) slog.Attr {
		if attr.Key == slog.TimeKey { // journald and container runtimes add their own
			return slog.Attr{}
		}

		return attr
	}

	logger := slog.New(slog.NewTextHandler(lines{notes},
		&slog.HandlerOptions{ReplaceAttr: withoutTime}))

	opts = append(opts,
		runtime.WithNamespace(a.settings.namespace), runtime.WithLogger(logger))
	registry := runtime.NewRegistry(client, opts...)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), revokeTimeout)
		defer cancel()

		// The runtime logs the error, and the lease ends by itself.
		_ = registry.Close(ctx)
	}()

	return do(registry, notes, logger)
}

// startNotes returns the writer for messages of a long-running command. The
// command goes on if the reader of stderr stalls or exits.
func startNotes(stderr io.Writer) (notes io.Writer, end func()) {
	// Otherwise Go ends the process at a write to a closed pipe.
	signal.Ignore(syscall.SIGPIPE)
	return output.Unread(stderr)
}

// lines prefixes each line with "etcdrpc: ", like etcdrpc's own messages.
type lines struct{ io.Writer }

func (l lines) Write(line []byte) (int, error) {
	return len(line), output.Writef(l.Writer, "etcdrpc: %s\n",
		strings.TrimSuffix(string(line), "\n"))
}

// servePages serves until ctx ends, and then closes all connections. While it
// serves, it runs follow, which keeps the pages up to date.
func servePages(
	ctx context.Context,
	listener net.Listener,
	pages http.Handler,
	notes io.Writer,
	follow func(context.Context),
) error {
	ctx, cancel := context.WithCancel(ctx)

	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()

	following.Go(func() { follow(ctx) })

	server := &http.Server{
		Handler:        localOnly(listener.Addr(), pages),
		ErrorLog:       log.New(notes, "etcdrpc: ", 0),
		MaxHeaderBytes: 32 << 10,
		ReadTimeout:    15 * time.Second,
		WriteTimeout:   time.Minute,
		IdleTimeout:    2 * time.Minute,
		BaseContext:    func(net.Listener) context.Context { return ctx },
	}

	// The deferred call cancels this AfterFunc, because Serve has closed the
	// listener when it returns.
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()

	err := server.Serve(listener)
	if ctx.Err() == nil || !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve at %s: %w", listener.Addr(), err)
	}

	return nil
}

// localOnly makes a listener on loopback reject requests whose Host header does
// not name this host. Otherwise a web page of another site could make its own
// name resolve to this host, and read the responses (DNS rebinding). Other
// listeners accept any name.
func localOnly(addr net.Addr, handler http.Handler) http.Handler {
	if !isLocal(addr.String()) {
		return handler
	}

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLocal(r.Host) {
			http.Error(w,
				"unknown Host header: use localhost or a loopback address in the URL",
				http.StatusMisdirectedRequest)

			return
		}

		handler.ServeHTTP(w, r)
	})
}

// urlOf returns the URL of a page, at localhost if it is served at all
// addresses.
func urlOf(page net.Listener) string {
	at := page.Addr().String()
	if ip, err := netip.ParseAddrPort(at); err == nil && ip.Addr().IsUnspecified() {
		at = fmt.Sprint("localhost:", ip.Port())
	}

	return "http://" + at + "/"
}

// isLocal reports whether a host, with or without a port, is localhost or a
// loopback address, which cannot be rebound.
func isLocal(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}

	addr, err := netip.ParseAddr(name)

	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(name, "localhost")
}
