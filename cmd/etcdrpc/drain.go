package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
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

// elsewhere has the error of a key that lies in a namespace name the command for that.
func elsewhere(cmd *cobra.Command, s *store.Store, args []string, err error) error {
	place, ok := errors.AsType[*steer.NamespaceError](err)
	if !ok {
		return err
	}
	words := []string{cmd.CommandPath(), output.Shell(place.Key)}
	for _, arg := range args[1:] {
		words = append(words, output.Shell(arg))
	}
	own := cmd.LocalNonPersistentFlags()
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if own.Lookup(f.Name) != nil {
			words = append(words, "--"+f.Name+"="+output.Shell(f.Value.String()))
		}
	})
	return fmt.Errorf("%w: %s --namespace %s", err, strings.Join(words, " "), output.Shell(s.Full(place.Namespace)))
}

func newDrain(a *app) *cobra.Command {
	w := &write{app: a, Asked: steer.Asked{Kind: steer.Drain}}
	hold := time.Duration(0)
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
  etcdrpc drain acme/user --zone eu-1a --for 30m
  etcdrpc drain acme/user 10.0.0.7:9000 --child-policy ring_hash`,
		Args:              w.instances,
		ValidArgsFunction: a.completeInstances,
		RunE: func(cmd *cobra.Command, args []string) error {
			if hold < 0 {
				return usage.Mistake(errors.New("--for must not be below zero"))
			}
			if hold > 0 {
				defer outliveReaders()() // else the drain would stay
			}
			ctx := cmd.Context()
			cmd.SetContext(context.WithoutCancel(ctx)) // undrain after a signal
			return a.connected(func(_ context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
				e, err := w.do(ctx, cmd, s, args)
				if hold == 0 || w.DryRun || err != nil && (e == nil || e.Written == 0) {
					return err
				}
				return errors.Join(err, holdDrained(ctx, cmd, s, e, hold)) // at once, if the output cannot be written
			})(cmd, args)
		},
	}
	cmd.Flags().StringVar(&w.Child, "child-policy", "",
		"the `policy` that a new live policy balances by, as the proto file has it: "+strings.Join(liveconfig.PolicyNames(), ", ")+", or gRPC's JSON; none: "+liveconfig.DefaultPolicy)
	cmd.Flags().BoolVar(&w.PreferZone, "prefer-zone", false, "have a new live policy prefer the client's own zone, as prefer_zone in the proto file does")
	cmd.Flags().BoolVar(&w.NoRoutes, "no-routes", false, "begin a live policy without routes even where instances have the metadata \"lane\"")
	cmd.Flags().BoolVar(&w.Force, "force", false, "drain even if a group of a split, a strict lane or clients without LAYOUT_LEASE_SUFFIX are left without an instance, or KEY seems to lie in a namespace")
	cmd.Flags().DurationVar(&hold, "for", 0, "wait for this `time`, or for Ctrl-C, and undrain")
	complete(cmd.RegisterFlagCompletionFunc("child-policy", cobra.FixedCompletions(liveconfig.PolicyNames(), cobra.ShellCompDirectiveNoFileComp)))
	w.addTo(cmd)
	return cmd
}

// undrainPatience is how long a drain is tried to be taken back after a signal.
const undrainPatience = 30 * time.Second

// holdDrained waits until what an edit has drained is to have calls again, or for a signal, and undrains that. While etcd is
// away it tries again; after a signal for a while, unless another ends the process.
func holdDrained(ctx context.Context, cmd *cobra.Command, s *store.Store, e *steer.Edit, hold time.Duration) error {
	if e.Written == 0 {
		return errors.New("--for undrains only what it has drained itself, and all of that was drained before")
	}
	if !signal.Ignored(syscall.SIGHUP) { // as of a terminal that is closed
		var stop func()
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		context.AfterFunc(ctx, stop)
		defer stop()
	}
	output.Sayf(cmd.ErrOrStderr(), "Leave this command running: it undrains at %s, or Ctrl-C.\n", time.Now().Add(hold).Format(time.DateTime))
	store.Pause(ctx, hold)
	say, again, signalled := output.Once(cmd.ErrOrStderr()), "trying again", time.Time{}
	for {
		notes, err := e.TakeBack(context.WithoutCancel(ctx), s)
		if err == nil {
			for _, note := range append(notes, "What was drained gets calls again.") {
				output.Sayf(cmd.ErrOrStderr(), "%s\n", note)
			}
			return nil
		}
		switch {
		case ctx.Err() == nil:
		case signalled.IsZero():
			again, signalled = fmt.Sprintf("trying again for %v, or until another Ctrl-C", undrainPatience), time.Now()
		case time.Since(signalled) > undrainPatience:
			added, _ := e.Listed()
			return fmt.Errorf("undrain %s of %q, which stays drained: %w", strings.Join(added, ", "), e.Key, err)
		}
		say(err.Error() + "; " + again)
		time.Sleep(store.RetryAfter)
	}
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
