package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

func newLs(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls [PREFIX]",
		Aliases: []string{"list"},
		Short:   "List services and their instances",
		Long: `ls lists the services whose keys begin with PREFIX, and their instances: address,
version, zone, weight, the layout of the entry in etcd and the time left on its
lease. The state is "registered", "drained" by the live policy as clients go by
it, "leaving" while its owner withdraws the entry, or "malformed".

What is neither an instance nor beside one is left out, so that etcd may be used
for other things as well.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			prefix := strings.Join(args, "")
			v, err := look(ctx, s, prefix, cmd)
			if err != nil {
				return err
			}
			if a.output == output.FormatJSON {
				return output.WriteJSON(cmd.OutOrStdout(), v.json())
			}
			rows := v.rows()
			if len(rows) == 0 {
				output.Sayf(cmd.ErrOrStderr(), "No services are registered under \"%s\".\n", s.Full(prefix))
				return nil
			}
			head, cells := table(columns, rows)
			output.Table(cmd.OutOrStdout(), head, cells)
			return nil
		}),
	}
}

// look finds the services under a prefix.
func look(ctx context.Context, s *store.Store, prefix string, cmd *cobra.Command) (*view, error) {
	services, err := s.Services(ctx, prefix, func(note string) { output.Sayf(cmd.ErrOrStderr(), "%s\n", note) })
	if err != nil {
		return nil, err
	}
	var listed []*survey.Service
	for _, service := range services {
		if service.InUse() {
			listed = append(listed, service)
		}
	}
	leases, err := s.Leases(ctx, survey.LeaseIDs(listed))
	if err != nil {
		return nil, err
	}
	return &view{services: listed, leases: leases, full: s.Full}, nil
}
