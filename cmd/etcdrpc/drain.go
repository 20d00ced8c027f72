package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
)

func newDrain(a *app) *cobra.Command {
	var begin steer.Beginning
	dryRun := false
	cmd := &cobra.Command{
		Use:   "drain KEY INSTANCE",
		Short: "Keep new calls from an instance",
		Long: `drain has the clients of the service at KEY send no new calls to an instance, named
by its id or its address. Calls under way go on, and the instance stays registered.
If it leads, it resigns while another instance can lead.

It adds the instance to the list "drain" of the live policy, and keeps the rest of
it. Where there is no live policy yet that says how to balance, drain has to begin
one, by its flags, and it takes the place of all that the proto file says of that.
Where that is more than they say, such as routes, put it in force by policy set first.
Timeouts and retries stay those of the generated code.`,
		Example: `  etcdrpc drain acme/user 10.0.0.7:9000
  etcdrpc drain acme/user 10.0.0.7:9000 --child-policy ring_hash`,
		Args:              keyArgs(1),
		ValidArgsFunction: a.completeInstances,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			if _, err := liveconfig.ChildPolicy(begin.Child); err != nil {
				return usage.Mistake(fmt.Errorf("--child-policy: %w", err))
			}
			done := fmt.Sprintf("Clients of %s send no new calls to %s.", args[0], args[1])
			e, err := steer.EditDrained(ctx, s, args[0], steer.Edit{DryRun: dryRun, Done: done}, func(found *survey.Service, c *liveconfig.Config) ([]string, error) {
				if err := begin.Drain(found, c, args[1]); err != nil {
					return nil, err
				}
				return steer.LeaderNotes(ctx, s, found, c.Etcd().Drain)
			})
			if errors.Is(err, steer.ErrNoRoutes) {
				err = fmt.Errorf("%w. Put a policy with the routes of the proto file in force first: etcdrpc policy set %s FILE. If it has none, give --no-routes",
					err, output.Shell(args[0]))
			}
			if err != nil {
				return fmt.Errorf("drain %q of %q: %w", args[1], args[0], err)
			}
			return e.Show(cmd.OutOrStdout(), a.output)
		}),
	}
	cmd.Flags().StringVar(&begin.Child, "child-policy", liveconfig.DefaultPolicy,
		"the `policy` that a new live policy balances by, as the proto file has it: "+strings.Join(liveconfig.PolicyNames(), ", ")+", or gRPC's JSON")
	cmd.Flags().BoolVar(&begin.PreferZone, "prefer-zone", false, "have a new live policy prefer the client's own zone, as prefer_zone in the proto file does")
	cmd.Flags().BoolVar(&begin.NoRoutes, "no-routes", false, "begin a live policy without routes even where instances have the metadata \"lane\"")
	complete(cmd.RegisterFlagCompletionFunc("child-policy", cobra.FixedCompletions(liveconfig.PolicyNames(), cobra.ShellCompDirectiveNoFileComp)))
	addDryRun(cmd, &dryRun)
	return cmd
}

func newUndrain(a *app) *cobra.Command {
	dryRun := false
	cmd := &cobra.Command{
		Use:   "undrain KEY INSTANCE",
		Short: "Let an instance have calls again",
		Long: `undrain takes an instance, named by its id or its address, off the list "drain" of the
live policy, and keeps the rest of it. The instance need not be registered.`,
		Args:              keyArgs(1),
		ValidArgsFunction: a.completeDrained,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			done := fmt.Sprintf("Clients of %s send calls to %s again.", args[0], args[1])
			e, err := steer.EditDrained(ctx, s, args[0], steer.Edit{DryRun: dryRun, Revives: true, Done: done}, func(s *survey.Service, c *liveconfig.Config) ([]string, error) {
				return steer.Undrain(s, c, args[1])
			})
			if err != nil {
				return fmt.Errorf("undrain %q of %q: %w", args[1], args[0], err)
			}
			return e.Show(cmd.OutOrStdout(), a.output)
		}),
	}
	addDryRun(cmd, &dryRun)
	return cmd
}
