package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// onPolicy makes an action on the live policy of a service a cobra command's RunE. Where there is none, for the key lies in a
// namespace, the error says so.
func (a *app) onPolicy(do action) func(*cobra.Command, []string) error {
	return a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
		err := do(ctx, cmd, s, args)
		if !errors.Is(err, steer.ErrNoPolicy) {
			return err
		}
		namespace, failed := s.NamespaceOf(ctx, args[0])
		place := steer.CheckPlace(&survey.Service{Key: args[0], Namespace: namespace})
		if failed != nil || place == nil {
			return err
		}
		return fmt.Errorf("policy of %q: %w", s.Full(args[0]), elsewhere(cmd, s, args, place))
	})
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
		RunE: a.onPolicy(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			if revision < 0 {
				return usage.Mistake(errors.New("--revision must not be below zero"))
			}
			live, err := s.GetAt(ctx, store.ConfigOf(args[0]).From, revision)
			switch {
			case err == nil && live == nil && revision != 0:
				err = fmt.Errorf("policy of %q: there was no live policy at revision %d", s.Full(args[0]), revision)
			case err == nil && live == nil:
				err = fmt.Errorf("policy of %q: %w", s.Full(args[0]), steer.ErrNoPolicy)
			}
			if err != nil {
				return err
			}
			reason, err := s.Reason(ctx, live, revision)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if a.output == output.FormatJSON {
				err = output.WriteJSON(out, policyJSON{args[0], s.Full(live.Key), live.ModRevision, reason, liveconfig.AsJSON(string(live.Value))})
			} else {
				output.SayLines(out, liveconfig.Pretty(live.Value))
				output.Sayf(cmd.ErrOrStderr(), "Revision %s\n", because(live.ModRevision, reason, "."))
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

// because returns a revision with why it was written, or else with what ends the line.
func because(revision int64, reason, end string) string {
	if reason != "" {
		end = ": " + reason
	}
	return strconv.FormatInt(revision, 10) + end
}

type policyJSON struct {
	Key      string `json:"key"`
	EtcdKey  string `json:"etcdKey"`
	Revision int64  `json:"revision"`
	Reason   string `json:"reason,omitempty"`
	Config   any    `json:"config"` // a string where it is no JSON that a client could read
}

// pastJSON is one change of a live policy.
type pastJSON struct {
	Revision int64  `json:"revision"`
	Reason   string `json:"reason,omitempty"`
	Config   any    `json:"config"`         // null: it was removed
	Size     int    `json:"size,omitempty"` // in bytes, where config is the head of one that no client reads
}

// shownPast returns what a live policy came to be, for people.
func shownPast(p steer.Past) string {
	text := liveconfig.Pretty([]byte(p.Text))
	if p.Size > 0 {
		text += fmt.Sprintf("… of %d bytes, more than clients read", p.Size)
	}
	return text
}

func newPolicyHistory(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "history KEY",
		Short: "Show what became of the live policy",
		Long: `history shows the changes of the live policy that etcd has not compacted, or the last
16 MB of them, the latest first, each with the difference it made and with the --reason
that was given for it.
etcd keeps no times, and not who it was.
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
					change := pastJSON{Revision: p.Revision, Reason: p.Reason, Size: p.Size}
					if !p.Removed {
						change.Config = liveconfig.AsJSON(p.Text)
					}
					changes = append(changes, change)
				}
				return output.WriteJSON(out, struct {
					From    int64      `json:"from"`
					Changes []pastJSON `json:"changes"`
				}{from, changes})
			}
			for n := len(all) - 1; n >= 0; n-- {
				output.Sayf(out, "Revision %s\n", because(all[n].Revision, all[n].Reason, ":"))
				before := ""
				switch {
				case n > 0:
					before = shownPast(all[n-1])
				case from > 1: // what was there before is compacted
					output.SayLines(out, shownPast(all[n]))
					continue
				}
				output.SayLines(out, output.Diff(before, shownPast(all[n])))
			}
			output.Sayf(cmd.ErrOrStderr(), "These are the changes from revision %s on.\n", strconv.FormatInt(from, 10))
			return nil
		}),
	}
}
