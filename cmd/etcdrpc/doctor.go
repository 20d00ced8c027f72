package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
)

func newDoctor(a *app) *cobra.Command {
	d := new(doctor.Options)
	cmd := &cobra.Command{
		Use:   "doctor [KEY|PREFIX]",
		Short: "Find what is wrong, and show the remedies",
		Long: `doctor examines all services, or the service at KEY or, if there is none, those whose
keys begin with PREFIX. It counts its findings by kind, and shows each with its keys and
a remedy, the worst first. It changes nothing. It exits with 1 if a finding is at least
as severe as --fail-on, by default any finding, and with 3 if it could not read etcd.

The kinds of findings and their highest severity:
` + doctor.KindsHelp() + `
It connects to each address from its own host, and sends nothing without --deep.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completion(nil),
		RunE: a.connected(func(ctx context.Context, s *store.Store, args []string) error {
			if err := d.Check(); err != nil {
				return usage.Mistake(err)
			}

			r, err := d.Examine(ctx, a.dial, s, strings.Join(args, ""), a.notes)
			if err != nil {
				return err
			}

			if err := r.Show(a.out, a.output); err != nil {
				return err
			}

			if d.Fails(r) {
				return errFound
			}

			return nil
		}),
	}

	d.AddTo(cmd.Flags())
	offer(cmd, "fail-on", doctor.Severities)
	offer(cmd, "skip", doctor.KindNames())

	return cmd
}
