package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/policyedit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// addDrainFlags adds the common flags of drain and undrain.
func (w *policyWrite) addDrainFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.Choice.Zone, "zone", "", "in place of INSTANCE, all that are in this `zone`")
	cmd.Flags().StringVar(&w.Choice.Version, "version", "", "in place of INSTANCE, all of this `version`")
	cmd.Flags().StringVar(&w.Choice.Host, "host", "", "in place of INSTANCE, all whose address has this `host`")
	w.addDryRun(cmd)
}

// instanceArgs accepts a service key, and either instances or flags that select them.
func (w *policyWrite) instanceArgs(_ *cobra.Command, args []string) error {
	switch chosen := w.Choice != (policyedit.Choice{}); {
	case len(args) == 0:
		return errors.New("give a KEY")
	case len(args) == 1 && !chosen:
		return errors.New("give an INSTANCE, or --zone, --version or --host")
	case len(args) > 1 && chosen:
		return errors.New("give either INSTANCE or --zone, --version and --host, not both")
	}
	w.Names = args[1:]
	return endpoint.CheckKey(args[0])
}

func newDrain(a *app) *cobra.Command {
	w := &policyWrite{app: a, Request: policyedit.Request{Kind: policyedit.Drain}}
	cmd := &cobra.Command{
		Use:   "drain KEY INSTANCE...",
		Short: "Keep new calls from instances",
		Long: `drain keeps new calls from instances of the service at KEY, named by their ids or
addresses, or chosen by --zone, --version and --host among the instances registered
now. Calls in progress continue, and the instances stay registered. A leader resigns
if another instance can lead.

It adds them to the list "drain" of the live policy, and keeps the rest of the policy.
It shows where calls will go, and refuses to leave a group of a split, a strict lane,
or clients that do not read the layout LEASE_SUFFIX without an instance, unless --force
is given. If no live policy sets how to balance, drain creates one from its flags. It
replaces all of load_balancing in the proto file. If that has more than the flags can
set, such as routes, use policy set first. Timeouts and retries are not changed.`,
		Example: `  etcdrpc drain acme/user 10.0.0.7:9000
  etcdrpc drain acme/user --zone eu-1a
  etcdrpc drain acme/user 10.0.0.7:9000 --child-policy ring_hash`,
		Args:              w.instanceArgs,
		ValidArgsFunction: a.completion(instancesOf),
		RunE:              a.connected(w.run),
	}
	cmd.Flags().StringVar(&w.Child, "child-policy", "",
		"the `policy` that a new live policy balances by, as the proto file has it: "+strings.Join(liveconfig.PolicyNames(), ", ")+", or gRPC's JSON; none: "+liveconfig.DefaultPolicy)
	cmd.Flags().BoolVar(&w.PreferZone, "prefer-zone", false, "let a new live policy prefer the client's own zone, as prefer_zone in the proto file does")
	cmd.Flags().BoolVar(&w.NoRoutes, "no-routes", false, "create a live policy without routes even if instances have the metadata \"lane\"")
	cmd.Flags().BoolVar(&w.Force, "force", false, "drain even if a group of a split, a strict lane or clients without LAYOUT_LEASE_SUFFIX are left without an instance, or KEY seems to be in a namespace")
	complete(cmd.RegisterFlagCompletionFunc("child-policy", cobra.FixedCompletions(liveconfig.PolicyNames(), cobra.ShellCompDirectiveNoFileComp)))
	w.addDrainFlags(cmd)
	return cmd
}

func newUndrain(a *app) *cobra.Command {
	w := &policyWrite{app: a, Request: policyedit.Request{Kind: policyedit.Undrain}}
	cmd := &cobra.Command{
		Use:   "undrain KEY INSTANCE...",
		Short: "Send calls to instances again",
		Long: `undrain takes instances, named by their ids or addresses, or chosen by --zone,
--version and --host, off the list "drain" of the live policy, and keeps the rest of
it. A named instance need not be registered.`,
		Args:              w.instanceArgs,
		ValidArgsFunction: a.completion(drainedOf),
		RunE:              a.connected(w.run),
	}
	w.addDrainFlags(cmd)
	return cmd
}
