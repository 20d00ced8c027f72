package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/policyedit"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

func newPolicy(a *app) *cobra.Command {
	policy := &cobra.Command{
		Use:   "policy",
		Short: "Show and change the live service config of a service",
		Long: `A live policy is a gRPC service config in etcd, at _grpc_config/KEY. Every client of
the service at KEY applies it within moments. Its top-level fields override those of
the config that was generated from the proto file.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage.Mistake(errors.New("policy needs one of get, set, split, rm and explain"))
		},
	}
	policy.AddCommand(newPolicyGet(a), newPolicySet(a), newPolicySplit(a), newPolicyRm(a), newPolicyExplain(a))
	return policy
}

func newPolicyGet(a *app) *cobra.Command {
	revision := int64(0)
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Show the live policy",
		Long: `get shows the live policy and its revision. policy set --revision replaces only that
revision.`,
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			if revision < 0 {
				return usage.Mistake(errors.New("--revision must not be below zero"))
			}
			live, err := s.GetAt(ctx, store.ConfigOf(args[0]).From, revision)
			switch {
			case err == nil && live == nil && revision != 0:
				err = fmt.Errorf("policy of %q: there was no live policy at revision %d; policy rm goes back to that", s.Full(args[0]), revision)
			case err == nil && live == nil:
				_, err = policyedit.Propose(ctx, s, policyedit.Request{Key: args[0], Kind: policyedit.Remove}) // err says why there is none
				err = fmt.Errorf("policy of %q: %w", s.Full(args[0]), cmp.Or(err, policyedit.ErrNoPolicy))
			}
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if a.output == output.FormatJSON {
				err = output.WriteJSON(out, policyJSON{args[0], s.Full(live.Key), live.ModRevision, liveconfig.AsJSON(string(live.Value))})
			} else {
				output.SayLines(out, liveconfig.Pretty(live.Value))
				output.Sayf(cmd.ErrOrStderr(), "Revision %d.\n", live.ModRevision)
			}
			if _, refusal := serviceconfig.ParseLive(string(live.Value)); err == nil && refusal != nil {
				err = fmt.Errorf("clients refuse this live policy: %w", refusal)
			}
			return err
		}),
	}
	cmd.Flags().Int64Var(&revision, "revision", 0, "show it as of a `revision` of etcd; 0: the current one")
	return cmd
}

type policyJSON struct {
	Key      string `json:"key"`
	EtcdKey  string `json:"etcdKey"`
	Revision int64  `json:"revision"`
	Config   any    `json:"config"` // a string if clients cannot parse it
}

func newPolicyExplain(a *app) *cobra.Command {
	var caller policyedit.Caller
	cmd := &cobra.Command{
		Use:   "explain KEY",
		Short: "Show where calls go under the live policy, and why",
		Long: `explain shows which share of a client's calls each instance gets under the live policy or,
without one, under the default of generated code, and why: for the calls with the lane that
--lane names, or without one, of a client in the zone that --zone names.

It assumes that every instance is ready and serves the method called, and ignores a
client's own WithSelector and WithSubset.`,
		Example: `  etcdrpc policy explain acme/user
  etcdrpc policy explain acme/user --lane pr-7 --zone eu-1a`,
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			if caller.Lane != "" && !serviceconfig.ValidLane(caller.Lane) {
				return usage.Mistake(fmt.Errorf("--lane: %.60q is not a lane: want %s", caller.Lane, serviceconfig.WantLane))
			}
			var x *policyedit.Explanation
			e, err := policyedit.Propose(ctx, s, policyedit.Request{Key: args[0], Kind: policyedit.Remove}) // its error explains a missing policy
			if err == nil || errors.Is(err, policyedit.ErrNoPolicy) {
				x, err = policyedit.ExplainGenerated(e.Service, caller)
			}
			if err != nil {
				return fmt.Errorf("policy of %q: %w", s.Full(args[0]), err)
			}
			if config, _ := e.Service.Live(); config != nil {
				x.Notes = append(x.Notes, policyedit.Unlinked(config)...)
			}
			return x.Show(cmd.OutOrStdout(), a.output)
		}),
	}
	cmd.Flags().StringVar(&caller.Lane, "lane", "", "the `lane` of the calls (default: calls without a lane)")
	cmd.Flags().StringVar(&caller.Zone, "zone", "", "the `zone` of the client (default: a client that does not say its zone)")
	a.completeFields(cmd, "zone")
	return cmd
}
