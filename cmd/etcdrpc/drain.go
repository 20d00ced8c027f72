package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// addTo adds the flags that drain and undrain have in common.
func (w *write) addTo(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.Choice.Zone, "zone", "", "in place of INSTANCE, all that are in this `zone`")
	cmd.Flags().StringVar(&w.Choice.Version, "version", "", "in place of INSTANCE, all of this `version`")
	cmd.Flags().StringVar(&w.Choice.Host, "host", "", "in place of INSTANCE, all whose address has this `host`")
	w.addDryRun(cmd)
}

// instances accepts a service key, and either instances or what they have in common.
func (w *write) instances(_ *cobra.Command, args []string) error {
	switch chosen := w.Choice != (steer.Choice{}); {
	case len(args) == 0:
		return errors.New("no KEY is given")
	case len(args) == 1 && !chosen:
		return errors.New("name an INSTANCE, or give --zone, --version or --host")
	case len(args) > 1 && chosen:
		return errors.New("give an INSTANCE, or --zone, --version and --host, and not both")
	}
	w.Names = args[1:]
	return endpoint.CheckKey(args[0])
}

func newDrain(a *app) *cobra.Command {
	w := &write{app: a, Asked: steer.Asked{Kind: steer.Drain}}
	cmd := &cobra.Command{
		Use:   "drain KEY INSTANCE...",
		Short: "Keep new calls from instances",
		Long: `drain keeps new calls from instances of the service at KEY, named by their ids or
addresses, or chosen by --zone, --version and --host: those that are registered now,
not those to come. Calls under way go on, and the instances stay registered. One that
leads resigns while another can lead.

It adds them to the list "drain" of the live policy, and keeps the rest of it. It
says what calls will do, and does not leave a group of a split, a strict lane, or
clients that do not read the layout LEASE_SUFFIX without an instance, unless by
--force. Where there is no live policy yet that says how to balance, drain has to
begin one, by its flags, and it replaces all that the proto file says of that. Where
that is more than they say, such as routes, put it in force by policy set first.
Timeouts and retries stay those of the generated code.`,
		Example: `  etcdrpc drain acme/user 10.0.0.7:9000
  etcdrpc drain acme/user --zone eu-1a
  etcdrpc drain acme/user 10.0.0.7:9000 --child-policy ring_hash`,
		Args:              w.instances,
		ValidArgsFunction: a.completeInstances,
		RunE:              a.connected(w.run),
	}
	cmd.Flags().StringVar(&w.Child, "child-policy", "",
		"the `policy` that a new live policy balances by, as the proto file has it: "+strings.Join(liveconfig.PolicyNames(), ", ")+", or gRPC's JSON; none: "+liveconfig.DefaultPolicy)
	cmd.Flags().BoolVar(&w.PreferZone, "prefer-zone", false, "have a new live policy prefer the client's own zone, as prefer_zone in the proto file does")
	cmd.Flags().BoolVar(&w.NoRoutes, "no-routes", false, "begin a live policy without routes even where instances have the metadata \"lane\"")
	cmd.Flags().BoolVar(&w.Force, "force", false, "drain even if a group of a split, a strict lane or clients without LAYOUT_LEASE_SUFFIX are left without an instance, or KEY seems to lie in a namespace")
	complete(cmd.RegisterFlagCompletionFunc("child-policy", cobra.FixedCompletions(liveconfig.PolicyNames(), cobra.ShellCompDirectiveNoFileComp)))
	w.addTo(cmd)
	return cmd
}

func newUndrain(a *app) *cobra.Command {
	w := &write{app: a, Asked: steer.Asked{Kind: steer.Undrain}}
	cmd := &cobra.Command{
		Use:   "undrain KEY INSTANCE...",
		Short: "Send calls to instances again",
		Long: `undrain takes instances, named by their ids or addresses, or chosen by --zone,
--version and --host, off the list "drain" of the live policy, and keeps the rest of
it. An instance that is named need not be registered.`,
		Args:              w.instances,
		ValidArgsFunction: a.completeDrained,
		RunE:              a.connected(w.run),
	}
	w.addTo(cmd)
	return cmd
}
