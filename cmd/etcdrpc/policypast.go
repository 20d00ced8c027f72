package main

import (
	"context"
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
	var w policyWrite
	return w.withRoutes(w.command(a, &cobra.Command{
		Use:   "undo KEY",
		Short: "Put back what was there before the last change of the live policy",
		Long: `undo puts the live policy back in force that was there before the last change, or
removes it if there was none. Undone again, the last change is in force once more.`,
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
	}, "The last change of the live policy of %s is undone.", func(ctx context.Context, s *store.Store, e *steer.Edit, _ []string) (err error) {
		e.New, err = steer.Before(ctx, s, e.Service.Key, e.Service.Config)
		return err
	}))
}
