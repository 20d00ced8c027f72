package main

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// revokeTimeout bounds the wait for etcd to revoke the lease of an entry that is gone.
const revokeTimeout = time.Second

// withRegistry runs a long-running command on a registry of package runtime.
func (a *app) withRegistry(cmd *cobra.Command, do func(*runtime.Registry, io.Writer, *slog.Logger) error, opts ...runtime.Option) error {
	cfg, err := a.settings.config(cmd.Context())
	if err != nil {
		return err
	}
	client, err := store.Connect(cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	notes, end := startNotes(cmd.ErrOrStderr())
	defer end()
	logger := slog.New(slog.NewTextHandler(lines{notes}, &slog.HandlerOptions{ReplaceAttr: dropTime}))
	registry := runtime.NewRegistry(client, append(opts, runtime.WithNamespace(a.settings.namespace), runtime.WithLogger(logger))...)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), revokeTimeout)
		defer cancel()
		_ = registry.Close(ctx) // the runtime logs the error, and the lease ends by itself
	}()
	return do(registry, notes, logger)
}

// startNotes returns the writer for messages of a long-running command. A reader that stalls or leaves does not stop the command.
func startNotes(stderr io.Writer) (notes io.Writer, end func()) {
	notes, written := output.Unread(stderr)
	stop := ignoreSIGPIPE()
	return notes, func() {
		written()
		stop()
	}
}

// lines prefixes each line with "etcdrpc: ", like etcdrpc's own messages.
type lines struct{ io.Writer }

func (l lines) Write(line []byte) (int, error) {
	return len(line), output.Writef(l.Writer, "etcdrpc: %s\n", strings.TrimSuffix(string(line), "\n"))
}

// dropTime drops the time: journald and container runtimes add it.
func dropTime(_ []string, attr slog.Attr) slog.Attr {
	if attr.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return attr
}
