package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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

func newPolicySplit(a *app) *cobra.Command {
	var (
		w     policyWrite
		child string
		by    string
		end   bool
	)
	cmd := w.withRoutes(w.command(a, &cobra.Command{
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
	}, "The calls of %s go by this split.", func(_ context.Context, s *store.Store, e *steer.Edit, args []string) error {
		groups, err := readGroups(by, args[1:])
		if err != nil {
			return usage.Mistake(err)
		}
		config, err := liveconfig.Parse(e.OldText())
		if err != nil {
			return fmt.Errorf("clients do not go by the live policy: %w; mend it with policy set or policy rm", err)
		}
		if end && (config.Etcd() == nil || len(config.Etcd().Split) == 0) {
			return fmt.Errorf("policy of %q: calls are not split", s.Full(args[0]))
		}
		begin := steer.Beginning{Child: child, NoRoutes: true} // what is begun without routes is checked as for policy set
		err = begin.Split(e.Service, config, groups)
		e.New = config.String()
		return err
	}))
	cmd.Flags().StringVar(&by, "by", "version", "the `name` of the metadata that tells groups apart")
	cmd.Flags().BoolVar(&end, "end", false, "divide the calls no longer")
	cmd.Flags().StringVar(&child, "child-policy", liveconfig.DefaultPolicy, "the `policy` that a new live policy balances by, as for drain")
	return cmd
}

// readGroups reads groups of a split as a user writes them.
func readGroups(by string, args []string) (groups []serviceconfig.Split, err error) {
	for _, arg := range args {
		at := strings.LastIndexByte(arg, '=')
		weight, err := strconv.ParseUint(arg[at+1:], 10, 32)
		if at <= 0 || err != nil {
			return nil, fmt.Errorf("%.80q is no group: want VERSION=WEIGHT, such as v2=10", arg)
		}
		groups = append(groups, serviceconfig.Split{Match: map[string]string{by: arg[:at]}, Weight: uint32(weight)})
	}
	return groups, nil
}

func newPolicyEdit(a *app) *cobra.Command {
	var w policyWrite
	var cmd *cobra.Command
	file := ""
	cmd = w.withRoutes(w.command(a, &cobra.Command{
		Use:   "edit KEY",
		Short: "Edit the live policy with an editor",
		Long: `edit opens the live policy in $VISUAL or $EDITOR, vi if neither is set, and puts what
you save in force: only if nobody has changed it meanwhile. What cannot be written
is kept in a file, which the error names.`,
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
	}, inForce, func(ctx context.Context, _ *store.Store, e *steer.Edit, _ []string) (err error) {
		before := "{}\n"
		if e.Service.Config != nil {
			before = liveconfig.Pretty(e.Service.Config.Value) + "\n"
		}
		file, e.New, err = a.edit(ctx, cmd, before)
		if e.New == strings.TrimSpace(before) {
			e.New = e.OldText()
		}
		return err
	}))
	write := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := write(cmd, args)
		switch {
		case file == "":
			return err
		case err != nil:
			return fmt.Errorf("%w; what you wrote is in %s", err, file)
		}
		return os.Remove(file)
	}
	return cmd
}

// edit has the user edit a text in a file, whose name it returns with what is in it in the end.
func (a *app) edit(ctx context.Context, cmd *cobra.Command, text string) (file, edited string, err error) {
	f, err := os.CreateTemp("", "etcdrpc-*.json")
	if err != nil {
		return "", "", fmt.Errorf("make a file to edit: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", "", fmt.Errorf("make a file to edit: %w", err)
	}
	editor := "vi"
	for _, name := range []string{"EDITOR", "VISUAL"} {
		if set := os.Getenv(name); set != "" {
			editor = set
		}
	}
	// As git and kubectl do, so that the variable may have arguments.
	run := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, editor, f.Name())
	run.Stdin, run.Stdout, run.Stderr = a.stdin, cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := run.Run(); err != nil {
		return f.Name(), "", fmt.Errorf("editor %s: %w", output.Shell(editor), err)
	}
	edited, err = a.readConfig(f.Name())
	return f.Name(), edited, err
}
