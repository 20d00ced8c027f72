package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

const (
	// maxEdited bounds a live config that is edited in a browser, in bytes.
	maxEdited = 128 << 10
	// maxShown bounds what is shown of one that is not.
	maxShown = 8 << 10
)

// versionOf returns a text that differs whenever a service does. Within an era revisions only grow: with as many entries as
// before, their sum tells a change.
func versionOf(s *survey.Service, era int) string {
	all, sum := slices.Concat(s.Instances, s.Malformed), int64(0)
	for _, i := range all {
		sum += i.Entry.ModRevision
	}
	return fmt.Sprint(era, ".", len(all), ".", sum, ".", s.ConfigRevision())
}

// summarize says a service in a line. leader is the instance that leads; "": none is known.
func summarize(s *survey.Service, version, leader string, closed bool) console.Summary {
	sum := console.Summary{Key: s.Key, Version: version, Leader: leader}
	_, refused := s.Live()
	switch {
	case closed:
		sum.Policy = console.PolicyClosed
	case refused != nil:
		sum.Policy = console.PolicyRefused
	case s.Config != nil:
		sum.Policy = console.PolicyInForce
	}
	clients := s.Merged()
	states := s.States()
	for n := range s.Instances {
		switch stateOf(&s.Instances[n], states) {
		case survey.Leaving:
			sum.Counts.Leaving++
		case survey.Drained:
			sum.Counts.Drained++
		case survey.Registered:
			sum.Counts.Registered++
		}
	}
	zones, versions := map[string]bool{}, map[string]bool{}
	for n := range clients.Instances {
		i := &clients.Instances[n]
		zones[i.Zone], versions[i.Version] = true, true
		sum.Weight += uint64(i.Weight)
	}
	delete(zones, "")
	delete(versions, "")
	sum.Counts.Malformed = len(s.Malformed)
	sum.Zones, sum.Versions = slices.Sorted(maps.Keys(zones)), slices.Sorted(maps.Keys(versions))
	sum.Traffic = calledGroups(s)
	if placed := clients.Placement(s.Policy()); placed != nil {
		sum.Lanes = slices.Sorted(slices.Values(placed.Made))
	}
	sum.Text = searched(s, &sum, states)
	return sum
}

// calledGroups returns the groups of a split that have calls: those with an instance that may be called.
func calledGroups(s *survey.Service) []console.Split {
	policy := s.Policy()
	if policy == nil || len(policy.Split) == 0 {
		return nil
	}
	var called []serviceconfig.Split
	x, err := steer.Explain(s, steer.Caller{})
	for n, group := range policy.Split {
		if err != nil || !slices.Contains(x.Empty, n) {
			called = append(called, group)
		}
	}
	return console.Shared(called)
}

// maxSearched bounds a piece of metadata that a search looks at, in bytes.
const maxSearched = 128

// searched returns what a search for a service looks at, in lower case, a line each.
func searched(s *survey.Service, sum *console.Summary, states survey.States) string {
	words := slices.Concat(sum.Lanes, []string{string(sum.Policy)})
	if sum.Leader != "" {
		words = append(words, "leader "+sum.Leader)
	}
	for n := range s.Instances {
		i := &s.Instances[n]
		words = append(words, i.Instance, i.Addr, i.Version, i.Zone, string(stateOf(i, states)))
		for name, value := range i.Metadata {
			words = append(words, name+"="+value[:min(len(value), maxSearched)])
		}
	}
	for _, i := range s.Malformed {
		words = append(words, i.Instance, string(survey.Malformed))
	}
	slices.Sort(words)
	return strings.ToLower(strings.Join(slices.Compact(words), "\n"))
}

// stateOf returns what becomes of an entry, without a look at its lease.
func stateOf(i *survey.Instance, states survey.States) survey.State {
	state := states.Of(i)
	if state != survey.Leaving && states.Called(i).Entry.Key != i.Entry.Key {
		return console.Double
	}
	return state
}

// Service is part of console.Backend.
func (f *Fleet) Service(key string) *console.Service {
	v := f.look()
	s := v.services[key]
	if s == nil {
		return nil
	}
	out := detail(s, v.seen[key].Leader, f.store.Full)
	if v.closed(key) {
		out.Editable, out.Config = false, console.Config{}
		out.Notes = []string{f.store.NoConfigs(store.ConfigOf(key), store.DrainUnseen)}
	}
	out.Summary = *v.fleet.Summary(key)
	out.Recent = f.changesAt(key)
	return out
}

// closed reports whether the live config of a service may not be read.
func (v *snapshot) closed(key string) bool {
	return !store.Within(v.listing.Parts, store.ConfigOf(key))
}

