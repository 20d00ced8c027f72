package schedule

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// The other region is a schedule within one: a cluster of etcd, its servers and what befalls them. It has no callers of its own:
// those of the first region fall back on it.

const (
	// oneWithOther is of how many worlds one has another region.
	oneWithOther = 4
	// mostAway is how many steps happen in the other region at most.
	mostAway = 4
)

// notAway are the kinds that need a caller, or passwords, which the other region does not have.
var notAway = []Kind{
	CutFromServer, StalledFromServer, ResetFromServer, SlowToServers, CallerRestarts, CallerIdles, RightsRefused, TokensExpire,
}

// The ways in which all servers go. N of HomeGoes is one of them.
const (
	HomeLeaves = iota // etcd, and serves on
	HomeStops
	HomeIsKilled
	waysToGo
)

// regionKinds are drawn by themselves, where there are two regions. They come in place of what they clash with.
var regionKinds = []kind{
	{HomeGoes, 4, 15 * time.Second, number(0, waysToGo, always), allServers, "every server {goes} for {for}"},
	{CutFromAway, 1, 15 * time.Second, aCaller, onProcess("away"), "{who} is cut off from the other region's etcd for {for}"},
	{StalledFromAway, 1, 15 * time.Second, aCaller, onProcess("away"), "the other region's etcd is a black hole to {who} for {for}"},
}

// allServers holds the lives of all servers.
func allServers(s Schedule, _ Step) (held []string) {
	for i := range s.Servers {
		held = append(held, onProcess("life")(s, Step{Who: i})...)
	}
	return held
}

// withOther gives some worlds another region, at random of its own, and has calls leave for it.
func withOther(r *rand.Rand, s Schedule) Schedule {
	if r.IntN(oneWithOther) > 0 {
		return s
	}
	other := Schedule{Seed: s.Seed, Away: true, Members: 1}
	for range 1 + r.IntN(2) {
		other.Servers = append(other.Servers, newServer(r))
	}
	kinds := slices.DeleteFunc(slices.Clone(catalog), func(k kind) bool { return slices.Contains(notAway, k.kind) })
	other.Steps = drawAmong(r, other, kinds, r.IntN(mostAway+1), someMoments(r))
	s.Other = &other
	for _, step := range drawAmong(r, s, regionKinds, 1+r.IntN(len(regionKinds)), someMoments(r)) {
		s.Steps = slices.DeleteFunc(s.Steps, func(other Step) bool { return clash(s, step, other) })
		s.Steps = append(s.Steps, step)
	}
	slices.SortStableFunc(s.Steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return s
}

// checkOther returns an error that says why the schedule cannot have the other region that it has.
func (s Schedule) checkOther() error {
	if s.Other == nil {
		return nil
	}
	if s.Away || !s.Other.Away {
		return errors.New("another region needs away set, and cannot have another region itself")
	}
	return s.Other.Check()
}
