package doctor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// compareFix returns the remedy to compare a live policy with the instances.
func (x *subject) compareFix() string {
	return fmt.Sprintf("compare the live policy with what the instances say of themselves: etcdrpc policy get %[1]s; etcdrpc ls %[1]s -o json", x.keyArg(x.Key))
}

// group is a group of a split and its instances.
type group struct {
	serviceconfig.Split
	at              int // index in the split
	active, drained []*inventory.Instance
}

// isEmpty reports whether a group with a weight has no instance.
func (g group) isEmpty() bool { return g.Weight > 0 && len(g.active)+len(g.drained) == 0 }

// isEmptied reports whether all instances of a group with a weight are drained.
func (g group) isEmptied() bool { return g.Weight > 0 && len(g.active) == 0 && len(g.drained) > 0 }

// groups returns the groups of the split for calls without a lane, and the keys of the instances that are in none.
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
			groups[at].active = append(groups[at].active, i)
		case !i.Drained:
			outside = append(outside, i.Entry.Key)
		}
	}
	return groups, outside
}

// describeGroups describes the groups for which holds is true.
func describeGroups(groups []group, holds func(group) bool) string {
	var names []string
	for _, g := range groups {
		if holds(g) {
			match, err := json.Marshal(g.Match)
			if err != nil {
				panic(err) // impossible: a map of strings
			}
			names = append(names, fmt.Sprintf("split[%d], of weight %d, %.200s", g.at, g.Weight, match))
		}
	}
	return strings.Join(output.FirstOf(names), "; ")
}

// emptyGroups finds groups of a split that have a weight and no instance.
func (x *subject) emptyGroups() {
	groups, _ := x.groups()
	if !slices.ContainsFunc(groups, group.isEmpty) {
		return
	}
	what := "no instance is in a group"
	if len(x.plan.Base.Members) < len(x.clients.Instances) {
		what = "no instance that is in no lane is in a group"
	}
	x.reportPolicy(KindNoMatch, what+" of the split, so the other groups get its calls: "+describeGroups(groups, group.isEmpty), x.compareFix())
}

// outsideGroups finds instances in no group of a split.
func (x *subject) outsideGroups() {
	if groups, outside := x.groups(); len(groups) > 0 && len(outside) > 0 {
		x.reportPolicy(KindNoMatch, output.CountedIs(len(outside), "instance", "is", "are")+" in no group of the split, and called only while no group has a ready one",
			"if they should be called, give them a group; if not, give them a group of weight 0: "+x.setCommand(), outside...)
	}
}

// emptiedGroups finds drains that empty groups of a split, and at least double the calls of the others.
func (x *subject) emptiedGroups() {
	groups, _ := x.groups()
	var activeWeight, drainedWeight uint64
	for _, g := range groups {
		switch {
		case g.isEmptied():
			drainedWeight += uint64(g.Weight)
		case len(g.active) > 0:
			activeWeight += uint64(g.Weight)
		}
	}
	if drainedWeight == 0 || drainedWeight < activeWeight {
		return
	}
	first := groups[slices.IndexFunc(groups, group.isEmptied)]
	x.reportPolicy(KindDrain, fmt.Sprintf("the drain empties a group of the split, so the others get %d of its %d parts of the calls, too: %s", drainedWeight, drainedWeight+activeWeight, describeGroups(groups, group.isEmptied)),
		fmt.Sprintf("etcdrpc undrain %s %s; or change the split first: %s", x.keyArg(x.Key), output.Shell(x.drainName(first.drained[0])), x.setCommand()))
}

// zoneSpellings finds zones that differ only in case, if the policy prefers the client's zone.
func (x *subject) zoneSpellings() {
	if !x.policy.PreferZone {
		return
	}
	spelled := make(map[string]string) // zone by its lower case
	reported := make(map[string]bool)
	for _, i := range x.clients.Instances {
		folded := strings.ToLower(strings.TrimSpace(i.Zone))
		first, known := spelled[folded]
		if !known {
			spelled[folded] = i.Zone
		} else if first != i.Zone && !reported[i.Zone] {
			reported[i.Zone] = true
			x.reportPolicy(KindNoMatch, fmt.Sprintf("the live policy prefers the client's own zone, and %.80q and %.80q are two zones: clients compare them letter by letter", first, i.Zone),
				"write the zone in one way, in instances and clients", i.Entry.Key)
		}
	}
}

