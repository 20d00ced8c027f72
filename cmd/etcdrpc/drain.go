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
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// drainage is what drain and undrain have in common: whose calls, and how to write.
type drainage struct {
	choice steer.Choice
	dryRun bool
}

func (d *drainage) addTo(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.choice.Zone, "zone", "", "in place of INSTANCE, all that are in this `zone`")
	cmd.Flags().StringVar(&d.choice.Version, "version", "", "in place of INSTANCE, all of this `version`")
	cmd.Flags().StringVar(&d.choice.Host, "host", "", "in place of INSTANCE, all whose address has this `host`")
	addDryRun(cmd, &d.dryRun)
}

// args accepts a service key, and either instances or what they have in common.
func (d *drainage) args(_ *cobra.Command, args []string) error {
	switch chosen := d.choice != (steer.Choice{}); {
	case len(args) == 0:
		return errors.New("no KEY is given")
	case len(args) == 1 && !chosen:
		return errors.New("name an INSTANCE, or give --zone, --version or --host")
	case len(args) > 1 && chosen:
		return errors.New("give an INSTANCE, or --zone, --version and --host, and not both")
	}
	return endpoint.CheckKey(args[0])
}

// names returns the instances that are asked for.
func (d *drainage) names(s *survey.Service, args []string) ([]string, error) {
	if len(args) > 1 {
		return args[1:], nil
	}
	return d.choice.Of(s)
}

// edit changes the live policy, and says so on standard output. done says what has come of it, with the instances that it is about.
func (d *drainage) edit(ctx context.Context, a *app, cmd *cobra.Command, s *store.Store, args []string, done string,
	change func(found *survey.Service, c *liveconfig.Config, names []string) (notes []string, err error),
) (*steer.Edit, error) {
	asked := steer.Edit{DryRun: d.dryRun, Revives: cmd.Name() == "undrain"}
	if a.output == output.FormatTable {
		asked.Before = cmd.OutOrStdout()
	}
	e, err := steer.EditDrained(ctx, s, args[0], asked, func(found *survey.Service, c *liveconfig.Config) ([]string, error) {
		names, err := d.names(found, args)
		if err != nil {
			return nil, err
		}
		return change(found, c, names)
	})
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", cmd.Name(), d.subject(args), elsewhere(cmd, s, args, err))
	}
	added, removed := e.Listed()
	names := append(added, removed...)
	if len(args) > 1 {
		names = args[1:]
	}
	e.Done = fmt.Sprintf(done, args[0], strings.Join(names, ", "))
	return e, e.Show(cmd.OutOrStdout(), a.output)
}

// subject says what is drained.
func (d *drainage) subject(args []string) string {
	if len(args) == 1 {
		return fmt.Sprintf("instances of %q", args[0])
	}
	return fmt.Sprintf("%q of %q", strings.Join(args[1:], ", "), args[0])
}

// elsewhere has the error of a key that lies in a namespace name the command for that.
func elsewhere(cmd *cobra.Command, s *store.Store, args []string, err error) error {
	var place *steer.NamespaceError
	if !errors.As(err, &place) {
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
	var begin steer.Beginning
	var d drainage
	hold := time.Duration(0)
	cmd := &cobra.Command{
		Use:   "drain KEY INSTANCE...",
		Short: "Keep new calls from instances",
		Long: `drain has the clients of the service at KEY send no new calls to instances, named
by their ids or their addresses, or chosen by --zone, --version and --host: those
that are registered now, not those to come. Calls under way go on, and the
instances stay registered. One that leads resigns while another can lead.

It adds them to the list "drain" of the live policy, and keeps the rest of it. It
says before what calls will do, and does not leave a group of a split or a strict
lane without an instance, unless by --force. Where there is no live policy yet that
says how to balance, drain has to begin one, by its flags, and it takes the place of
all that the proto file says of that. Where that is more than they say, such as
routes, put it in force by policy set first. Timeouts and retries stay those of the
generated code.`,
		Example: `  etcdrpc drain acme/user 10.0.0.7:9000
  etcdrpc drain acme/user --zone eu-1a --for 30m
  etcdrpc drain acme/user 10.0.0.7:9000 --child-policy ring_hash`,
		Args:              d.args,
		ValidArgsFunction: a.completeInstances,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := liveconfig.ChildPolicy(begin.Child); begin.Child != "" && err != nil {
				return usage.Mistake(fmt.Errorf("--child-policy: %w", err))
			}
			if hold < 0 {
				return usage.Mistake(errors.New("--for must not be below zero"))
			}
			ctx := cmd.Context()
			cmd.SetContext(context.WithoutCancel(ctx)) // undrain after a signal
			return a.connected(func(_ context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
				e, err := d.edit(ctx, a, cmd, s, args, "Clients of %s send no new calls to %s.", func(found *survey.Service, c *liveconfig.Config, names []string) ([]string, error) {
					return drainNotes(ctx, s, &begin, found, c, names)
				})
				if err != nil || hold == 0 || d.dryRun {
					return withFlags(err, args[0])
				}
				return holdDrained(ctx, cmd, s, e, hold)
			})(cmd, args)
		},
	}
	cmd.Flags().StringVar(&begin.Child, "child-policy", "",
		"the `policy` that a new live policy balances by, as the proto file has it: "+strings.Join(liveconfig.PolicyNames(), ", ")+", or gRPC's JSON; none: "+liveconfig.DefaultPolicy)
	cmd.Flags().BoolVar(&begin.PreferZone, "prefer-zone", false, "have a new live policy prefer the client's own zone, as prefer_zone in the proto file does")
	cmd.Flags().BoolVar(&begin.NoRoutes, "no-routes", false, "begin a live policy without routes even where instances have the metadata \"lane\"")
	cmd.Flags().BoolVar(&begin.Force, "force", false, "drain even if a group of a split or a strict lane is left without an instance, or KEY seems to lie in a namespace")
	cmd.Flags().DurationVar(&hold, "for", 0, "wait for this `time`, or for Ctrl-C, and undrain")
	complete(cmd.RegisterFlagCompletionFunc("child-policy", cobra.FixedCompletions(liveconfig.PolicyNames(), cobra.ShellCompDirectiveNoFileComp)))
	d.addTo(cmd)
	return cmd
}

