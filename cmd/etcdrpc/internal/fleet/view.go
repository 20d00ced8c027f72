package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
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
	sum, n, config := int64(0), 0, int64(0)
	for _, i := range s.Instances {
		sum, n = sum+i.Entry.ModRevision, n+1
	}
	for _, i := range s.Malformed {
		sum, n = sum+i.Entry.ModRevision, n+1
	}
	if s.Config != nil {
		config = s.Config.ModRevision
	}
	return fmt.Sprint(era, ".", n, ".", sum, ".", config)
}

func summarize(s *survey.Service, version string) console.Summary {
	sum := console.Summary{Key: s.Key, Version: version, Policy: console.PolicyNone}
	drained := s.Drained()
	if s.Config != nil {
		sum.Policy = console.PolicyInForce
		if liveconfig.Check(string(s.Config.Value)) != nil {
			sum.Policy = console.PolicyRefused
		}
	}
	zones, versions := map[string]bool{}, map[string]bool{}
	for n := range s.Instances {
		i := &s.Instances[n]
		switch stateOf(i, drained) {
		case console.Leaving:
			sum.Counts.Leaving++
		case console.Drained:
			sum.Counts.Drained++
		default:
			sum.Counts.Registered++
		}
		zones[i.Zone], versions[i.Version] = true, true
		sum.Weight += uint64(i.Weight)
	}
	delete(zones, "")
	delete(versions, "")
	sum.Counts.Malformed = len(s.Malformed)
	sum.Zones, sum.Versions = slices.Sorted(maps.Keys(zones)), slices.Sorted(maps.Keys(versions))
	return sum
}

// stateOf returns what becomes of an instance, without a look at its lease.
func stateOf(i *survey.Instance, drained map[string]bool) console.State {
	switch {
	case i.Leaving():
		return console.Leaving
	case drained[i.Addr]:
		return console.Drained
	}
	return console.Registered
}

// Service is part of console.Backend.
func (f *Fleet) Service(key string) *console.Service {
	v := f.look()
	s := v.services[key]
	if s == nil {
		return nil
	}
	out := detail(s, f.store.Full)
	n := sort.Search(len(v.fleet.Services), func(n int) bool { return v.fleet.Services[n].Key >= key })
	out.Summary = v.fleet.Services[n]
	out.Recent = f.changesAt(key)
	return out
}

// detail returns a service in full, save its summary and its past.
func detail(s *survey.Service, full func(string) string) *console.Service {
	out := &console.Service{Editable: endpoint.CheckKey(s.Key) == nil, Config: configOf(s)}
	drained := s.Drained()
	shares := sharesOf(s)
	for n := range s.Instances {
		i := &s.Instances[n]
		share := -1.0
		if got, ok := shares[i.Entry.Key]; ok {
			share = got
		}
		out.Instances = append(out.Instances, console.Instance{
			ID: i.Instance, Addr: i.Addr, Version: i.Version, Zone: i.Zone, Weight: i.Weight, Layout: s.LayoutName(*i),
			EtcdKey: full(i.Entry.Key), State: stateOf(i, drained), Lease: i.Entry.Lease, Metadata: pairs(i.Metadata), Share: share,
		})
	}
	for _, i := range s.Malformed {
		out.Instances = append(out.Instances, console.Instance{
			ID: i.Instance, EtcdKey: full(i.Entry.Key), State: console.Malformed, Problem: i.Err.Error(), Lease: i.Entry.Lease, Share: -1,
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

// sharesOf returns the share of each entry by the live config, none if there is no such config.
func sharesOf(s *survey.Service) map[string]float64 {
	x, err := steer.Explain(s, steer.Caller{})
	if err != nil {
		return nil
	}
	shares := make(map[string]float64, len(x.Service.Instances))
	for _, i := range s.Instances {
		shares[i.Entry.Key] = 0
	}
	byAddr := x.ByAddr()
	for _, i := range x.Service.Instances {
		shares[i.Entry.Key] = byAddr[i.Addr].Share
	}
	return shares
}

// configOf returns the live config of a service for people.
func configOf(s *survey.Service) console.Config {
	if s.Config == nil {
		return console.Config{Whole: true, Splits: versionSplits(s), Proposed: true}
	}
	c := console.Config{Revision: s.Config.ModRevision}
	if c.Text, c.Whole = shownConfig(s.Config.Value); !c.Whole {
		c.Problem = problemOf(liveconfig.Check(string(s.Config.Value)))
		return c
	}
	if c.Problem = problemOf(liveconfig.Check(string(s.Config.Value))); c.Problem != "" {
		return c
	}
	live, err := liveconfig.Parse(s.Config.Value)
	c.Balances = err == nil && live.NamesPolicy()
	if policy := liveconfig.Policy(s.Config.Value); policy != nil {
		for _, split := range policy.Split {
			c.Splits = append(c.Splits, console.Split{Match: matchText(split.Match), Weight: split.Weight})
		}
	}
	if len(c.Splits) == 0 {
		c.Splits, c.Proposed = versionSplits(s), true
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

// matchText returns a match of a split as people write it. It is JSON, which names a group without doubt.
func matchText(match map[string]string) string {
	text, err := json.Marshal(match)
	if err != nil {
		panic(err) // cannot be: they are texts
	}
	return string(printable.JSON(text))
}

// versionSplits returns the split that could be begun of a service: among its versions, by how many instances each has.
func versionSplits(s *survey.Service) (splits []console.Split) {
	const groups = 8
	counts := make(map[string]uint32)
	for _, i := range s.Instances {
		if i.Version != "" {
			counts[i.Version]++
		}
	}
	if len(counts) < 2 || len(counts) > groups {
		return nil
	}
	total := uint32(0)
	for _, n := range counts {
		total += n
	}
	for _, version := range slices.Sorted(maps.Keys(counts)) {
		splits = append(splits, console.Split{Match: matchText(serviceconfig.Split{Match: map[string]string{"version": version}}.Match), Weight: 100 * counts[version] / total})
	}
	return splits
}

// Leases is part of console.Backend.
func (f *Fleet) Leases(ctx context.Context, ids []int64) (map[int64]console.Lease, error) {
	if f.troubled() {
		return nil, errTroubled
	}
	found, err := f.store.Within(store.Quick).Leases(ctx, ids)
	all := make(map[int64]console.Lease, len(found))
	for id, t := range found {
		all[id] = console.Lease{Left: t.Left, Granted: t.Granted}
	}
	return all, err
}
