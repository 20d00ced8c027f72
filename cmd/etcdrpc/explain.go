package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/policyedit"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

func newPolicyExplain(a *app) *cobra.Command {
	var from policyedit.Caller
	cmd := &cobra.Command{
		Use:   "explain KEY",
		Short: "Show where calls go under the live policy, and why",
		Long: `explain shows which share of a client's calls each instance gets under the live policy,
and why: for the calls with the lane that --lane names, or without one, of a client
in the zone that --zone names.

It assumes that every instance is ready and serves the method called, and ignores a
client's own WithSelector and WithSubset.`,
		Example: `  etcdrpc policy explain acme/user
  etcdrpc policy explain acme/user --lane pr-7 --zone eu-1a`,
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			if from.Lane != "" && !serviceconfig.ValidLane(from.Lane) {
				return usage.Mistake(fmt.Errorf("--lane: %.60q is not a lane: want %s", from.Lane, serviceconfig.WantLane))
			}
			n, err := s.At(ctx, args[0])
			if err != nil {
				return err
			}
			if n.Denied != nil {
				return n.Denied
			}
			found := n.Services[0]
			x, err := policyedit.Explain(found, from)
			if err != nil {
				return fmt.Errorf("policy of %q: %w", s.Full(args[0]), err)
			}
			if config, err := found.Live(); err == nil {
				x.Notes = append(x.Notes, policyedit.Unlinked(config)...)
			}
			return x.Show(cmd.OutOrStdout(), a.output)
		}),
	}
	cmd.Flags().StringVar(&from.Lane, "lane", "", "the `lane` of the calls; none: calls without a lane")
	cmd.Flags().StringVar(&from.Zone, "zone", "", "the `zone` of the client; none: a client that does not say its zone")
	return cmd
}
