package steer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// What an edit is refused for because of the calls.
var (
	ErrNoRoutes   = errors.New("no live policy says how to balance, and one that is begun now has no routes")
	ErrLeavesNone = errors.New("nothing would be left to call")
)

// foresee notes what calls will do, and refuses an edit by which they go where they must not, or fail, and did not before.
func (e *Edit) foresee() error {
	if e.Unseen != nil || e.Kind == Undrain || !e.shall.Balances() {
		return nil
	}
	clients, was, shall := e.Service.Merged(), e.was.Policy(), e.shall.Policy()
	routed := !e.was.Balances() || was.Route != nil // by the proto file, for all that is known
	if names := laned(clients); routed && shall.Route == nil && len(names) > 0 && !e.NoRoutes {
		return fmt.Errorf("%w: calls without a lane would reach those that say they are in one (%s)", ErrNoRoutes, output.SomeOf(names))
	}
	_, before := clients.Drain(&was)
	drained, after := clients.Drain(&shall)
	called := func(addr string) bool { return !drained[addr] }
	if after.Ignored != 0 && (after.Ignored != before.Ignored || slices.ContainsFunc(e.addrs, called)) {
		return fmt.Errorf("clients would not follow that: the list to %s: register another first", after.Problem())
	}
	if !e.Changes() {
		return nil
	}
	notes, groups, lanes := e.outlook()
	if len(clients.Instances) > 0 {
		e.Notes = append(e.Notes, notes...)
	}
	bare := lanes
	if e.Kind == Drain {
		bare = slices.Concat(groups, lanes, e.unsuffixed())
	}
	if len(bare) > 0 && !e.Force {
		return fmt.Errorf("%w in %s: register another first", ErrLeavesNone, strings.Join(bare, " and in "))
	}
	return nil
}

// unsuffixed says that clients follow the list no more that do not read LEASE_SUFFIX, as they do only if asked to, for all that may
// be called has that layout.
func (e *Edit) unsuffixed() []string {
	read := *e.Service
	read.Instances = slices.DeleteFunc(slices.Clone(read.Instances), func(i survey.Instance) bool { return i.Layout == endpoint.LeaseSuffix })
	clients, was, shall := read.Merged(), e.was.Policy(), e.shall.Policy()
	_, before := clients.Drain(&was)
	_, after := clients.Drain(&shall)
	if after.Ignored == 0 || after.Ignored == before.Ignored {
		return nil
	}
	return []string{fmt.Sprintf("what clients without LAYOUT_LEASE_SUFFIX read (%s)", after.Problem())}
}

// laned returns the instances that say which lane they are in.
func laned(s *survey.Service) (names []string) {
	for _, i := range survey.Laned(s.Instances) {
		names = append(names, fmt.Sprintf("%.80s", i.Instance))
	}
	return names
}

// then returns the service with the new config.
func (e *Edit) then() *survey.Service {
	then := *e.Service
	then.Config = &survey.Entry{Value: []byte(e.New)}
	return &then
}

// compare explains calls by the new config, and by the old one; nil, where clients go by what their code was generated with.
func (e *Edit) compare(from Caller) (after, before *Explanation, err error) {
	if after, err = Explain(e.then(), from); err != nil {
		return nil, nil, err
	}
	if before, err = Explain(e.Service, from); err != nil {
		before = nil
	}
	known := before.ByEntry()
	for n := range after.Instances {
		i := &after.Instances[n]
		i.Before = -1
		if was, ok := known[i.Entry]; ok {
			i.Before = was.Share
		}
	}
	return after, before, nil
}

// Shares returns the shares of the calls then, the largest first, and what is to be known of them.
func (e *Edit) Shares() (all []Explained, notes []string, err error) {
	after, _, err := e.compare(Caller{})
	if err != nil {
		return nil, nil, err
	}
	slices.SortStableFunc(after.Instances, func(a, b Explained) int { return cmp.Compare(b.Share, a.Share) })
	return after.Instances, after.Notes, nil
}

// maxOutlook bounds the callers that are told of: lanes and zones.
const maxOutlook = 10

// outlook says what calls do then, and where nothing is left to call: the groups of a split, and the strict lanes.
func (e *Edit) outlook() (notes, groups, lanes []string) {
	added, _ := e.Listed()
	all := callers(e.then(), added)
	told, changed := 0, len(all)
	emptied, splits := e.emptied(), len(e.shall.Policy().Split) > 0
	for _, lane := range emptied { // beside those above, of which nothing is to be told but that they are empty
		if from := (Caller{Lane: lane}); !slices.Contains(all, from) {
			all = append(all, from)
		}
	}
	for n, from := range all {
		if n == maxOutlook {
			told = len(notes)
		}
		if n >= maxOutlook && (!splits || from.Zone != "") && !slices.Contains(emptied, from.Lane) {
			continue // nothing is told of it, and nothing is empty
		}
		after, before, err := e.compare(from)
		if err != nil {
			continue // clients would not go by it
		}
		empty := from.Lane != "" && !after.calls("") && (before == nil || before.calls(""))
		if empty {
			lanes = append(lanes, fmt.Sprintf("the lane %q, which is strict", from.Lane))
		} else if n >= changed {
			continue
		}
		if after.calls("") {
			notes = append(notes, whose(from)+after.growth(before))
		}
		for _, note := range after.since(before) {
			notes = append(notes, whose(from)+note)
		}
		if from.Zone != "" {
			if !after.calls(from.Zone) {
				notes = append(notes, fmt.Sprintf("No instance is left in the zone %s: the calls of its clients go to other zones.", from.Zone))
			}
			continue
		}
		for _, group := range after.bare(before) {
			if !slices.Contains(groups, group) {
				groups = append(groups, group)
			}
		}
	}
	if changed > maxOutlook {
		notes = append(notes[:told], fmt.Sprintf("policy explain --lane and --zone tell of the calls of %d more.", changed-maxOutlook))
	}
	return notes, groups, lanes
}

