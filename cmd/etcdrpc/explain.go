package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

func newPolicyExplain(a *app) *cobra.Command {
	var from caller
	cmd := &cobra.Command{
		Use:   "explain KEY",
		Short: "Show where calls go by the live policy, and why",
		Long: `explain shows which share of a client's calls each instance gets by the live policy,
and why: for the calls with the lane that --lane names, or without one, of a client
in the zone that --zone names.

It supposes that every instance is ready and serves the method called, and knows
nothing of a client's own WithSelector and WithSubset.`,
		Example: `  etcdrpc policy explain acme/user
  etcdrpc policy explain acme/user --lane pr-7 --zone eu-1a`,
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store, args []string) error {
			if from.Lane != "" && !serviceconfig.ValidLane(from.Lane) {
				return usageError{fmt.Errorf("--lane: %.60q is no lane: want %s", from.Lane, serviceconfig.WantLane)}
			}
			entries, _, _, err := s.entriesOf(ctx, args[0])
			if err != nil {
				return err
			}
			found, _ := surveyKey(args[0], entries)
			if found.config, err = s.get(ctx, configPrefix+args[0]); err != nil {
				return err
			}
			x, err := explain(found, from)
			if err != nil {
				return err
			}
			return x.show(cmd.OutOrStdout(), a.output)
		}),
	}
	cmd.Flags().StringVar(&from.Lane, "lane", "", "the `lane` of the calls; none: calls without a lane")
	cmd.Flags().StringVar(&from.Zone, "zone", "", "the `zone` of the client; none: a client that does not say its zone")
	return cmd
}

// caller is whose calls are explained.
type caller struct {
	Lane string `json:"lane"`
	Zone string `json:"zone"`
}

// explanation says where the calls of a client go.
type explanation struct {
	Key string `json:"key"`
	caller
	Policy    string      `json:"policy"` // that picks among the instances of a set
	Instances []explained `json:"instances"`
	Notes     []string    `json:"notes"`

	service *service // with the instances that clients call
	etcd    *serviceconfig.Etcd
	placed  *serviceconfig.Placement // nil: there are no lanes
}

// explained is one instance with its share of the calls, in percent.
type explained struct {
	Instance string  `json:"instance"`
	Addr     string  `json:"addr"`
	Share    float64 `json:"share"`
	Why      string  `json:"why"`
}

// explain goes through the passes that a client goes through, in the same order, with every instance ready.
func explain(s *service, from caller) (*explanation, error) {
	if s.config == nil {
		return nil, noPolicy(s.key)
	}
	config, err := serviceconfig.ParseLive(string(s.config.value))
	switch {
	case err != nil:
		return nil, fmt.Errorf("clients do not go by the live policy of %s: %w", s.key, err)
	case len(config.LoadBalancing) == 0:
		return nil, fmt.Errorf("the live policy of %s does not say how to balance: its clients go by what their code was generated with", s.key)
	}
	x := &explanation{Key: s.key, caller: from, service: s.merged(), Notes: []string{}}
	x.setPolicy(config.LoadBalancing[0])
	x.placed = x.service.placement(x.etcd)
	all := make([]int, len(x.service.instances))
	for i := range all {
		all[i] = i
		x.Instances = append(x.Instances, explained{Instance: x.service.instances[i].Instance, Addr: x.service.instances[i].Addr})
	}
	x.split(x.lane(x.drain(all)))
	x.qualify()
	x.addUncalled(s)
	return x, nil
}

// setPolicy takes in a policy, and which one below it picks.
func (x *explanation) setPolicy(policy serviceconfig.Policy) {
	if x.etcd, _ = policy.Config.(*serviceconfig.Etcd); x.etcd == nil {
		x.etcd = &serviceconfig.Etcd{ChildPolicy: []serviceconfig.Policy{policy}}
	}
	picks := x.etcd.ChildPolicy[0]
	if detection, ok := picks.Config.(*serviceconfig.OutlierDetection); ok {
		x.note("An instance that fails more often than the others has no calls for a while: the shares are those while none does.")
		picks = detection.ChildPolicy[0]
	}
	x.Policy = picks.Name
}

