package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds"
)

func newDoctor(a *app) *cobra.Command {
	d := doctor.Options{Unsupported: xds.Unsupported}
	cmd := &cobra.Command{
		Use:   "doctor [KEY|PREFIX]",
		Short: "Find what is wrong, and say what to do",
		Long: `doctor looks at all services, or at the one at KEY and what lies below and beside
it or, where there is none, at those whose keys begin with PREFIX. It tells for
everything that is wrong what it is, where, and what to do, the worst first. It
changes nothing. It exits with 1 when something is wrong, and with 3 when it could
not look.

What it looks for, and how bad that is as a rule:
` + doctor.KindsHelp() + `
It connects to each address from where it runs, and says no more to it.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			if err := d.Check(); err != nil {
				return usage.Mistake(err)
			}
			r, err := d.Examine(ctx, a.dial, s, strings.Join(args, ""))
			if err != nil {
				return err
			}
			if err := r.Show(cmd.OutOrStdout(), a.output); err != nil {
				return err
			}
			switch {
			case r.Blind():
				return exitCode(exitUnable)
			case len(r.Findings) > 0:
				return errFound
			}
			return nil
		}),
	}
	d.AddTo(cmd.Flags())
	complete(cmd.RegisterFlagCompletionFunc("skip", cobra.FixedCompletions(doctor.KindNames(), noFiles)))
	return cmd
}
