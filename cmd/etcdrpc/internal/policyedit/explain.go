// Package policyedit edits the live config of a service, and explains which
// instances clients call under it.
package policyedit

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Caller describes the client whose calls are explained.
type Caller struct {
	Lane string `json:"lane"`
	Zone string `json:"zone"`
}

// Explanation is the share of a client's calls that each instance gets.
type Explanation struct {
	Key string `json:"key"`
	Caller

	// child policy that picks an instance of a group; "" for that of the proto
	// file
	Policy string `json:"policy"`

	// instance that gets the calls for the leader; "" if unknown
	Leader string `json:"leader,omitempty"`

	Instances []inventory.Instance `json:"-"` // with shares, sorted
	Notes     []string             `json:"notes"`

	generalFrom int // index of the first note that does not depend on the instances
	etcd        *serviceconfig.Etcd
	plan        *inventory.Plan
	service     *inventory.Service
}

// Explain computes the shares of a client's calls under the live config. What
// the live config does not set comes from the default of generated code.
// Explain assumes that every instance is ready.
func Explain(s *inventory.Service, caller Caller) (*Explanation, error) {
	config, err := s.Live()
	switch {
	case s.Denied != nil:
		return nil, s.Denied
	case err != nil:
		return nil, fmt.Errorf(refused+"%w", err)
	case s.Config == nil && len(s.Instances) == 0:
		return nil, ErrNoPolicy
	}

	x := &Explanation{Key: s.Key, Caller: caller, Notes: []string{}, service: s}
	x.readPolicy(cmp.Or(config, new(serviceconfig.Config)))

	called := s.Merged()
	x.plan = called.Plan(x.etcd, caller.Zone)
	x.Notes = append(x.Notes, x.plan.Reports...)
	x.share(x.lane())
	x.generalFrom = len(x.Notes)
	x.noteOptions()

	if note := x.policyNote(); note != "" {
		x.note("%s", note)
	}

	if len(s.Candidates) > 0 {
		x.Leader = s.Candidates[0].Instance
		x.note("%s leads %s: it gets the calls for the leader, independent of the shares.",
			x.Leader, x.Key)
	}

	x.Instances = s.WithUncalled(called)

	return x, nil
}

// readPolicy sets the policy "etcd" and the name of its child policy, and skips
// outlier detection above it.
func (x *Explanation) readPolicy(config *serviceconfig.Config) {
	policies := config.LoadBalancing
	if len(policies) > 0 {
		if detection, ok := policies[0].Config.(*serviceconfig.OutlierDetection); ok {
			x.note("An instance that fails more often than the others gets no calls for a while: the shares assume that none does.")
			policies = detection.ChildPolicy
		}
	}

	x.etcd = assumedPolicy(config, x.service, false)
	if config.Etcd() == nil {
		x.etcd.ChildPolicy = policies
	}

	if len(x.etcd.ChildPolicy) > 0 {
		x.Policy = x.etcd.ChildPolicy[0].Name
	}
}

func (x *Explanation) note(format string, args ...any) {
	x.Notes = append(x.Notes, fmt.Sprintf(format, args...))
}

// members returns a lane's instances without the drained ones.
func (x *Explanation) members(l *planner.Lane) (all []*inventory.Instance) {
	for _, m := range l.Members {
		if int(m) < x.plan.Live {
			all = append(all, x.plan.All[m])
		}
	}

	return all
}

// lane returns the lane that the caller's calls go to, and adds a note on the
// choice.
func (x *Explanation) lane() *planner.Lane {
	base := x.plan.Base

	if !x.plan.HasLanes() {
		if x.Lane != "" {
			x.note("This policy has no routes, so lanes have no effect.")
		}

		return base
	}

	l := cmp.Or(x.plan.Lane(x.Lane), &planner.Lane{Name: x.Lane, Strict: true})
	switch {
	case l != base && len(x.members(l)) > 0:
		return l

	case l != base && l.Strict:
		x.note("The calls fail: the lane %q is strict, and no instance of it may be called.",
			x.Lane)

		return l

	case x.Lane != "":
		x.note("No instance that may be called is in the lane %q, so its calls go where those without a lane do.", x.Lane)
	}

	return base
}

// share sets the share of each instance of a lane. Drained instances get a
// share only if all in the lane are drained.
func (x *Explanation) share(l *planner.Lane) {
	members := x.members(l)
	groups := slices.DeleteFunc(x.plan.Groups(l), func(g planner.Group) bool {
		return !g.Tiers[0].Class.IsLive() && len(members) > 0
	})

	total := 0.0
	for _, g := range groups {
		total += float64(g.Weight)
	}

	for _, g := range groups {
		part := 100 * float64(g.Weight) / total
		why := x.why(l, g)

		if total == 0 {
			part = 100 / float64(len(groups))
			why += "; no group with a weight has an instance"
		}

		x.distribute(g.Tiers[0].Members, part, why)
	}

	in := make(map[*inventory.Instance]bool)
	for _, i := range members {
		in[i] = true
	}

	for _, i := range x.plan.Endpoints {
		if i.Share == nil {
			i.Share = &inventory.Share{Why: x.reason(i, l, in[i])}
		}
	}
}