// drainNotes drains instances in a live config, and says what comes of it, and for whom.
func drainNotes(ctx context.Context, s *store.Store, begin *steer.Beginning, found *survey.Service, c *liveconfig.Config, names []string) ([]string, error) {
	notes, err := begin.Drain(found, c, names...)
	if err != nil || len(notes) == 0 {
		return nil, err
	}
	led, err := steer.LeaderNotes(ctx, s, found, c.Etcd().Drain)
	where := "without a namespace"
	if namespace := s.Full(""); namespace != "" {
		where = "in the namespace " + namespace
	}
	return append(append(notes, led...), fmt.Sprintf("It goes to %s, for the clients of %s %s.", s.Full(store.ConfigOf(found.Key).From), found.Key, where)), err
}

// withFlags has an error of drain say which flags help.
func withFlags(err error, key string) error {
	switch {
	case errors.Is(err, steer.ErrNoRoutes):
		return fmt.Errorf("%w. Put a policy with the routes of the proto file in force first: etcdrpc policy set %s FILE. If it has none, give --no-routes",
			err, output.Shell(key))
	case errors.Is(err, steer.ErrStands):
		return fmt.Errorf("%w. Leave --child-policy, --prefer-zone and --no-routes out, or change it by etcdrpc policy set %s FILE", err, output.Shell(key))
	case errors.Is(err, steer.ErrLeavesNone):
		return fmt.Errorf("%w, or give --force", err)
	}
	return err
}

// holdDrained waits until what an edit has drained is to have calls again, or for a signal, and undrains that. While etcd is
// away it tries again, but not after a signal.
func holdDrained(ctx context.Context, cmd *cobra.Command, s *store.Store, e *steer.Edit, hold time.Duration) error {
	if e.Written == 0 {
		return errors.New("--for undrains only what it has drained, and that was drained before: nothing is undrained")
	}
	if !signal.Ignored(syscall.SIGHUP) { // as of a terminal that is closed
		var stop func()
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	output.Sayf(cmd.ErrOrStderr(), "Until %s, or Ctrl-C, this command has to go on: then it undrains.\n", time.Now().Add(hold).Format(time.DateTime))
	store.Pause(ctx, hold)
	say := output.Once(cmd.ErrOrStderr())
	for {
		err := e.Undo(context.WithoutCancel(ctx), s)
		if err == nil {
			output.Sayf(cmd.ErrOrStderr(), "What was drained has calls again.\n")
			return nil
		}
		if ctx.Err() != nil {
			added, _ := e.Listed()
			return fmt.Errorf("undrain %s of %q, which stays drained: %w", strings.Join(added, ", "), e.Service.Key, err)
		}
		say(err.Error() + "; trying again")
		store.Pause(ctx, store.RetryAfter)
	}
}

func newUndrain(a *app) *cobra.Command {
	var d drainage
	cmd := &cobra.Command{
		Use:   "undrain KEY INSTANCE...",
		Short: "Let instances have calls again",
		Long: `undrain takes instances, named by their ids or addresses, or chosen by --zone,
--version and --host, off the list "drain" of the live policy, and keeps the rest of
it. An instance that is named need not be registered.`,
		Args:              d.args,
		ValidArgsFunction: a.completeDrained,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			_, err := d.edit(ctx, a, cmd, s, args, "Clients of %s send calls to %s again.", func(found *survey.Service, c *liveconfig.Config, names []string) ([]string, error) {
				return steer.Undrain(found, c, names...)
			})
			return err
		}),
	}
	d.addTo(cmd)
	return cmd
}
