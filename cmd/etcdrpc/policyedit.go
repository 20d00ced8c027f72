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
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// write is what the commands have in common that write a live policy.
type write struct {
	*app
	steer.Asked
	revision int64
}

// command makes cmd one that runs do, which ends with run.
func (w *write) command(cmd *cobra.Command, do action) *cobra.Command {
	cmd.RunE = w.connected(do)
	w.addDryRun(cmd)
	cmd.Flags().Int64Var(&w.revision, "revision", 0, "write only over the live policy of this `revision`, as policy get tells it; 0: only where there is none")
	if w.Kind != steer.Remove {
		cmd.Flags().BoolVar(&w.NoRoutes, "no-routes", false, `put a live policy without routes in force though instances have the metadata "lane"`)
	}
	return cmd
}

func (w *write) addDryRun(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.DryRun, "dry-run", false, "show what would change, and write nothing")
}

// run does what is asked for, of the service at the first argument.
func (w *write) run(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
	_, err := w.do(ctx, cmd, s, args)
	return err
}

// do is run that returns what it has done.
func (w *write) do(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) (*steer.Edit, error) {
	w.Key = args[0]
	if _, err := liveconfig.ChildPolicy(w.Child); w.Child != "" && err != nil {
		return nil, usage.Mistake(fmt.Errorf("--child-policy: %w", err))
	}
	if cmd.Flags().Changed("revision") {
		w.Over = &w.revision
	}
	e, err := steer.Do(ctx, s, w.Asked, cmd.OutOrStdout(), w.output)
	if e != nil && len(e.Service.Instances) == 0 && !w.Kind.Drains() { // a mistyped key looks like that
		output.Sayf(cmd.ErrOrStderr(), "Note: no instance is registered under \"%s\" now.\n", s.Full(w.Key))
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", w.subject(s), w.remedied(cmd, s, args, err))
	}
	return e, err
}

// subject says what is edited.
func (w *write) subject(s *store.Store) string {
	switch {
	case !w.Kind.Drains():
		return fmt.Sprintf("policy of %q", s.Full(w.Key))
	case len(w.Names) == 0:
		return fmt.Sprintf("%s instances of %q", w.Kind, w.Key)
	}
	return fmt.Sprintf("%s %q of %q", w.Kind, strings.Join(w.Names, ", "), w.Key)
}

// remedied has an error say which flag or command helps.
func (w *write) remedied(cmd *cobra.Command, s *store.Store, args []string, err error) error {
	switch key := output.Word(s.Full(""), w.Key); {
	case errors.Is(err, steer.ErrRefused):
		return fmt.Errorf("%w; mend it with policy set or policy rm", err)
	case errors.Is(err, steer.ErrNoRoutes) && w.Kind == steer.Drain:
		return fmt.Errorf("%w. Put a policy with the routes of the proto file in force first: etcdrpc policy set %s FILE. If it has none, give --no-routes", err, key)
	case errors.Is(err, steer.ErrNoRoutes):
		return fmt.Errorf("%w. If the proto file has no routes, or they are not to hold, give --no-routes", err)
	case errors.Is(err, steer.ErrConflict):
		return fmt.Errorf("%w. Leave --child-policy, --prefer-zone and --no-routes out, or change it by etcdrpc policy set %s FILE", err, key)
	case errors.Is(err, steer.ErrNoneLeft) && w.Kind == steer.Drain:
		return fmt.Errorf("%w, or give --force", err)
	}
	return err
}

func newPolicySet(a *app) *cobra.Command {
	w := &write{app: a, Asked: steer.Asked{Kind: steer.Put}}
	return w.command(&cobra.Command{
		Use:   "set KEY FILE|-|JSON",
		Short: "Put a live policy in force",
		Long: `set puts a live policy in force: the service config in a file, on standard input
(-), or given as it is, which begins with "{". What gRPC would refuse or misread is
refused here, and so is what would make calls fail, as by drain. The difference from
the present live policy is shown; nothing is written if someone else changes it
meanwhile. With --revision it is written only over the one that you began with.

The first live policy that says how to balance replaces all that the proto file says
of that: routes, zones, the subset, slow start and the rest. set says so.`,
		Example: `  etcdrpc policy set acme/user '{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":3}}]}'
  etcdrpc policy set acme/user canary.json --dry-run`,
		Args:              keyArgs(1),
		ValidArgsFunction: a.completeKeyThenFile,
	}, func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) (err error) {
		if w.Config, err = a.readConfig(args[1]); err != nil {
			return err
		}
		return w.run(ctx, cmd, s, args)
	})
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

func newPolicyRm(a *app) *cobra.Command {
	w := &write{app: a, Asked: steer.Asked{Kind: steer.Remove}}
	return w.command(&cobra.Command{
		Use:               "rm KEY",
		Short:             "Remove the live policy, which puts the generated one back in force",
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
	}, w.run)
}

func newPolicySplit(a *app) *cobra.Command {
	var by string
	var end bool
	w := &write{app: a, Asked: steer.Asked{Kind: steer.Split}}
	cmd := w.command(&cobra.Command{
		Use:   "split KEY VERSION=WEIGHT...",
		Short: "Divide the calls among versions",
		Long: `split divides the calls among groups of instances by their weights, and keeps the
rest of the live policy. Groups are versions, or by --by what another piece of
metadata says. --end divides no longer.`,
		Example: `  etcdrpc policy split acme/user v1=90 v2=10
  etcdrpc policy split acme/user blue=1 green=1 --by team
  etcdrpc policy split acme/user --end`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := keyArgs(max(0, len(args)-1))(cmd, args); err != nil {
				return err
			}
			if end == (len(args) > 1) {
				return errors.New("want groups as VERSION=WEIGHT, or --end without one")
			}
			return nil
		},
		ValidArgsFunction: a.completeKeys,
	}, func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) (err error) {
		if w.Groups, err = readGroups(by, args[1:]); err != nil {
			return usage.Mistake(err)
		}
		return w.run(ctx, cmd, s, args)
	})
	cmd.Flags().StringVar(&by, "by", "version", "the `name` of the metadata that tells groups apart")
	cmd.Flags().BoolVar(&end, "end", false, "divide the calls no longer")
	cmd.Flags().StringVar(&w.Child, "child-policy", "", "the `policy` that a new live policy balances by, as for drain; none: "+liveconfig.DefaultPolicy)
	return cmd
}

func readGroups(by string, args []string) (groups []serviceconfig.Split, err error) {
	for _, arg := range args {
		at := strings.LastIndexByte(arg, '=')
		weight, err := strconv.ParseUint(arg[at+1:], 10, 32)
		if at <= 0 || err != nil {
			return nil, fmt.Errorf("%.80q is not a group: want VERSION=WEIGHT with a whole number, such as v2=10", arg)
		}
		groups = append(groups, serviceconfig.Split{Match: map[string]string{by: arg[:at]}, Weight: uint32(weight)})
	}
	return groups, nil
}