// why returns the reason why the instances of a lane's group are called.
func (x *Explanation) why(l *planner.Lane, g planner.Group) string {
	first := x.plan.All[g.Tiers[0].Members[0]]
	splits := x.etcd.Split
	at := x.plan.Config.Group(&first.Endpoint)

	switch {
	case len(splits) == 0 && x.plan.HasLanes() && l.Name != "":
		return "in the lane " + l.Name
	case len(splits) == 0 && x.plan.HasLanes():
		return "in no lane"
	case !g.Tiers[0].Class.IsLive():
		return "is drained, as all others are"
	case at < len(splits):
		return fmt.Sprintf("in the group %s, of weight %d", splits[at].Name(),
			splits[at].Weight)
	case len(splits) > 0:
		return "matches no group of the split"
	}

	return ""
}

// distribute divides a percentage of the calls among instances, by weight if
// the policy does.
func (x *Explanation) distribute(members []int32, percent float64, why string) {
	if percent == 0 {
		return
	}

	if x.plan.HasZones() && x.plan.All[members[0]].Zone == x.Zone {
		if why != "" {
			why += ", "
		}

		why += "in the zone " + x.Zone
	}

	weight := func(m int32) float64 {
		if x.Policy == serviceconfig.WeightedName ||
			x.Policy == serviceconfig.RingHashName {
			return float64(max(1, x.plan.All[m].Weight))
		}

		return 1
	}

	total := 0.0
	for _, m := range members {
		total += weight(m)
	}

	for _, m := range members {
		x.plan.All[m].Share = &inventory.Share{
			Percent: percent * weight(m) / total,
			Why:     cmp.Or(why, "may be called"),
		}
	}
}

// reason returns why an instance gets no calls of lane l. in reports whether
// the instance is in l.
func (x *Explanation) reason(i *inventory.Instance, l *planner.Lane, in bool) string {
	at := x.plan.Config.Group(&i.Endpoint)
	switch {
	case x.plan.Drain.Drained[&i.Endpoint]:
		return "is drained"
	case !in && l != x.plan.Base:
		return "is not in the lane " + x.Lane
	case !in && len(x.plan.Placed.Of[&i.Endpoint]) == 0:
		return "names only lanes that are invalid or above the bound"
	case !in:
		return "is in a lane: " + fmt.Sprint(x.plan.Placed.Of[&i.Endpoint])

	case at < len(x.etcd.Split) && x.etcd.Split[at].Weight == 0:
		return fmt.Sprintf(
			"in the group %s, of weight 0, while other groups have a weight",
			x.etcd.Split[at].Name())

	case at == len(x.etcd.Split) && at > 0:
		return "matches no group of the split, while other instances do"
	}

	return "is in another zone"
}

// noteOptions explains the effects of the options that are set.
func (x *Explanation) noteOptions() {
	e := x.etcd
	when := func(applies bool, format string, args ...any) {
		if applies {
			x.note(format, args...)
		}
	}

	when(e.PrefersZone() && x.Zone == "",
		"These are the shares of a client without a zone; others prefer the instances of their own.")
	when(e.ZoneMinPercent > 0 && x.Zone != "",
		"While less than %d %% of the zone's instances are ready, calls go to other zones in proportion to what is missing.",
		e.ZoneMinPercent)
	when(e.Subset > 0,
		"Each client uses %s of a set, different ones in each process; the shares are those over many clients.",
		output.Counted(int(e.Subset), "instance"))
	when(e.SlowStart != nil,
		"An instance that has just started has less: its share grows for %v.",
		e.SlowStart)
	when(len(e.Route) > 0 && x.Lane == "",
		"These are the shares of calls without a lane.")
	when(e.MaxConcurrentRequests > 0,
		"While a client has %d calls under way at an instance, its calls go to others.",
		e.MaxConcurrentRequests)

	counted := "instances"
	if x.plan.HasLanes() {
		counted = "instances in no lane"
	}

	when(e.MinHealthyPercent > 0,
		"A drain is followed while it leaves at least %d %% of the %s.",
		e.MinHealthyPercent, counted)
}

// policyNote explains how the child policy divides calls among instances. It
// returns "" for even and for weighted shares.
func (x *Explanation) policyNote() string {
	switch x.Policy {
	case "":
		text := "Where the live config says nothing, clients use load_balancing of the proto file, which is not in etcd: these shares are those of round_robin"
		if x.plan.HasLanes() {
			text += ", in the lanes of the metadata \"lane\""
		}

		return text + "."

	case serviceconfig.PickFirstName:
		return "pick_first keeps each client to one instance of a set: the shares are averages over many clients that shuffle."
	case serviceconfig.RingHashName:
		return "ring_hash picks by the affinity of a call: the shares are averages over many keys."
	case serviceconfig.RoundRobinName, serviceconfig.WeightedName:
		return ""
	}

	return x.Policy + " picks by the measured load of the instances: the shares assume equal load."
}

// Show writes the explanation.
func (x *Explanation) Show(out io.Writer, f output.Format) error {
	shown := struct {
		*Explanation
		Instances []inventory.JSON `json:"instances"`
	}{Explanation: x}
	for _, i := range x.Instances {
		shown.Instances = append(shown.Instances, x.service.JSON(&i))
	}

	return output.Show(out, f, shown, x.print)
}

func (x *Explanation) print(out io.Writer) {
	rows := make([][]string, len(x.Instances))
	for n, i := range x.Instances {
		share := strconv.FormatFloat(i.Share.Percent, 'f', 1, 64) + " %"
		rows[n] = []string{share, i.Instance, i.Addr, i.Share.Why}
	}

	output.Table(out, []string{"SHARE", "INSTANCE", "ADDRESS", "WHY"}, rows)

	for _, note := range x.Notes {
		output.Sayf(out, "%s\n", note)
	}
}
