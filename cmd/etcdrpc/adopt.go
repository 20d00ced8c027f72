package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/adopt"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

func newAdopt(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "adopt PREFIX",
		Short: "Propose the proto options of services that are in etcd already",
		Long: `adopt looks at what other programs keep in etcd below PREFIX, which is the key of a
service or the beginning of several. For each service it names the layout, prints
the option to paste into the proto, with a json_layout if the entries are
home-made JSON, and says what would be lost or change. It writes nothing to etcd.
It exits with 1 if there is a service of which clients would read nothing, be it
for the entries or for the key.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			l, err := s.List(ctx, store.PrefixRange(args[0]))
			if err != nil {
				return err
			}
			if !l.Whole {
				output.Sayf(cmd.ErrOrStderr(), "%s\n", store.PartOnly(s.User, l.Parts))
			}
			v, err := adopt.Read(args[0], survey.InOrder(l.Entries), s.Full)
			if err != nil {
				return err
			}
			if err := v.Show(cmd.OutOrStdout(), a.output); err != nil {
				return err
			}
			if v.Unreadable() {
				return errFound
			}
			return nil
		}),
	}
}