// qualify says when the shares are others.
func (x *explanation) qualify() {
	if x.etcd.Subset > 0 {
		x.note("Each client uses %d instances of a set, different ones in each process; the shares are those over many clients.", x.etcd.Subset)
	}
	if x.etcd.ZoneMinPercent > 0 && x.Zone != "" {
		x.note("While less than %d %% of the zone's instances are ready, calls go to other zones in proportion to what is missing.", x.etcd.ZoneMinPercent)
	}
	if x.etcd.SlowStart != nil {
		x.note("An instance that has just started has less: its share grows for %v.", time.Duration(x.etcd.SlowStart.Window))
	}
}

// addUncalled adds the entries of the service that clients make no instance of.
func (x *explanation) addUncalled(s *service) {
	called := make(map[string]*instance)
	for n := range x.service.instances {
		called[x.service.instances[n].Addr] = &x.service.instances[n]
	}
	for _, i := range s.instances {
		why := "is being withdrawn by its owner"
		if of := called[i.Addr]; of != nil {
			if of.entry.key == i.entry.key {
				continue
			}
			why = "has the address of " + of.Instance + ", which stands for both"
		}
		x.Instances = append(x.Instances, explained{Instance: i.Instance, Addr: i.Addr, Why: why})
	}
	slices.SortStableFunc(x.Instances, func(a, b explained) int {
		return cmp.Or(compareNames(a.Instance, b.Instance), compareNames(a.Addr, b.Addr))
	})
}

func (x *explanation) note(format string, args ...any) {
	x.Notes = append(x.Notes, fmt.Sprintf(format, args...))
}

// keep returns the instances of a set that pass, and says of the others why they do not.
func (x *explanation) keep(set []int, pass func(i int) (ok bool, why string)) []int {
	var left []int
	for _, i := range set {
		ok, why := pass(i)
		if ok {
			left = append(left, i)
		} else if x.Instances[i].Why == "" {
			x.Instances[i].Why = why
		}
	}
	return left
}

// drain leaves out what is drained.
func (x *explanation) drain(set []int) []int {
	drains := func(i int) bool { return x.service.instances[i].isDrained(x.etcd.Drain) }
	switch {
	case len(x.etcd.Drain) == 0:
		return set
	case !slices.ContainsFunc(set, func(i int) bool { return !drains(i) }):
		x.note("The drain names every instance and is ignored.")
		return set
	}
	keepBase := x.placed != nil && x.service.baseIsDrained(x.placed, x.etcd.Drain)
	if keepBase {
		x.note("The drain names every instance that is in no lane, and is ignored for these.")
	}
	return x.keep(set, func(i int) (bool, string) {
		return !drains(i) || keepBase && x.placed.Of[i] == nil, "is drained"
	})
}

// lane leaves the instances of the caller's lane, or of the base.
func (x *explanation) lane(set []int) []int {
	if x.placed == nil {
		if x.Lane != "" {
			x.note("The live policy has no routes, so lanes make no difference.")
		}
		return set
	}
	in := func(i int) bool { return slices.Contains(x.placed.Of[i], x.Lane) }
	strict := serviceconfig.NewLanes(x.etcd.Route).Strict(x.Lane)
	switch {
	case x.Lane == "":
	case strict || slices.ContainsFunc(set, in):
		left := x.keep(set, func(i int) (bool, string) { return in(i), "is not in the lane " + x.Lane })
		if len(left) == 0 {
			x.note("The calls fail: the lane %q is strict, and no instance of it may be called.", x.Lane)
		}
		return left
	default:
		x.note("No instance that may be called is in the lane %q, so its calls go where those without a lane do.", x.Lane)
	}
	base := func(i int) bool { return x.placed.Of[i] == nil }
	if !slices.ContainsFunc(set, base) {
		x.note("Every instance is in a lane, so the calls without one go to all.")
		return set
	}
	return x.keep(set, func(i int) (bool, string) {
		if lanes := x.placed.Of[i]; len(lanes) > 0 {
			return base(i), "is in a lane: " + fmt.Sprint(lanes)
		}
		return base(i), "is of no lane that clients make, and not of the base either"
	})
}