// callers returns those whose calls may change when some of the instances of a service are drained.
func callers(s *survey.Service, drained []string) []Caller {
	all, known := []Caller{{}}, map[Caller]bool{{}: true}
	add := func(from Caller) {
		if !known[from] {
			all, known[from] = append(all, from), true
		}
	}
	policy, clients := s.Policy(), s.Merged()
	placed, list := clients.Placement(policy), survey.ListOf(drained)
	for n := range clients.Instances {
		i := &clients.Instances[n]
		if !list.Has(i) {
			continue
		}
		if policy.PreferZone {
			add(Caller{Zone: i.Zone})
		}
		if placed != nil {
			for _, lane := range placed.Of[&i.Endpoint] {
				add(Caller{Lane: lane})
			}
		}
	}
	return all
}

// emptied returns the strict lanes whose calls fail by the new config, and did not by the old one.
func (e *Edit) emptied() []string {
	clients, was, shall := e.Service.Merged(), e.was.Policy(), e.shall.Policy()
	lanes := slices.Concat(lanesOf(clients, &was), lanesOf(clients, &shall))
	before := failing(clients, &was, lanes)
	return slices.DeleteFunc(failing(clients, &shall, lanes), func(lane string) bool { return slices.Contains(before, lane) })
}

// lanesOf returns the lanes that a policy names, and those that instances make by it.
func lanesOf(clients *survey.Service, policy *serviceconfig.Etcd) []string {
	placed := clients.Placement(policy)
	if placed == nil {
		return nil
	}
	return slices.Concat(plan.NewConfig(policy).NamedLanes(), placed.Made)
}

// failing returns those of some lanes that are strict by a policy, and without an instance that may be called.
func failing(clients *survey.Service, policy *serviceconfig.Etcd, of []string) (all []string) {
	placed := clients.Placement(policy)
	if placed == nil {
		return nil
	}
	drained, _ := clients.Drain(policy)
	served := make(map[string]bool)
	for e, lanes := range placed.Of {
		for _, lane := range lanes {
			served[lane] = served[lane] || !drained[e.Addr]
		}
	}
	config := plan.NewConfig(policy)
	for _, lane := range of {
		if !served[lane] && config.Strict(lane) {
			all = append(all, lane)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func whose(from Caller) string {
	switch {
	case from.Lane != "":
		return "In the lane " + from.Lane + ": "
	case from.Zone != "":
		return "In the zone " + from.Zone + ": "
	}
	return ""
}

// calls reports whether an instance in a zone has calls; "": any instance.
func (x *Explanation) calls(zone string) bool {
	called := x.Service.ByAddr()
	return slices.ContainsFunc(x.Instances, func(e Explained) bool {
		return e.Share > 0 && (zone == "" || called[e.Addr].Zone == zone)
	})
}

// since returns what is to be known that was not before.
func (x *Explanation) since(before *Explanation) []string {
	if before == nil {
		return x.Notes[:x.general]
	}
	return slices.DeleteFunc(slices.Clone(x.Notes), func(note string) bool { return slices.Contains(before.Notes, note) })
}

// bare returns the groups that have no instance left, though they had one before.
func (x *Explanation) bare(before *Explanation) (all []string) {
	for _, g := range x.Empty {
		if group := x.etcd.Split[g]; before != nil && group.Weight > 0 && !slices.Contains(before.Empty, g) {
			all = append(all, fmt.Sprintf("split[%d], of weight %d, of the instances with %s", g, group.Weight, strings.TrimSuffix(group.Key(), ";")))
		}
	}
	return all
}

// growth says which instance gets the most calls more than before, or the most where nobody knows how many it had.
func (x *Explanation) growth(before *Explanation) string {
	var most Explained
	gain, called := -1.0, 0
	for _, i := range x.Instances {
		if i.Share > 0 {
			called++
		}
		if more := i.Share - max(0, i.Before); more > gain {
			most, gain = i, more
		}
	}
	text := fmt.Sprintf("%d of %d instances get calls then", called, len(x.Service.Instances))
	if gain < 0.05 { // as it is shown
		return text + "."
	}
	text += fmt.Sprintf("; %s has %.1f %%", most.Instance, most.Share)
	if before != nil {
		text += fmt.Sprintf(" instead of %.1f %%", max(0, most.Before))
	}
	return text + "."
}
