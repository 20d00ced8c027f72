package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/policyedit"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
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
				err = fmt.Errorf("policy of %q: there was no live policy at revision %d; to go back to that: etcdrpc policy rm %s", s.Full(args[0]), revision, output.Word(s.Full(""), args[0]))
			case err == nil && live == nil:
				err = fmt.Errorf("policy of %q: %w", s.Full(args[0]), policyedit.ErrNoPolicy)
			}
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if a.output == output.FormatJSON {
				err = output.WriteJSON(out, policyJSON{args[0], s.Full(live.Key), live.ModRevision, liveconfig.AsJSON(string(live.Value))})
			} else {
				output.SayLines(out, liveconfig.Pretty(live.Value))
				output.Sayf(cmd.ErrOrStderr(), "Revision %s\n", strconv.FormatInt(live.ModRevision, 10)+".")
			}
			if err != nil {
				return err
			}
			if err := liveconfig.Check(string(live.Value)); err != nil {
				return fmt.Errorf("clients refuse this live policy: %w", err)
			}
			return nil
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