// missingZones finds instances without a zone, if the policy prefers the client's zone.
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
	fix := "set the zone of the servers by runtime.WithZone; or use a live policy without preferZone: " + x.setCommand()
	if all := len(x.clients.Instances); len(without) < all {
		x.reportPolicy(KindNoMatch, fmt.Sprintf("the live policy prefers the client's own zone, and %d of %d instances have no zone: clients with instances in their own zone do not call these", len(without), all), fix, without...)
		return
	}
	x.reportPolicy(KindNoMatch, "the live policy prefers the client's own zone, and no instance has a zone, so that has no effect", fix)
}

// maxLikelyShare is the share of the calls above which a weight is probably a mistake, such as 1000 among weights of 10.
const maxLikelyShare = 0.9

// heavyWeights finds instances that get nearly all calls of their set by weight. A set is the instances of one group of the
// split and the same lanes.
func (x *subject) heavyWeights() {
	if len(x.policy.ChildPolicy) == 0 {
		return
	}
	if name := x.policy.ChildPolicy[0].Name; name != serviceconfig.WeightedName && name != serviceconfig.RingHashName {
		return
	}
	placed := cmp.Or(x.plan.Placed, new(plan.Placement))
	sets := make(map[string][]*inventory.Instance)
	for _, i := range x.plan.All[:x.plan.Live] {
		of := fmt.Sprint(x.plan.Config.Group(&i.Endpoint), placed.Of[&i.Endpoint])
		sets[of] = append(sets[of], i)
	}
	for _, of := range slices.Sorted(maps.Keys(sets)) {
		set, sum := sets[of], 0.0
		for _, i := range set {
			sum += float64(max(i.Weight, 1))
		}
		most := slices.MaxFunc(set, func(a, b *inventory.Instance) int { return cmp.Compare(a.Weight, b.Weight) })
		if len(set) < 3 || float64(most.Weight) <= maxLikelyShare*sum { // of two instances one may be a canary
			continue
		}
		x.report(KindMetadata, fmt.Sprintf("%s has the weight %d, and so %.0f %% of the calls to %s", most.Addr, most.Weight, 100*float64(most.Weight)/sum, output.Counted(len(set), "instance")),
			"if that is not meant, have its server write a weight like those of the others: etcdrpc ls "+x.keyArg(x.Key), most.Entry.Key)
	}
}

// missingRoutes finds instances in lanes whose live policy sets balancing without routes.
func (x *subject) missingRoutes() {
	inLanes := inventory.WithLane(x.clients.Instances)
	if x.live == nil || len(x.live.LoadBalancing) == 0 || x.plan.Placed != nil || len(inLanes) == 0 {
		return
	}
	var where []string
	for _, i := range inLanes {
		where = append(where, i.Entry.Key)
	}
	x.reportPolicy(KindLane, output.CountedIs(len(inLanes), "instance", "has a lane", "have lanes")+", and the live policy has no routes, so calls without a lane also reach them",
		"give the live policy the routes of the proto file (docs/lanes.md): "+x.setCommand(), where...)
}

// badRoutes finds routes that put no instance in a lane, or all of them.
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

// drainedLanes finds strict lanes whose instances are all drained.
func (x *subject) drainedLanes() {
	drained := make(map[string]string) // an instance by lane
	for _, i := range x.plan.All[x.plan.Live:] {
		for _, lane := range cmp.Or(x.plan.Placed, new(plan.Placement)).Of[&i.Endpoint] {
			drained[lane] = max(drained[lane], x.drainName(i))
		}
	}
	for _, lane := range slices.Sorted(maps.Keys(drained)) {
		if x.plan.Lane(lane) == nil {
			x.reportPolicy(KindLane, fmt.Sprintf("every instance of the lane %q is drained, and it is strict, so its calls fail", lane),
				fmt.Sprintf("etcdrpc undrain %s %s", x.keyArg(x.Key), output.Shell(drained[lane])))
		}
	}
}
