package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// editTries bounds how often an edit is done anew because someone else was faster.
const editTries = 10

// drainOptions say what a live policy that drain has to begin balances by.
type drainOptions struct {
	child      string
	preferZone bool
	noRoutes   bool // it may lack routes, though instances say their lanes
	dryRun     bool
}

func newDrain(a *app) *cobra.Command {
	var opts drainOptions
	cmd := &cobra.Command{
		Use:   "drain KEY INSTANCE",
		Short: "Keep new calls from an instance",
		Long: `drain has the clients of the service at KEY send no new calls to an instance, named
by its id or its address. Calls under way go on, and the instance stays registered.

It adds the instance to the list "drain" of the live policy, and keeps the rest of
it. Where there is no live policy yet that says how to balance, drain has to begin
one, and it takes the place of all that the proto file says of that; etcd does not
know what that is. So say it with --child-policy where it is not round_robin, and with
--prefer-zone where the proto file has prefer_zone. Where it has more, such as routes,
put it in force by policy set first: drain refuses to begin a policy without routes
while instances have the metadata "lane", unless --no-routes says that there are none.
Timeouts and retries stay those of the generated code.`,
		Example: `  etcdrpc drain acme/user 10.0.0.7:9000
  etcdrpc drain acme/user 10.0.0.7:9000 --child-policy ring_hash`,
		Args:              keyArgs(1),
		ValidArgsFunction: a.completeInstances,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store, args []string) error {
			done := fmt.Sprintf("Clients of %s send no new calls to %s.", args[0], args[1])
			e, err := editDrained(ctx, s, edit{key: args[0], dryRun: opts.dryRun, done: done}, func(s *service, c *liveConfig) ([]string, error) {
				return opts.drain(s, c, args[1])
			})
			if err != nil {
				return fmt.Errorf("drain %q of %q: %w", args[1], args[0], err)
			}
			return e.show(cmd.OutOrStdout(), a.output)
		}),
	}
	cmd.Flags().StringVar(&opts.child, "child-policy", "round_robin",
		"the `policy` that a new live policy balances by: round_robin, pick_first, least_request, ring_hash, weighted, peak_ewma, or gRPC's JSON")
	cmd.Flags().BoolVar(&opts.preferZone, "prefer-zone", false, "have a new live policy prefer the client's own zone")
	cmd.Flags().BoolVar(&opts.noRoutes, "no-routes", false, "begin a live policy without routes even where instances have the metadata \"lane\"")
	complete(cmd.RegisterFlagCompletionFunc("child-policy", cobra.FixedCompletions(sortedKeys(shortPolicies), cobra.ShellCompDirectiveNoFileComp)))
	addDryRun(cmd, &opts.dryRun)
	return cmd
}

func newUndrain(a *app) *cobra.Command {
	dryRun := false
	cmd := &cobra.Command{
		Use:   "undrain KEY INSTANCE",
		Short: "Let an instance have calls again",
		Long: `undrain takes an instance, named by its id or its address, off the list "drain" of the
live policy, and keeps the rest of it. The instance need not be registered.`,
		Args:              keyArgs(1),
		ValidArgsFunction: a.completeDrained,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store, args []string) error {
			done := fmt.Sprintf("Clients of %s send calls to %s again.", args[0], args[1])
			e, err := editDrained(ctx, s, edit{key: args[0], dryRun: dryRun, done: done}, func(s *service, c *liveConfig) ([]string, error) {
				return undrain(s, c, args[1])
			})
			if err != nil {
				return fmt.Errorf("undrain %q of %q: %w", args[1], args[0], err)
			}
			return e.show(cmd.OutOrStdout(), a.output)
		}),
	}
	addDryRun(cmd, &dryRun)
	return cmd
}

