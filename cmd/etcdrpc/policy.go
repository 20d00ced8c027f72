package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/policyedit"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

func newPolicy(a *app) *cobra.Command {
	policy := &cobra.Command{
		Use:   "policy",
		Short: "Show and change the live config of a service",
		Long: `A live config is a gRPC service config in etcd, at _grpc_config/KEY. Every client of
the service at KEY applies it within moments. Its top-level fields override those of
the config that was generated from the proto file. A policy "etcd" without a childPolicy
changes only what it names.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage.Mistakef("policy needs one of get, set, split, rm and explain")
		},
	}

	policy.AddCommand(newPolicyGet(a), newPolicySet(a), newPolicySplit(a),
		newPolicyRm(a), newPolicyExplain(a))

	return policy
}

func newPolicyGet(a *app) *cobra.Command {
	revision := int64(0)
	cmd := a.ofService(&cobra.Command{
		Use:   "get KEY",
		Short: "Show the live config",
		Long: `get shows the live config and its revision. policy set --revision replaces only that
revision.`,
		RunE: a.connected(func(ctx context.Context, s *store.Store, args []string) error {
			if revision < 0 {
				return usage.Mistakef("--revision must not be below zero")
			}

			live, err := policyAt(ctx, s, args[0], revision)
			if err != nil {
				return err
			}

			if a.output == output.FormatJSON {
				err = output.WriteJSON(a.out, policyJSON{
					args[0], s.Full(live.Key), live.ModRevision,
					liveconfig.AsJSON(string(live.Value)),
				})
			} else {
				output.SayLines(a.out, liveconfig.Pretty(live.Value))
				output.Sayf(a.notes, "Revision %d.\n", live.ModRevision)
			}

			_, refusal := serviceconfig.ParseLive(string(live.Value))
			if err == nil && refusal != nil {
				err = fmt.Errorf("clients refuse this live config: %w", refusal)
			}

			return err
		}),
	})

	cmd.Flags().Int64Var(&revision, "revision", 0,
		"show it as of a `revision` of etcd; 0: the current one")

	return cmd
}

// policyAt returns the live config of a service as of a revision; 0 means the
// current revision. A missing live config is an error.
func policyAt(
	ctx context.Context,
	s *store.Store,
	key string,
	revision int64,
) (*inventory.Entry, error) {
	live, err := s.GetAt(ctx, store.ConfigOf(key).From, revision)
	switch {
	case err == nil && live == nil && revision != 0:
		err = fmt.Errorf("policy of %q: there was no live config at revision %d: to restore that state, run policy rm",
			s.Full(key), revision)

	case err == nil && live == nil:
		// The error of Propose explains why there is no live config.
		_, err = policyedit.Propose(ctx, s,
			policyedit.Request{Key: key, Kind: policyedit.Remove})
		err = fmt.Errorf("policy of %q: %w",
			s.Full(key), cmp.Or(err, policyedit.ErrNoPolicy))
	}

	return live, err
}

type policyJSON struct {
	Key      string `json:"key"`
	EtcdKey  string `json:"etcdKey"`
	Revision int64  `json:"revision"`
	Config   any    `json:"config"` // a string if clients cannot parse it
}

func newPolicyExplain(a *app) *cobra.Command {
	var caller policyedit.Caller
	cmd := a.ofService(&cobra.Command{
		Use:   "explain KEY",
		Short: "Show where calls go under the live config, and why",
		Long: `explain shows which share of a client's calls each instance gets under the live config and,
where that says nothing, under the default of generated code, and why: for the calls with
the lane that --lane names, or without one, of a client in the zone that --zone names.

It assumes that every instance is ready and serves the method called, and ignores a
client's own WithSelector and WithSubset.`,
		Example: `  etcdrpc policy explain acme/user
  etcdrpc policy explain acme/user --lane pr-7 --zone eu-1a`,
		RunE: a.connected(func(ctx context.Context, s *store.Store, args []string) error {
			if caller.Lane != "" && !serviceconfig.ValidLane(caller.Lane) {
				return usage.Mistakef("--lane: %.60q is not a lane: want %s",
					caller.Lane, serviceconfig.WantLane)
			}

			var x *policyedit.Explanation

			// The error of Propose explains a missing policy.
			e, err := policyedit.Propose(ctx, s,
				policyedit.Request{Key: args[0], Kind: policyedit.Remove})
			if err == nil || errors.Is(err, policyedit.ErrNoPolicy) {
				x, err = policyedit.Explain(e.Service, caller)
			}

			if err != nil {
				return fmt.Errorf("policy of %q: %w", s.Full(args[0]), err)
			}

			if config, _ := e.Service.Live(); config != nil {
				x.Notes = append(x.Notes, policyedit.Unlinked(config)...)
			}

			return x.Show(a.out, a.output)
		}),
	})

	cmd.Flags().StringVar(&caller.Lane, "lane", "",
		"the `lane` of the calls (default: calls without a lane)")
	cmd.Flags().StringVar(&caller.Zone, "zone", "",
		"the `zone` of the client (default: a client that does not say its zone)")
	a.completeFields(cmd, "zone")

	return cmd
}

