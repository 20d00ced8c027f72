package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

func newWatch(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "watch KEY",
		Short: "Follow the instances of a service",
		Long: `watch shows the instances of the service at KEY and follows them until it is
interrupted. It writes a line for each change: "+" came, "-" left, "~" changed.`,
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			w := &watch{store: s, key: args[0]}
			out := cmd.OutOrStdout()
			lines := &changeLines{out: out, format: a.output}
			w.show, w.withLease = withNotes(lines.show, cmd.ErrOrStderr()), lines.changedEntries
			w.warn = func(err error) { output.Sayf(cmd.ErrOrStderr(), "etcdrpc: %s\n", err) }
			return w.run(ctx)
		}),
	}
}