// split divides the calls among the groups, and shares each group's part out.
func (x *explanation) split(set []int) {
	splits := x.etcd.Split
	if len(splits) == 0 {
		x.share(set, 100, x.laneOf(set))
		return
	}
	groups := make([][]int, len(splits)+1)
	matcher := serviceconfig.NewMatcher(splits)
	for _, i := range set {
		g := matcher.Match(x.service.instances[i].Field)
		if g < 0 {
			g = len(splits)
		}
		groups[g] = append(groups[g], i)
	}
	weights := make([]float64, len(groups))
	total, used := 0.0, 0.0
	for g, group := range groups {
		if len(group) > 0 && g < len(splits) {
			weights[g] = float64(splits[g].Weight)
		}
		total += weights[g]
		used += float64(min(1, len(group)))
	}
	for g, group := range groups {
		why := "matches no group of the split"
		if g < len(splits) {
			why = fmt.Sprintf("in split[%d], of weight %d", g, splits[g].Weight)
		}
		switch {
		case len(group) == 0 && g < len(splits):
			x.note("split[%d] has no instance here: the other groups have its share.", g)
		case total == 0:
			x.share(group, 100/max(1, used), why+"; no group with a weight has an instance")
		case weights[g] == 0:
			x.keep(group, func(int) (bool, string) { return false, why + ", while others have one" })
		default:
			x.share(group, 100*weights[g]/total, why)
		}
	}
}

// laneOf says why the instances of a set get calls, where there is no split.
func (x *explanation) laneOf(set []int) string {
	switch {
	case x.placed == nil || len(set) == 0:
		return ""
	case x.Lane != "" && slices.Contains(x.placed.Of[set[0]], x.Lane):
		return "in the lane " + x.Lane
	case x.placed.Of[set[0]] == nil:
		return "in no lane"
	}
	return ""
}

// share shares a part of the calls out among the instances of a set that are in the client's zone or, if there are none, all.
func (x *explanation) share(set []int, percent float64, why string) {
	near := func(i int) bool { return x.service.instances[i].Zone == x.Zone }
	if x.etcd.PreferZone && x.Zone != "" && slices.ContainsFunc(set, near) {
		set = x.keep(set, func(i int) (bool, string) { return near(i), "is in another zone" })
		why = join(why, "in the zone "+x.Zone)
	}
	weight := func(i int) float64 {
		if x.Policy == serviceconfig.WeightedName || x.Policy == serviceconfig.RingHashName {
			return float64(max(1, x.service.instances[i].Weight))
		}
		return 1
	}
	total := 0.0
	for _, i := range set {
		total += weight(i)
	}
	for _, i := range set {
		x.Instances[i].Share, x.Instances[i].Why = percent*weight(i)/total, cmp.Or(why, "may be called")
	}
}

// join joins two reasons, of which the first may be empty.
func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + ", " + b
}

// among says how the shares within a set come about.
func (x *explanation) among() string {
	switch x.Policy {
	case serviceconfig.PickFirstName:
		return "pick_first keeps each client to one instance of a set: the shares are those over many clients that shuffle."
	case serviceconfig.RingHashName:
		return "ring_hash picks by the affinity of a call: the shares are those over many keys."
	case serviceconfig.RoundRobinName, serviceconfig.WeightedName:
		return ""
	}
	return x.Policy + " picks by what it sees of the instances: the shares are those of instances that do equally well."
}

var explainedHead = []string{"SHARE", "INSTANCE", "ADDRESS", "WHY"}

func (x *explanation) show(out io.Writer, f format) error {
	if among := x.among(); among != "" {
		x.note("%s", among)
	}
	if f == formatJSON {
		return writeJSON(out, x)
	}
	rows := make([][]string, len(x.Instances))
	for n, i := range x.Instances {
		rows[n] = []string{strconv.FormatFloat(i.Share, 'f', 1, 64) + " %", i.Instance, i.Addr, i.Why}
	}
	table(out, explainedHead, rows)
	for _, note := range x.Notes {
		sayf(out, "%s\n", note)
	}
	return nil
}
