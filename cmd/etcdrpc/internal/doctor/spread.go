package doctor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// compareFix says how to compare a live policy with the instances.
func (x *subject) compareFix() string {
	return fmt.Sprintf("compare the live policy with what the instances say of themselves: etcdrpc policy get %[1]s; etcdrpc ls %[1]s -o json", x.word(x.Key))
}

// group is a group of a split, and what is in it.
type group struct {
	serviceconfig.Split
	at            int // in the list of groups
	open, drained []*survey.Instance
}

// isEmpty reports whether a group with a share of the calls has no instance.
func (g group) isEmpty() bool { return g.Weight > 0 && len(g.open)+len(g.drained) == 0 }

// isEmptied reports whether a drain leaves none of a group with a share of the calls.
func (g group) isEmptied() bool { return g.Weight > 0 && len(g.open) == 0 && len(g.drained) > 0 }

// groups returns the groups of the split as calls without a lane find them, and the instances that these call and that are in
// none.
func (x *subject) groups() (groups []group, outside []string) {
	for n, split := range x.policy.Split {
		groups = append(groups, group{Split: split, at: n})
	}
	for _, m := range x.plan.Base.Members {
		i := x.plan.All[m]
		switch at := x.plan.Config.Group(&i.Endpoint); {
		case at < len(groups) && i.Drained:
			groups[at].drained = append(groups[at].drained, i)
		case at < len(groups):
			groups[at].open = append(groups[at].open, i)
		case !i.Drained:
			outside = append(outside, i.Entry.Key)
		}
	}
	return groups, outside
}

// named lists the groups for which something holds.
func named(groups []group, holds func(group) bool) string {
	var names []string
	for _, g := range groups {
		if holds(g) {
			match, err := json.Marshal(g.Match)
			if err != nil {
				panic(err) // cannot be: it is text
			}
			names = append(names, fmt.Sprintf("split[%d], of weight %d, %.200s", g.at, g.Weight, match))
		}
	}
	return strings.Join(output.FirstOf(names), "; ")
}

// emptyGroups finds the groups of a split that have a share of the calls and nothing to call.
func (x *subject) emptyGroups() {
	groups, _ := x.groups()
	if !slices.ContainsFunc(groups, group.isEmpty) {
		return
	}
	what := "no instance is in a group"
	if len(x.plan.Base.Members) < len(x.clients.Instances) {
		what = "no instance that is in no lane is in a group"
	}
	x.reportPolicy(KindNoMatch, what+" of the split, so the other groups get its calls: "+named(groups, group.isEmpty), x.compareFix())
}

// outsideGroups finds the instances in no group of a split.
func (x *subject) outsideGroups() {
	if groups, outside := x.groups(); len(groups) > 0 && len(outside) > 0 {
		x.reportPolicy(KindNoMatch, output.CountedIs(len(outside), "instance", "is", "are")+" in no group of the split, and called only while no group has a ready one",
			"if they are to be called, give them a group; if not, a group of weight 0 says so: "+x.setPolicy(), outside...)
	}
}

// emptiedGroups finds a drain that empties groups of a split whose calls at least double those of the groups that are left.
func (x *subject) emptiedGroups() {
	groups, _ := x.groups()
	var left, lost uint64
	for _, g := range groups {
		switch {
		case g.isEmptied():
			lost += uint64(g.Weight)
		case len(g.open) > 0:
			left += uint64(g.Weight)
		}
	}
	if lost == 0 || lost < left {
		return
	}
	first := groups[slices.IndexFunc(groups, group.isEmptied)]
	x.reportPolicy(KindDrain, fmt.Sprintf("the drain empties a group of the split, so the others get %d of its %d parts of the calls, too: %s", lost, lost+left, named(groups, group.isEmptied)),
		fmt.Sprintf("etcdrpc undrain %s %s; or change the split first: %s", x.word(x.Key), output.Shell(x.listed(first.drained[0])), x.setPolicy()))
}

// spelledZones finds zones that differ in their spelling alone, where a policy prefers the client's own.
func (x *subject) spelledZones() {
	if !x.policy.PreferZone {
		return
	}
	spelled := make(map[string]string) // the zone in lower case, as it is written
	told := make(map[string]bool)
	for _, i := range x.clients.Instances {
		folded := strings.ToLower(strings.TrimSpace(i.Zone))
		first, known := spelled[folded]
		if !known {
			spelled[folded] = i.Zone
		} else if first != i.Zone && !told[i.Zone] {
			told[i.Zone] = true
			x.reportPolicy(KindNoMatch, fmt.Sprintf("the live policy prefers the client's own zone, and %.80q and %.80q are two zones: clients compare them letter by letter", first, i.Zone),
				"write the zone in one way, in instances and clients", i.Entry.Key)
		}
	}
}