// detail returns a service in full, save its summary and its past.
func detail(s *survey.Service, leader string, full func(string) string) *console.Service {
	x, err := steer.Explain(s, steer.Caller{})
	if err != nil {
		x = nil // there is no live config that clients go by
	}
	clients := s.Merged()
	out := &console.Service{Editable: endpoint.CheckKey(s.Key) == nil && s.Namespace == "", Config: configOf(s, clients, x)}
	if x != nil {
		out.Notes = x.Notes
	}
	if s.Namespace != "" {
		out.Notes = append(out.Notes, fmt.Sprintf("It lies in the namespace %q, and is changed there: etcdrpc ui --namespace %s", full(s.Namespace), output.Shell(full(s.Namespace))))
	}
	states, explained := s.States(), x.ByEntry()
	var listed survey.List
	if policy := s.Policy(); policy != nil {
		listed = survey.ListOf(policy.Drain)
	}
	for n := range s.Instances {
		i := &s.Instances[n]
		shown := console.Instance{
			ID: i.Instance, Addr: i.Addr, Version: i.Version, Zone: i.Zone, Weight: i.Weight, Layout: s.LayoutName(*i),
			EtcdKey: full(i.Entry.Key), State: stateOf(i, states), Lease: i.Entry.Lease, Metadata: pairs(i.Metadata), Share: -1,
			Lanes: explained[i.Entry.Key].Lanes, Leads: i.Instance == leader,
		}
		shown.Listed = shown.State != console.Double && listed.Has(i)
		share, known := explained[i.Entry.Key]
		if known && shown.State != console.Double {
			shown.Share = share.Share
		}
		switch {
		case shown.State == console.Double:
			shown.Problem = i.WhyUncalled(states.Called(i))
		case known && shown.State == survey.Registered && share.Share == 0:
			shown.Problem = share.Why
		case shown.Listed && shown.State == survey.Registered:
			shown.Problem = "is called all the same, for clients do not follow this drain"
		}
		out.Instances = append(out.Instances, shown)
	}
	for _, i := range s.Malformed {
		out.Instances = append(out.Instances, console.Instance{
			ID: i.Instance, EtcdKey: full(i.Entry.Key), State: survey.Malformed, Problem: i.Err.Error(), Lease: i.Entry.Lease, Share: -1,
		})
	}
	return out
}

func pairs(metadata map[string]string) (all [][2]string) {
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		value := metadata[name]
		if name == endpoint.StartedName {
			value = survey.StartedText(value)
		}
		all = append(all, [2]string{name, value})
	}
	return all
}

// configOf returns the live config of a service for people. clients is the service as they see it, and x how they go by the
// config; nil: they do not.
func configOf(s, clients *survey.Service, x *steer.Explanation) console.Config {
	if s.Config == nil {
		return proposeSplit(console.Config{Whole: true}, clients)
	}
	live, err := s.Live()
	c := console.Config{Revision: s.Config.ModRevision, Reason: s.Reason, Problem: problemOf(err)}
	c.Text, c.Whole = shownConfig(s.Config.Value)
	if c.Whole = c.Whole && s.Config.Size == 0; !c.Whole || c.Problem != "" {
		return c
	}
	c.Balances = len(live.LoadBalancing) > 0
	if policy := s.Policy(); policy != nil {
		c.Splits = console.Shared(policy.Split)
		for n := range c.Splits {
			c.Splits[n].Empty = x != nil && slices.Contains(x.Empty, n)
		}
	}
	if len(c.Splits) == 0 {
		return proposeSplit(c, clients)
	}
	return c
}

func problemOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// shownConfig returns a live config for people, and whether that is all of it.
func shownConfig(value []byte) (text string, whole bool) {
	switch {
	case len(value) <= maxEdited && !liveconfig.TooDeep(value) && json.Valid(value):
		return liveconfig.Pretty(value), true
	case len(value) <= maxEdited && utf8.Valid(value):
		return string(value), true
	}
	return string(value[:min(len(value), maxShown)]), false
}

// proposeSplit adds the split that could be begun of a service: among its versions, by how many instances each has. None is
// left without calls.
func proposeSplit(c console.Config, clients *survey.Service) console.Config {
	const groups = 8
	counts := make(map[string]int)
	for _, i := range clients.Instances {
		counts[i.Version]++
	}
	unsaid := counts[""]
	delete(counts, "")
	if len(counts) < 2 || len(counts) > groups {
		return c
	}
	total := len(clients.Instances) - unsaid
	var split []serviceconfig.Split
	for _, version := range slices.Sorted(maps.Keys(counts)) {
		percent := (100*counts[version] + total/2) / total
		split = append(split, serviceconfig.Split{Match: map[string]string{"version": version}, Weight: uint32(max(1, percent))})
	}
	c.Splits, c.Proposed, c.Unsaid = console.Shared(split), true, unsaid
	return c
}

// Leases is part of console.Backend.
func (f *Fleet) Leases(ctx context.Context, ids []int64) (map[int64]survey.LeaseTime, error) {
	if f.troubled() {
		return nil, errTroubled
	}
	return f.store.Quick().Leases(ctx, ids)
}