// policyWrite is the common part of the commands that write a live config.
type policyWrite struct {
	*app
	policyedit.Request
	revision int64
	lasts    time.Duration
	flags    *pflag.FlagSet
}

func (a *app) writes(kind policyedit.Kind) *policyWrite {
	return &policyWrite{app: a, Request: policyedit.Request{Kind: kind}}
}

// command makes cmd run do, and adds the common flags.
func (w *policyWrite) command(cmd *cobra.Command, do action) *cobra.Command {
	cmd.RunE = w.connected(do)
	flags := cmd.Flags()
	w.flags = flags
	flags.BoolVar(&w.DryRun, "dry-run", false,
		"show what would change, and write nothing")

	if w.Kind.Drains() {
		cmd.Args = w.instanceArgs
		flags.StringArrayVar(&w.Choice.Zones, "zone", nil,
			"in place of INSTANCE, all that are in this `zone`; may be repeated")
		flags.StringArrayVar(&w.Choice.Versions, "version", nil,
			"in place of INSTANCE, all of this `version`; may be repeated")
		flags.StringArrayVar(&w.Choice.Hosts, "host", nil,
			"in place of INSTANCE, all whose address has this `host`; may be repeated")
		w.completeFields(cmd, "zone", "version")

		return cmd
	}

	flags.Int64Var(&w.revision, "revision", 0,
		"replace only the live config of this `revision`, as policy get shows it; 0: only if there is none")

	if w.Kind == policyedit.Put {
		flags.BoolVar(&w.NoRoutes, "no-routes", false,
			`drop all routes even if instances have the metadata "lane"`)
	}

	return cmd
}

// run edits the live config of the service whose key is the first argument.
func (w *policyWrite) run(ctx context.Context, s *store.Store, args []string) error {
	w.Key = args[0]

	if w.lasts != 0 && w.lasts < time.Second {
		return usage.Mistakef("--for must be at least 1s")
	}

	w.Entry = policyedit.Signed(time.Now(), w.lasts)

	if w.flags.Changed("revision") {
		w.Revision = &w.revision
	}

	e, err := policyedit.Do(ctx, s, w.Request, w.out, w.output)
	w.written = e != nil && e.Written != 0

	// The key may be mistyped.
	if e != nil && len(e.Service.Instances) == 0 && !w.Kind.Drains() {
		output.Sayf(w.notes, "Note: no instance is registered under \"%s\" now.\n",
			s.Full(w.Key))
	}

	if err != nil {
		return fmt.Errorf("%s: %w", w.target(s), err)
	}

	return nil
}

// target returns what the edit changes, to begin the text of errors.
func (w *policyWrite) target(s *store.Store) string {
	switch {
	case !w.Kind.Drains():
		return fmt.Sprintf("policy of %q", s.Full(w.Key))
	case len(w.Names) == 0:
		return fmt.Sprintf("%s instances of %q", w.Kind, w.Key)
	}

	return fmt.Sprintf("%s %q of %q", w.Kind, strings.Join(w.Names, ", "), w.Key)
}

