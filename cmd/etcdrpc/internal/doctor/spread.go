package doctor

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// compareFix says how to compare a live policy with the instances.
func (p *patient) compareFix(s *survey.Service) string {
	return fmt.Sprintf("compare the live policy with what the instances say of themselves: etcdrpc policy get %[1]s; etcdrpc ls %[1]s -o json", p.word(s.Key))
}

// group is what is in a group of a split.
type group struct {
	instances, open int    // open: not drained
	drained         string // one that is, as the list names it
}

// listed returns the name by which a list has an instance.
func listed(names []string, i *survey.Instance) string {
	if slices.Contains(names, i.Instance) {
		return i.Instance
	}
	return i.Addr
}

// checkSplit finds the groups of a split that have a share of the calls and nothing to call, and the instances in no group.
func (p *patient) checkSplit(s *survey.Service, policy *serviceconfig.Etcd) (all []Finding) {
	if len(policy.Split) == 0 || slices.ContainsFunc(s.Instances, s.IsMapped) { // a json_layout may give them other fields
		return nil
	}
	clients := s.Merged()
	drained, _ := clients.Drain(policy)
	placed := clients.Placement(policy)
	groups, outside := make([]group, len(policy.Split)), []string(nil)
	matcher := serviceconfig.NewMatcher(policy.Split)
	for n, i := range clients.Instances {
		at := matcher.Match(i.Field)
		switch {
		case at >= 0:
			groups[at].instances++
			if drained[i.Addr] {
				groups[at].drained = listed(policy.Drain, &i)
			} else {
				groups[at].open++
			}
		case !drained[i.Addr] && (placed == nil || placed.Of[n] == nil):
			outside = append(outside, p.full(i.Entry.Key))
		}
	}
	key := p.full(s.Config.Key)
	if empty := describe(policy.Split, func(at int) bool { return groups[at].instances == 0 }); len(empty) > 0 {
		all = append(all, newFinding(KindNoMatch, []string{key}, "no instance is in a group of the split, so the other groups get its calls: "+strings.Join(output.FirstOf(empty), "; "), p.compareFix(s)))
	}
	if len(outside) > 0 {
		all = append(all, newFinding(KindNoMatch, append([]string{key}, output.FirstOf(outside)...),
			output.CountedIs(len(outside), "instance", "is", "are")+" in no group of the split, and called only while no group has a ready one",
			"if they are to be called, give them a group; if not, a group of weight 0 says so: etcdrpc policy set "+p.word(s.Key)+" FILE"))
	}
	return append(all, p.checkEmptied(s, policy, groups)...)
}

// describe lists the groups with a share for which something holds.
func describe(splits []serviceconfig.Split, holds func(at int) bool) (all []string) {
	for at, split := range splits {
		if split.Weight == 0 || !holds(at) {
			continue
		}
		match, err := json.Marshal(split.Match)
		if err != nil {
			panic(err) // cannot be: it is text
		}
		all = append(all, fmt.Sprintf("split[%d], of weight %d, %.200s", at, split.Weight, match))
	}
	return all
}

// isEmptied reports whether a drain leaves none of a group.
func (g group) isEmptied() bool { return g.instances > 0 && g.open == 0 }

// checkEmptied finds a drain that empties groups of a split whose calls at least double those of the groups that are left.
func (p *patient) checkEmptied(s *survey.Service, policy *serviceconfig.Etcd, groups []group) []Finding {
	var left, lost uint64
	emptied := func(at int) bool { return groups[at].isEmptied() }
	for at, split := range policy.Split {
		switch {
		case emptied(at):
			lost += uint64(split.Weight)
		case groups[at].open > 0:
			left += uint64(split.Weight)
		}
	}
	if lost == 0 || lost < left {
		return nil
	}
	return []Finding{newFinding(KindDrain, []string{p.full(s.Config.Key)},
		fmt.Sprintf("the drain empties a group of the split, so the others get %d of its %d parts of the calls, too: %s", lost, lost+left, strings.Join(output.FirstOf(describe(policy.Split, emptied)), "; ")),
		fmt.Sprintf("etcdrpc undrain %[1]s %[2]s; or change the split first: etcdrpc policy set %[1]s FILE", p.word(s.Key), output.Shell(groups[slices.IndexFunc(groups, group.isEmptied)].drained)))}
}

