package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
)

func newLs(a *app) *cobra.Command {
	var where []string
	order := ""
	cmd := &cobra.Command{
		Use:     "ls [PREFIX]",
		Aliases: []string{"list"},
		Short:   "List services and their instances",
		Long: `ls lists the services whose keys begin with PREFIX, and their instances: address,
version, zone, weight, the layout of the entry in etcd and the time left on its
lease. The state is "registered", "drained" by a live policy that clients accept,
"leaving" while its owner withdraws the entry, or "malformed". The column LEADER is
shown if an instance leads its service.

--where lists only what matches: NAME=PATTERN or NAME!=PATTERN, where NAME is that of
a column or of a piece of metadata, and * and ? in PATTERN stand for any text and for
any character. Several must all match.

Keys that do not belong to a service are left out, so that etcd may be used for
other things as well.`,
		Example: `  etcdrpc ls acme/ --where zone=eu-1a --where state=drained
  etcdrpc ls --where 'version!=v1.8.*' --sort lease`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			filters, err := parseFilters(where)
			if err != nil {
				return usage.Mistake(err)
			}
			prefix := strings.Join(args, "")
			v, err := loadView(ctx, s, prefix, cmd)
			if err != nil {
				return err
			}
			v.filters, v.sort = filters, order
			if names := v.unknownNames(); len(names) > 0 {
				output.Sayf(cmd.ErrOrStderr(), "No instance has %s.\n", output.Quoted(names))
			}
			if a.output == output.FormatJSON {
				return output.WriteJSON(cmd.OutOrStdout(), v.json())
			}
			entries := v.shown()
			switch {
			case len(v.Services) == 0:
				output.Sayf(cmd.ErrOrStderr(), "No services are registered under \"%s\".\n", s.Full(prefix))
			case len(entries) == 0:
				output.Sayf(cmd.ErrOrStderr(), "No instance under \"%s\" matches --where.\n", s.Full(prefix))
			default:
				head, cells := table(entries)
				output.Table(cmd.OutOrStdout(), head, cells)
			}
			return nil
		}),
	}
	cmd.Flags().StringArrayVar(&where, "where", nil, "list only what matches: `NAME=PATTERN`, of a column or metadata; may be repeated")
	cmd.Flags().StringVar(&order, "sort", "", "the column or metadata to sort by, by its `name`; none: by service and instance")
	return cmd
}

func loadView(ctx context.Context, s *store.Store, prefix string, cmd *cobra.Command) (*view, error) {
	n, err := s.Under(ctx, prefix)
	if err != nil {
		return nil, err
	}
	output.Once(cmd.ErrOrStderr())(n.Note)
	n.Services = slices.DeleteFunc(n.Services, func(s *inventory.Service) bool { return !s.InUse() })
	v := &view{Snapshot: n}
	return v, s.AddLeases(ctx, v.all())
}