// missingZones finds instances without a zone, where a policy prefers the client's own.
func (x *subject) missingZones() {
	var without []string
	for _, i := range x.clients.Instances {
		if i.Zone == "" {
			without = append(without, i.Entry.Key)
		}
	}
	if !x.policy.PreferZone || len(without) == 0 {
		return
	}
	fix := "have the servers say their zone by runtime.WithZone; or put a live policy without preferZone in force: " + x.setPolicy()
	if all := len(x.clients.Instances); len(without) < all {
		x.reportPolicy(KindNoMatch, fmt.Sprintf("the live policy prefers the client's own zone, and %d of %d instances say none: clients that have instances in theirs do not call these", len(without), all), fix, without...)
		return
	}
	x.reportPolicy(KindNoMatch, "the live policy prefers the client's own zone, and no instance says its zone, so that has no effect", fix)
}

// mostOfCalls is the part of the calls from which on a weight is likely a slip: of 1000 beside 10, say.
const mostOfCalls = 0.9

// heavyWeights finds an instance that gets nearly all calls by its weight, of several that the live policy goes by. Only those
// of one group of a split, and of the same lanes, share calls.
func (x *subject) heavyWeights() {
	if len(x.policy.ChildPolicy) == 0 {
		return
	}
	if name := x.policy.ChildPolicy[0].Name; name != serviceconfig.WeightedName && name != serviceconfig.RingHashName {
		return
	}
	placed := cmp.Or(x.plan.Placed, new(plan.Placement))
	sets := make(map[string][]*survey.Instance)
	for _, i := range x.plan.All[:x.plan.Live] {
		of := fmt.Sprint(x.plan.Config.Group(&i.Endpoint), placed.Of[&i.Endpoint])
		sets[of] = append(sets[of], i)
	}
	for _, of := range slices.Sorted(maps.Keys(sets)) {
		set, sum := sets[of], 0.0
		for _, i := range set {
			sum += float64(max(i.Weight, 1))
		}
		most := slices.MaxFunc(set, func(a, b *survey.Instance) int { return cmp.Compare(a.Weight, b.Weight) })
		if len(set) < 3 || float64(most.Weight) <= mostOfCalls*sum { // of two, one may be a canary
			continue
		}
		x.report(KindMetadata, fmt.Sprintf("%s has the weight %d, and so %.0f %% of the calls to %s", most.Addr, most.Weight, 100*float64(most.Weight)/sum, output.Counted(len(set), "instance")),
			"if that is not meant, have its server write a weight like those of the others: etcdrpc ls "+x.word(x.Key), most.Entry.Key)
	}
}

// missingRoutes finds instances that say their lane, where a live policy says how to balance and has no routes.
func (x *subject) missingRoutes() {
	laned := survey.WithLane(x.clients.Instances)
	if x.live == nil || len(x.live.LoadBalancing) == 0 || x.plan.Placed != nil || len(laned) == 0 {
		return
	}
	var where []string
	for _, i := range laned {
		where = append(where, i.Entry.Key)
	}
	x.reportPolicy(KindLane, output.CountedIs(len(laned), "instance", "says its lane", "say their lanes")+", and the live policy has no routes, so calls without a lane reach them, too",
		"give the live policy the routes of the proto file (docs/lanes.md): "+x.setPolicy(), where...)
}

// badRoutes finds routes that put no instance in a lane, or all.
func (x *subject) badRoutes() {
	if x.plan.Placed == nil {
		return
	}
	for _, problem := range x.plan.Placed.Problems {
		x.reportPolicy(KindLane, problem, x.compareFix())
	}
	if len(x.plan.Placed.Of) == len(x.clients.Instances) {
		x.reportPolicy(KindLane, "every instance is in a lane, so the calls without a lane go to all of them",
			"register instances in no lane, or see that the routes match fewer")
	}
}

// drainedLanes finds the strict lanes that a drain leaves without an instance.
func (x *subject) drainedLanes() {
	drained := make(map[string]string) // an instance, by the lane
	for _, i := range x.plan.All[x.plan.Live:] {
		for _, lane := range cmp.Or(x.plan.Placed, new(plan.Placement)).Of[&i.Endpoint] {
			drained[lane] = max(drained[lane], x.listed(i))
		}
	}
	for _, lane := range slices.Sorted(maps.Keys(drained)) {
		if x.plan.Lane(lane) == nil {
			x.reportPolicy(KindLane, fmt.Sprintf("every instance of the lane %q is drained, and it is strict, so its calls fail", lane),
				fmt.Sprintf("etcdrpc undrain %s %s", x.word(x.Key), output.Shell(drained[lane])))
		}
	}
}