// checkDrainedSince finds the instances that were registered after the list that drains them was written.
func (p *patient) checkDrainedSince(s *survey.Service, policy *serviceconfig.Etcd) []Finding {
	clients := s.Merged()
	drained, _ := clients.Drain(policy)
	var where, names []string
	for _, i := range clients.Instances {
		if drained[i.Addr] && i.Entry.CreateRevision > s.Config.ModRevision {
			where = append(where, p.full(i.Entry.Key))
			names = append(names, listed(policy.Drain, &i))
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []Finding{newFinding(KindDrain, append([]string{p.full(s.Config.Key)}, output.FirstOf(where)...),
		"a drain of before holds for what has registered since, which may be another server: "+output.Quoted(names),
		fmt.Sprintf("if it is to be called: etcdrpc undrain %s %s", p.word(s.Key), output.Shell(names[0])))}
}

// checkZones finds zones that a policy which prefers the client's own cannot go by.
func (p *patient) checkZones(s *survey.Service, policy *serviceconfig.Etcd) (all []Finding) {
	if !policy.PreferZone || slices.ContainsFunc(s.Instances, s.IsMapped) {
		return nil
	}
	key := p.full(s.Config.Key)
	spelled := make(map[string]string) // the zone in lower case, as it is written
	told := make(map[string]bool)
	var without []string
	clients := s.Merged().Instances
	for _, i := range clients {
		folded := strings.ToLower(strings.TrimSpace(i.Zone))
		switch first, known := spelled[folded]; {
		case i.Zone == "":
			without = append(without, p.full(i.Entry.Key))
		case !known:
			spelled[folded] = i.Zone
		case first != i.Zone && !told[i.Zone]:
			told[i.Zone] = true
			all = append(all, newFinding(KindNoMatch, []string{key, p.full(i.Entry.Key)},
				fmt.Sprintf("the live policy prefers the client's own zone, and %.80q and %.80q are two zones: clients compare them letter by letter", first, i.Zone),
				"write the zone in one way, in instances and clients"))
		}
	}
	fix := "have the servers say their zone by runtime.WithZone; or put a live policy without preferZone in force: etcdrpc policy set " + p.word(s.Key) + " FILE"
	switch {
	case len(without) == len(clients):
		all = append(all, newFinding(KindNoMatch, []string{key}, "the live policy prefers the client's own zone, and no instance says its zone, so that has no effect", fix))
	case len(without) > 0:
		all = append(all, newFinding(KindNoMatch, append([]string{key}, output.FirstOf(without)...),
			fmt.Sprintf("the live policy prefers the client's own zone, and %d of %d instances say none: clients that have instances in theirs do not call these", len(without), len(clients)), fix))
	}
	return all
}

// checkLanes finds what is wrong with the lanes of a live policy.
func (p *patient) checkLanes(s *survey.Service, config *serviceconfig.Config) (all []Finding) {
	key, policy := p.full(s.Config.Key), s.Policy()
	clients := s.Merged()
	placed := clients.Placement(policy)
	if placed == nil {
		return p.checkUnrouted(s, config)
	}
	for _, problem := range placed.Problems {
		all = append(all, newFinding(KindLane, []string{key}, problem, p.compareFix(s)))
	}
	if len(placed.Of) == len(clients.Instances) {
		all = append(all, newFinding(KindLane, []string{key}, "every instance is in a lane, so the calls without a lane go to all of them",
			"register instances in no lane, or see that the routes match fewer"))
	}
	return all
}

// checkUnrouted finds the instances that say their lane where the live policy says how to balance, and has no routes.
func (p *patient) checkUnrouted(s *survey.Service, config *serviceconfig.Config) []Finding {
	laned := survey.Laned(s.Merged().Instances)
	if len(config.LoadBalancing) == 0 || len(laned) == 0 {
		return nil
	}
	var where []string
	for _, i := range output.FirstOf(laned) {
		where = append(where, p.full(i.Entry.Key))
	}
	return []Finding{newFinding(KindLane, append([]string{p.full(s.Config.Key)}, where...),
		output.CountedIs(len(laned), "instance", "says its lane", "say their lanes")+", and the live policy has no routes, so calls without a lane reach them, too",
		"give the live policy the routes of the proto file (docs/lanes.md): etcdrpc policy set "+p.word(s.Key)+" FILE")}
}