func newPolicySet(a *app) *cobra.Command {
	w := a.writes(policyedit.Put)

	return w.command(&cobra.Command{
		Use:   "set KEY FILE|-|JSON|@REVISION",
		Short: "Write a live config",
		Long: `set writes a live config: the service config in a file, on standard input (-), or in
the argument itself, if that begins with "{"; or, as @REVISION, the live config that KEY
had at a revision of etcd. It refuses a config that gRPC would refuse or misread and, as
drain does, one that would make calls fail. It shows the difference from the current live
config, and writes nothing if that is changed concurrently. With --revision it replaces
only the revision that you started from.

A policy "etcd" without a childPolicy changes only what it names in load_balancing of the
proto file. Any other loadBalancingConfig replaces all of it: the policy, routes, zones
and the rest. set warns of this.`,
		Example: `  etcdrpc policy set acme/user '{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":3}}]}'
  etcdrpc policy set acme/user canary.json --dry-run`,
		Args: keyArgs(cobra.ExactArgs(2)),
		ValidArgsFunction: func(
			cmd *cobra.Command,
			args []string,
			typed string,
		) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return nil, cobra.ShellCompDirectiveDefault // the argument may be a file
			}

			return a.completion(nil)(cmd, args, typed)
		},
	}, func(ctx context.Context, s *store.Store, args []string) (err error) {
		w.Config, err = a.readConfig(ctx, s, args[0], args[1])
		if err != nil {
			return err
		}

		return w.run(ctx, s, args)
	})
}

// readConfig returns the service config in an argument, in a file, on standard
// input, or in etcd at an earlier revision.
func (a *app) readConfig(
	ctx context.Context,
	s *store.Store,
	key, arg string,
) (text string, err error) {
	var raw []byte

	number, isRevision := strings.CutPrefix(arg, policyedit.RevisionSign)
	revision, _ := strconv.ParseInt(number, 10, 64)
	switch {
	case isRevision && revision <= 0:
		return "", usage.Mistakef("invalid revision %.80q: want %s and a number, such as @42; for a file whose name begins with @, give ./ before it",
			arg, policyedit.RevisionSign)
	case isRevision:
		live, err := policyAt(ctx, s, key, revision)
		if err != nil {
			return "", err
		}

		raw = live.Value

	case strings.HasPrefix(strings.TrimSpace(arg), "{"):
		raw = []byte(arg)
	case arg == "-":
		raw, err = io.ReadAll(a.stdin)
	default:
		raw, err = os.ReadFile(arg)
	}

	if err != nil {
		return "", fmt.Errorf("read the service config: %w", err)
	}

	// Windows' editors write a byte order mark.
	text = strings.TrimSpace(strings.TrimPrefix(string(raw), "\ufeff"))
	if text == "" {
		return "", errors.New(
			"the service config is empty: to remove the live config use policy rm")
	}

	return text, nil
}

func newPolicyRm(a *app) *cobra.Command {
	w := a.writes(policyedit.Remove)

	return w.command(a.ofService(&cobra.Command{
		Use:   "rm KEY",
		Short: "Remove the live config, which restores the generated one",
	}), w.run)
}