// editDrained changes the live policy of a service by what change does to it, again and again until
// nobody else has changed it meanwhile.
func editDrained(ctx context.Context, s *store, e edit, change func(*service, *liveConfig) (notes []string, err error)) (*edit, error) {
	key := e.key
	for try := 1; ; try++ {
		entries, _, _, err := s.entriesOf(ctx, key)
		if err != nil {
			return nil, err
		}
		found, _ := surveyKey(key, entries)
		if found.config, err = s.get(ctx, configPrefix+key); err != nil {
			return nil, err
		}
		e.old, e.service = found.config, found
		config, err := parseConfig([]byte(e.oldText()))
		if err != nil {
			return nil, fmt.Errorf("%w; mend it with policy set or policy rm", err)
		}
		if e.notes, err = change(found, config); err != nil {
			return nil, err
		}
		e.new = config.String()
		if err = e.apply(ctx, s); errors.Is(err, errChanged) && try < editTries {
			continue
		}
		return &e, err
	}
}

func (o *drainOptions) drain(s *service, c *liveConfig, name string) (notes []string, err error) {
	i, err := s.find(name)
	if err != nil {
		return nil, err
	}
	drained, err := c.drained()
	if err != nil {
		return nil, err
	}
	clients := s.merged()
	called := cmp.Or(clients.at(i.Addr), i)
	if called.isDrained(drained) {
		return nil, nil
	}
	drained = append(drained, s.drainName(i, called))
	if err := clients.checkLeft(drained); err != nil {
		return nil, err
	}
	if err := clients.checkLanesLeft(livePolicy([]byte(c.String())), drained); err != nil {
		return nil, err
	}
	child, err := childPolicy(o.child)
	if err != nil {
		return nil, usageError{fmt.Errorf("--child-policy: %w", err)}
	}
	begins := !c.namesPolicy()
	if begins && !o.noRoutes {
		if err := clients.checkNoLanes(); err != nil {
			return nil, err
		}
	}
	if err := c.setDrained(drained, child); err != nil {
		return nil, err
	}
	if begins && o.preferZone {
		c.etcd["preferZone"] = json.RawMessage("true")
		return nil, c.put()
	}
	return nil, nil
}

// find is the instance with an id or an address. An etcd key's last part will do as well.
func (s *service) find(name string) (*instance, error) {
	for n := range s.instances {
		i := &s.instances[n]
		if name == i.Instance || name == i.Addr || i.entry.key == s.key+"/"+name || i.entry.key == s.key+name {
			return i, nil
		}
	}
	if len(s.instances) == 0 {
		return nil, errors.New("no instance is registered under this key")
	}
	names := make([]string, 0, len(s.instances))
	for _, i := range s.instances {
		names = append(names, i.Instance)
	}
	return nil, fmt.Errorf("no such instance is registered: there are %s", someOf(slices.Compact(names)))
}

// drainName returns what the list calls an instance: its id, or the address where clients may know it by another id. They
// do where they call its address by what another entry says, and for home-made JSON, where it depends on the json_layout of a
// client which field is the id.
func (s *service) drainName(i, called *instance) string {
	if called.Instance != i.Instance || isHomeMade(s.key, called.entry) {
		return i.Addr
	}
	return i.Instance
}

// checkLeft refuses a list that leaves no instance: clients ignore such a one.
func (s *service) checkLeft(drained []string) error {
	left := slices.ContainsFunc(s.instances, func(i instance) bool {
		return !i.isDrained(drained)
	})
	if !left {
		return errors.New("it is the last one that is not drained, and clients ignore a list that leaves them none: register another first")
	}
	return nil
}

func undrain(s *service, c *liveConfig, name string) (notes []string, err error) {
	drained, err := c.drained()
	if err != nil {
		return nil, err
	}
	names := []string{name}
	if i, err := s.find(name); err == nil {
		names = append(names, i.Instance, i.Addr)
	}
	left := slices.DeleteFunc(slices.Clone(drained), func(d string) bool { return slices.Contains(names, d) })
	if len(left) == len(drained) {
		if len(drained) == 0 {
			return nil, errors.New("nothing is drained there")
		}
		return nil, fmt.Errorf("it is not drained; what is: %s", strings.Join(drained, ", "))
	}
	if err := c.setDrained(left, nil); err != nil {
		return nil, err
	}
	if len(left) > 0 || !c.begunByDrain() {
		return nil, nil
	}
	return []string{fmt.Sprintf("Nothing is drained any more, but this policy still stands in place of the generated one; "+
		"if that is not wanted: etcdrpc policy rm %s", s.key)}, nil
}
