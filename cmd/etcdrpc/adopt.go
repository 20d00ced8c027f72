package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/adopt"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
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
			entries, parts, err := s.ScanReadable(ctx, store.PrefixRange(args[0]))
			if err != nil {
				return err
			}
			if parts != nil {
				output.Sayf(cmd.ErrOrStderr(), "%s\n", store.PartOnly(s.User, parts))
			}
			v, err := adopt.Read(args[0], entries, s.Full)
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
