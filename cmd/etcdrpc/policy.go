package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
)

func newPolicy(a *app) *cobra.Command {
	policy := &cobra.Command{
		Use:   "policy",
		Short: "Show and change the live service config of a service",
		Long: `A live policy is a gRPC service config in etcd, at _grpc_config/KEY. Every client of
the service at KEY goes by it within moments: it is laid over the config that was
generated from the proto file, top-level field by field.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var names []string
			for _, c := range cmd.Commands() {
				names = append(names, c.Name())
			}
			return usage.Mistake(fmt.Errorf("policy needs one of %s", strings.Join(names, ", ")))
		},
	}
	policy.AddCommand(newPolicyGet(a), newPolicySet(a), newPolicyRm(a), newPolicyExplain(a))
	return policy
}

func newPolicyGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "get KEY",
		Short:             "Show the live policy",
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			live, err := liveOf(ctx, s, args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if a.output == output.FormatJSON {
				return output.WriteJSON(out, policyJSON{args[0], s.Full(live.Key), live.ModRevision, liveconfig.AsJSON(string(live.Value))})
			}
			output.SayLines(out, liveconfig.Pretty(live.Value))
			if err := liveconfig.Check(string(live.Value)); err != nil {
				return fmt.Errorf("clients do not go by this live policy: %w", err)
			}
			return nil
		}),
	}
}

// liveOf reads the live policy of a service that has one.
func liveOf(ctx context.Context, s *store.Store, key string) (*survey.Entry, error) {
	live, err := s.Get(ctx, store.ConfigOf(key).From)
	if err == nil && live == nil {
		err = steer.NoPolicy(s.Full(key))
	}
	return live, err
}

type policyJSON struct {
	Key      string `json:"key"`
	EtcdKey  string `json:"etcdKey"`
	Revision int64  `json:"revision"`
	Config   any    `json:"config"` // a string where it is no JSON that a client could read
}

func newPolicySet(a *app) *cobra.Command {
	dryRun := false
	cmd := &cobra.Command{
		Use:   "set KEY FILE|-|JSON",
		Short: "Put a live policy in force",
		Long: `set puts a live policy in force: the service config in a file, on standard input
(-), or given as it is, which begins with "{". What gRPC would refuse or misread is
refused here, and nothing is written. The difference from the present live policy
is shown; nothing is written if someone else changes it meanwhile.

The first live policy that says how to balance takes the place of all that the proto
file says of that: routes, zones, the subset, slow start and the rest. set says so.`,
		Example: `  etcdrpc policy set acme/user '{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":3}}]}'
  etcdrpc policy set acme/user canary.json --dry-run`,
		Args:              keyArgs(1),
		ValidArgsFunction: a.completeKeyThenFile,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			text, err := a.readConfig(args[1])
			if err != nil {
				return err
			}
			found, known, err := s.Steered(ctx, args[0])
			if err != nil {
				return err
			}
			e := steer.Edit{Service: found, New: text, DryRun: dryRun, Done: "The live policy of " + args[0] + " is in force."}
			if err := e.Apply(ctx, s); err != nil {
				return err
			}
			if known && len(found.Instances) == 0 { // a mistyped key looks like that
				output.Sayf(cmd.ErrOrStderr(), "Note: no instance is registered under \"%s\" now.\n", s.Full(args[0]))
			}
			return e.Show(cmd.OutOrStdout(), a.output)
		}),
	}
	addDryRun(cmd, &dryRun)
	return cmd
}

func newPolicyRm(a *app) *cobra.Command {
	dryRun := false
	cmd := &cobra.Command{
		Use:               "rm KEY",
		Short:             "Remove the live policy, which puts the generated one back in force",
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			live, err := liveOf(ctx, s, args[0])
			if err != nil {
				return err
			}
			e := steer.Edit{Service: &survey.Service{Key: args[0], Config: live}, DryRun: dryRun, Done: "The live policy of " + args[0] + " is removed: its clients go back to the generated one."}
			if err := e.Apply(ctx, s); err != nil {
				return err
			}
			return e.Show(cmd.OutOrStdout(), a.output)
		}),
	}
	addDryRun(cmd, &dryRun)
	return cmd
}

func addDryRun(cmd *cobra.Command, dryRun *bool) {
	cmd.Flags().BoolVar(dryRun, "dry-run", false, "show what would change, and write nothing")
}

// readConfig takes what a user gave as a service config.
func (a *app) readConfig(arg string) (text string, err error) {
	var raw []byte
	switch {
	case strings.HasPrefix(strings.TrimSpace(arg), "{"):
		raw = []byte(arg)
	case arg == "-":
		raw, err = io.ReadAll(a.stdin)
	default:
		raw, err = os.ReadFile(arg)
	}
	if err != nil {
		return "", fmt.Errorf("read the service config: %w", err)
	}
	text = strings.TrimSpace(string(raw))
	if text == "" {
		return "", errors.New("the service config is empty: to remove the live policy use policy rm")
	}
	return text, nil
}