func newPolicySplit(a *app) *cobra.Command {
	var name string
	var end bool

	w := a.writes(policyedit.Split)
	cmd := w.command(&cobra.Command{
		Use:   "split KEY VERSION=WEIGHT...",
		Short: "Divide the calls among versions",
		Long: `split divides the calls among groups of instances by their weights, and changes nothing
else. Groups are versions, or with --by the values of another metadata name. --end
removes the split.`,
		Example: `  etcdrpc policy split acme/user v1=90 v2=10
  etcdrpc policy split acme/user blue=1 green=1 --by team
  etcdrpc policy split acme/user --end`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := keyArgs(cobra.MinimumNArgs(1))(cmd, args); err != nil {
				return err
			}

			if end == (len(args) > 1) {
				return errors.New(
					"want groups as VERSION=WEIGHT, or --end without groups")
			}

			return nil
		},
		ValidArgsFunction: a.completion(nil),
	}, func(ctx context.Context, s *store.Store, args []string) (err error) {
		w.Groups, err = readGroups(name, args[1:])
		if err != nil {
			return usage.Mistake(err)
		}

		return w.run(ctx, s, args)
	})

	cmd.Flags().StringVar(&name, "by", "version",
		"the `name` of the metadata whose values are the groups")
	cmd.Flags().BoolVar(&end, "end", false, "remove the split")

	return cmd
}

func readGroups(name string, args []string) (groups []serviceconfig.Split, err error) {
	for _, arg := range args {
		sign := strings.LastIndexByte(arg, '=')
		weight, err := strconv.ParseUint(arg[sign+1:], 10, 32)
		if sign <= 0 || err != nil {
			return nil, fmt.Errorf("%.80q is not a group: want VERSION=WEIGHT with a whole number, such as v2=10", arg)
		}

		groups = append(groups, serviceconfig.Split{
			Match:  map[string]string{name: arg[:sign]},
			Weight: uint32(weight),
		})
	}

	return groups, nil
}

// instanceArgs accepts a service key, and either instances or flags that select
// them.
func (w *policyWrite) instanceArgs(_ *cobra.Command, args []string) error {
	chosen := w.Choice.Given()

	switch {
	case len(args) == 0:
		return errors.New("give a KEY")
	case len(args) == 1 && !chosen:
		return errors.New("give an INSTANCE, or --zone, --version or --host")
	case len(args) > 1 && chosen:
		return errors.New(
			"give either INSTANCE or --zone, --version and --host, not both")
	}

	w.Names = args[1:]

	return endpoint.CheckKey(args[0])
}

func newDrain(a *app) *cobra.Command {
	w := a.writes(policyedit.Drain)
	cmd := w.command(&cobra.Command{
		Use:   "drain KEY INSTANCE...",
		Short: "Keep new calls from instances",
		Long: `drain keeps new calls from instances of the service at KEY, named by their ids or
addresses, or chosen by --zone, --version and --host among the instances registered
now. Calls in progress continue, and the instances stay registered. A leader resigns
if another instance can lead.

It adds them to the list "drain" of the live config, and changes nothing else: the
policy and its options stay as the proto file has them. It shows where calls will go, and
refuses to leave the service, a group of a split, a strict lane, or clients that do not
read the layout LEASE_SUFFIX without an instance, unless --force is given: calls then go
to drained instances as a last resort, except those in the strict lane, which fail.`,
		Example: `  etcdrpc drain acme/user 10.0.0.7:9000
  etcdrpc drain acme/user --zone eu-1a
  etcdrpc drain acme/user 10.0.0.7:9000 --for 1h`,
		ValidArgsFunction: a.completion((*inventory.Service).Names),
	}, w.run)

	cmd.Flags().DurationVar(&w.lasts, "for", 0,
		"let the drain end by itself after this `time`, by the clocks of the clients; 0: until undrain")
	cmd.Flags().BoolVar(&w.Force, "force", false,
		"drain even if the service, a group of a split, a strict lane or clients without LAYOUT_LEASE_SUFFIX are left without an instance, or KEY seems to be in a namespace")

	return cmd
}

func newUndrain(a *app) *cobra.Command {
	w := a.writes(policyedit.Undrain)

	return w.command(&cobra.Command{
		Use:   "undrain KEY INSTANCE...",
		Short: "Send calls to instances again",
		Long: `undrain takes instances, named by their ids or addresses, or chosen by --zone,
--version and --host, off the list "drain" of the live config, and changes nothing
else. A named instance need not be registered.`,
		ValidArgsFunction: a.completion(func(s *inventory.Service) []string {
			return inventory.DrainedNames(s.Policy())
		}),
	}, w.run)
}
