package steer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// ErrLeavesNone is a drain that leaves a group of a split or a lane without an instance. It does not say how to drain all
// the same: commands have a flag for it.
var ErrLeavesNone = errors.New("nothing would be left to call")

// maxOutlook bounds the callers that are told of: lanes and zones.
const maxOutlook = 10

// outlook says what the calls of a service do once another live config drains some of its instances, and where nothing is
// left to call: the groups of a split, and the strict lanes. It compares what [Explain] says before and after.
func outlook(s *survey.Service, config string, drained []string) (notes, groups, lanes []string) {
	proposed := *s
	proposed.Config = &survey.Entry{Value: []byte(config)}
	all := callers(&proposed, drained)
	told := 0
	for n, from := range all {
		if n == maxOutlook {
			told = len(notes)
		}
		after, err := Explain(&proposed, from)
		if err != nil {
			continue // clients would not go by it
		}
		before, err := Explain(s, from)
		if err != nil {
			before = &Explanation{Notes: after.Notes[after.general:]} // clients go by what their code was generated with
		}
		if after.calls("") {
			notes = append(notes, whose(from)+after.growth(before))
		}
		for _, note := range after.Notes {
			if !slices.Contains(before.Notes, note) {
				notes = append(notes, whose(from)+note)
			}
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
		if from.Lane != "" && !after.calls("") && (before.etcd == nil || before.calls("")) {
			lanes = append(lanes, fmt.Sprintf("the lane %q, which is strict", from.Lane))
		}
	}
	if len(all) > maxOutlook {
		notes = append(notes[:told], fmt.Sprintf("policy explain --lane and --zone tell of the calls of %d more.", len(all)-maxOutlook))
	}
	return notes, groups, lanes
}

// leavesNone returns [ErrLeavesNone] for what is left without an instance, nil for nothing.
func leavesNone(bare []string) error {
	if len(bare) == 0 {
		return nil
	}
	return fmt.Errorf("%w in %s: register another first", ErrLeavesNone, strings.Join(bare, " and in "))
}

// callers returns those whose calls may change when some of the instances of a service are drained.
func callers(s *survey.Service, drained []string) []Caller {
	all := []Caller{{}}
	policy, clients := s.Policy(), s.Merged()
	placed := clients.Placement(policy)
	for n := range clients.Instances {
		i := &clients.Instances[n]
		if !i.OnList(drained) {
			continue
		}
		if policy.PreferZone && i.Zone != "" {
			all = append(all, Caller{Zone: i.Zone})
		}
		if placed != nil {
			for _, lane := range placed.Of[n] {
				all = append(all, Caller{Lane: lane})
			}
		}
	}
	seen := make(map[Caller]bool)
	return slices.DeleteFunc(all, func(from Caller) bool {
		twice := seen[from]
		seen[from] = true
		return twice
	})
}

// whose begins a sentence about calls.
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

// bare returns the groups that have no instance left, though they had one before.
func (x *Explanation) bare(before *Explanation) (all []string) {
	for _, g := range x.Empty {
		if group := x.etcd.Split[g]; before.etcd != nil && group.Weight > 0 && !slices.Contains(before.Empty, g) {
			all = append(all, fmt.Sprintf("split[%d], of weight %d, of the instances with %s", g, group.Weight, strings.TrimSuffix(group.Key(), ";")))
		}
	}
	return all
}

// growth says which instance gets the most calls more than before, or the most where nobody knows how many it had.
func (x *Explanation) growth(before *Explanation) string {
	had := before.ByEntry()
	var most Explained
	gain, called := -1.0, 0
	for _, i := range x.Instances {
		if i.Share > 0 {
			called++
		}
		if more := i.Share - had[i.Entry].Share; more > gain {
			most, gain = i, more
		}
	}
	text := fmt.Sprintf("%d of %d instances have calls then", called, len(x.Service.Instances))
	if gain < 0.05 { // as it is shown
		return text + "."
	}
	text += fmt.Sprintf("; %s has %.1f %%", most.Instance, most.Share)
	if before.etcd != nil {
		text += fmt.Sprintf(" in place of %.1f %%", had[most.Entry].Share)
	}
	return text + "."
}
