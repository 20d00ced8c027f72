package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
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
	policy.AddCommand(newPolicyGet(a), newPolicySet(a), newPolicySplit(a), newPolicyEdit(a), newPolicyRm(a), newPolicyExplain(a), newPolicyHistory(a), newPolicyUndo(a))
	return policy
}

func newPolicyGet(a *app) *cobra.Command {
	revision := int64(0)
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Show the live policy",
		Long: `get shows the live policy, and tells its revision: policy set --revision writes over
that one only.`,
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			live, err := liveOf(ctx, s, args[0], revision)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if a.output == output.FormatJSON {
				err = output.WriteJSON(out, policyJSON{args[0], s.Full(live.Key), live.ModRevision, liveconfig.AsJSON(string(live.Value))})
			} else {
				output.SayLines(out, liveconfig.Pretty(live.Value))
				output.Sayf(cmd.ErrOrStderr(), "Revision %s.\n", strconv.FormatInt(live.ModRevision, 10))
			}
			if err != nil {
				return err
			}
			if err := liveconfig.Check(string(live.Value)); err != nil {
				return fmt.Errorf("clients do not go by this live policy: %w", err)
			}
			return nil
		}),
	}
	cmd.Flags().Int64Var(&revision, "revision", 0, "show it as it was at a `revision` of etcd; 0: as it is")
	return cmd
}

// liveOf reads the live policy of a service that has one, as it was at a revision; 0: as it is.
func liveOf(ctx context.Context, s *store.Store, key string, revision int64) (*survey.Entry, error) {
	live, err := s.GetAt(ctx, store.ConfigOf(key).From, revision)
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
	var w policyWrite
	return w.withRoutes(w.command(a, &cobra.Command{
		Use:   "set KEY FILE|-|JSON",
		Short: "Put a live policy in force",
		Long: `set puts a live policy in force: the service config in a file, on standard input
(-), or given as it is, which begins with "{". What gRPC would refuse or misread is
refused here, and what would have calls fail as drain refuses it; then nothing is
written. The difference from the present live policy is shown; nothing is written if
someone else changes it meanwhile. With --revision it is written only over the one
that you began with.

The first live policy that says how to balance takes the place of all that the proto
file says of that: routes, zones, the subset, slow start and the rest. set says so.`,
		Example: `  etcdrpc policy set acme/user '{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":3}}]}'
  etcdrpc policy set acme/user canary.json --dry-run`,
		Args:              keyArgs(1),
		ValidArgsFunction: a.completeKeyThenFile,
	}, inForce, func(_ context.Context, _ *store.Store, e *steer.Edit, args []string) (err error) {
		e.New, err = a.readConfig(args[1])
		return err
	}))
}

func newPolicyRm(a *app) *cobra.Command {
	var w policyWrite
	return w.command(a, &cobra.Command{
		Use:               "rm KEY",
		Short:             "Remove the live policy, which puts the generated one back in force",
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
	}, "The live policy of %s is removed: its clients go back to the generated one.", func(_ context.Context, s *store.Store, e *steer.Edit, _ []string) error {
		if e.Service.Config == nil {
			return steer.NoPolicy(s.Full(e.Service.Key))
		}
		return nil
	})
}

// policyWrite is what the commands have in common that write a live policy.
type policyWrite struct {
	revision         int64
	dryRun, noRoutes bool
}

// inForce is what is done by most of them, to a key.
const inForce = "The live policy of %s is in force."

// command completes a command that writes what change makes of the live policy that is there, once it is said what calls
// will do, and then says what is done, to a key.
func (w *policyWrite) command(a *app, cmd *cobra.Command, done string, change func(context.Context, *store.Store, *steer.Edit, []string) error) *cobra.Command {
	addDryRun(cmd, &w.dryRun)
	cmd.Flags().Int64Var(&w.revision, "revision", 0, "write only over the live policy of this `revision`, as policy get tells it; 0: only where there is none")
	cmd.RunE = a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
		found, known, err := s.Steered(ctx, args[0])
		if err != nil {
			return err
		}
		e := steer.Edit{Service: found, DryRun: w.dryRun, Done: fmt.Sprintf(done, args[0])}
		if cmd.Flags().Changed("revision") {
			e.Over = &w.revision
		}
		if a.output == output.FormatTable {
			e.Before = cmd.OutOrStdout()
		}
		if err := change(ctx, s, &e, args); err != nil {
			return err
		}
		if known {
			if err := e.CheckCalls(w.noRoutes); err != nil {
				if errors.Is(err, steer.ErrNoRoutes) {
					err = fmt.Errorf("%w. If the proto file has no routes, or they are not to hold, give --no-routes", err)
				}
				return fmt.Errorf("policy of %q: %w", s.Full(args[0]), err)
			}
			if len(found.Instances) == 0 { // a mistyped key looks like that
				output.Sayf(cmd.ErrOrStderr(), "Note: no instance is registered under \"%s\" now.\n", s.Full(args[0]))
			}
		}
		if err := e.Apply(ctx, s); err != nil {
			return err
		}
		return e.Show(cmd.OutOrStdout(), a.output)
	})
	return cmd
}

// withRoutes adds the flag of a command that may leave a policy without routes.
func (w *policyWrite) withRoutes(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&w.noRoutes, "no-routes", false, `put a live policy without routes in force though instances have the metadata "lane"`)
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
