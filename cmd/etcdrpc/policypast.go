package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

// pastJSON is one change of a live policy.
type pastJSON struct {
	Revision int64 `json:"revision"`
	Config   any   `json:"config"` // null: it was removed
}

func newPolicyHistory(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "history KEY",
		Short: "Show what became of the live policy",
		Long: `history shows the changes of the live policy that etcd has not compacted, the latest
first, each with the difference it made. etcd keeps no times, and not who it was.
policy get --revision N shows the whole of one.`,
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			all, from, err := steer.History(ctx, s, args[0])
			if err != nil {
				return fmt.Errorf("history of the policy of %q: %w", s.Full(args[0]), err)
			}
			out := cmd.OutOrStdout()
			if a.output == output.FormatJSON {
				changes := []pastJSON{}
				for _, p := range slices.Backward(all) {
					changes = append(changes, pastJSON{p.Revision, liveconfig.AsJSON(p.Text)})
				}
				return output.WriteJSON(out, struct {
					From    int64      `json:"from"`
					Changes []pastJSON `json:"changes"`
				}{from, changes})
			}
			for n := len(all) - 1; n >= 0; n-- {
				output.Sayf(out, "Revision %d:\n", all[n].Revision)
				before := ""
				switch {
				case n > 0:
					before = all[n-1].Text
				case from > 1: // what was there before is compacted
					output.SayLines(out, liveconfig.Pretty([]byte(all[n].Text)))
					continue
				}
				output.SayLines(out, output.Diff(liveconfig.Pretty([]byte(before)), liveconfig.Pretty([]byte(all[n].Text))))
			}
			output.Sayf(cmd.ErrOrStderr(), "etcd has its past from revision %s on.\n", strconv.FormatInt(from, 10))
			return nil
		}),
	}
}

func newPolicyUndo(a *app) *cobra.Command {
	w := policyWrite{}
	cmd := &cobra.Command{
		Use:   "undo KEY",
		Short: "Put back what was there before the last change of the live policy",
		Long: `undo puts the live policy back in force that was there before the last change, or
removes it if there was none. Undone again, the last change is in force once more.`,
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			return w.run(ctx, a, cmd, s, args[0], "The last change of the live policy of "+args[0]+" is undone.", func(e *steer.Edit) (err error) {
				e.New, err = steer.Before(ctx, s, args[0], e.Service.Config)
				return err
			})
		}),
	}
	w.addTo(cmd)
	return cmd
}

// policyWrite is what the commands have in common that write a live policy.
type policyWrite struct {
	revision         int64
	dryRun, noRoutes bool
}

func (w *policyWrite) addTo(cmd *cobra.Command) {
	w.addOver(cmd)
	cmd.Flags().BoolVar(&w.noRoutes, "no-routes", false, `put a live policy without routes in force though instances have the metadata "lane"`)
}

// addOver adds the flags of a command that leaves no policy without routes.
func (w *policyWrite) addOver(cmd *cobra.Command) {
	addDryRun(cmd, &w.dryRun)
	cmd.Flags().Int64Var(&w.revision, "revision", 0, "write only over the live policy of this `revision`, as policy get tells it; 0: only where there is none")
}

// run writes what change makes of the live policy that is there, once it is said what calls will do.
func (w *policyWrite) run(ctx context.Context, a *app, cmd *cobra.Command, s *store.Store, key, done string, change func(*steer.Edit) error) error {
	found, known, err := s.Steered(ctx, key)
	if err != nil {
		return err
	}
	e := steer.Edit{Service: found, DryRun: w.dryRun, Done: done}
	if cmd.Flags().Changed("revision") {
		e.Over = &w.revision
	}
	if a.output == output.FormatTable {
		e.Before = cmd.OutOrStdout()
	}
	if err := change(&e); err != nil {
		return err
	}
	if known {
		if err := e.CheckCalls(w.noRoutes); err != nil {
			if errors.Is(err, steer.ErrNoRoutes) {
				err = fmt.Errorf("%w. If the proto file has no routes, or they are not to hold, give --no-routes", err)
			}
			return fmt.Errorf("policy of %q: %w", s.Full(key), err)
		}
		if len(found.Instances) == 0 { // a mistyped key looks like that
			output.Sayf(cmd.ErrOrStderr(), "Note: no instance is registered under \"%s\" now.\n", s.Full(key))
		}
	}
	if err := e.Do(ctx, s); err != nil {
		return err
	}
	return e.Show(cmd.OutOrStdout(), a.output)
}
