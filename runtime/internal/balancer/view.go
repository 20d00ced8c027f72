package balancer

import (
	"cmp"
	"math"
	"math/bits"

	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// snapshot is what of a view can take calls, as of one picker. It is immutable, and made by the first pick that needs it.
type snapshot struct {
	epoch  uint64 // of the picker
	groups []readyGroup
	err    error    // for calls, if there are no groups
	toBase bool     // there are none, and none is about to answer: a lane that is not strict leaves its calls to the base
	keeps  fraction // of the calls: what is left may go to another cluster
}

// readyGroup is a group in which some endpoints are ready, and its share of the calls.
type readyGroup struct {
	id   uint64 // see group
	upTo uint64 // the sum of the weights up to and with this group's
	stay uint64 // the sum up to which its calls stay in the client's zone
	rest int    // the set for the others, by index
	sets []readySet
}

// readySet is the endpoints of a tier that are ready.
type readySet struct {
	*picking.Set
	conns []*conn // of its members
	zone  int
}

// asOf returns the snapshot for a picker of an epoch. excluded, if it is not nil, says which endpoints may not be called any
// more. While another call makes the snapshot, a call that does not wait gets an older one, if there is one.
func (v *view) asOf(epoch uint64, excluded []bool, waits bool) *snapshot {
	s := v.last.Load()
	if s != nil && s.epoch >= epoch {
		return s
	}
	if s == nil || waits {
		v.making.Lock()
	} else if !v.making.TryLock() {
		return s
	}
	defer v.making.Unlock()
	if s = v.last.Load(); s == nil || s.epoch < epoch {
		s = v.refresh(epoch, excluded)
		v.last.Store(s)
	}
	return s
}

// refresh makes a snapshot, and notes whether the view has settled.
func (v *view) refresh(epoch uint64, excluded []bool) *snapshot {
	s, states := &snapshot{epoch: epoch}, make([]groupState, len(v.groups))
	heaviest, settled, all := uint32(0), true, counts{}
	for i := range states {
		g := &states[i]
		*g = v.stateOf(&v.groups[i], excluded)
		all.addAll(g.counts)
		settled = settled && g.settled
		if len(g.sets) > 0 {
			heaviest = max(heaviest, v.groups[i].weight)
		}
	}
	if settled {
		v.settled.Store(true)
	}
	var called, ofZone counts
	for i := range states {
		g, weight := &states[i], v.groups[i].weight
		if weight == 0 && heaviest > 0 { // all may be groups without a share
			continue
		}
		called.addAll(g.counts)
		ofZone.addAll(g.ofZone)
		if len(g.sets) > 0 {
			s.add(max(1, weight), g)
		}
	}
	s.toBase = len(s.groups) == 0 && (all.trying == all.late || v.plan.traits.Single && all.late > 0)
	s.keeps = v.keeps(s, &called, &ofZone)
	if s.err = all.err; all.trying > 0 || s.err == nil {
		s.err = balancer.ErrNoSubConnAvailable
	}
	return s
}

// keeps returns the part of the calls that stays in the cluster, at least that which stays in the client's zone. called is what
// calls may go to, and ofZone what of it is in that zone. An endpoint that is being tried is not known until it is late.
func (v *view) keeps(s *snapshot, called, ofZone *counts) fraction {
	percent := v.plan.in.config.ZoneMinPercent
	switch {
	case len(s.groups) == 0:
		return noCalls
	case percent == 0:
		return allCalls
	}
	part := func(n *counts) fraction { return staying(percent, n.ready, n.members-n.waiting-(n.trying-n.late)) }
	if keeps := part(called); ofZone.ready == 0 || part(ofZone).less(keeps) {
		return keeps
	}
	return part(ofZone)
}

// groupState is what the connections of a group are.
type groupState struct {
	counts
	id      uint64 // see group
	sets    []readySet
	ofZone  counts   // of what is in the client's zone
	stay    fraction // of the calls of the client's zone
	rest    int
	settled bool // it can serve as the plan has it, or nothing is left to be tried
}

func (v *view) stateOf(of *group, excluded []bool) groupState {
	g := groupState{id: of.id, stay: allCalls, settled: true}
	percent := v.plan.in.config.ZoneMinPercent
	for _, t := range of.tiers {
		set, n := v.setOf(t, excluded)
		g.addAll(n)
		if v.plan.hasZones() && t.zone == ownZone {
			g.ofZone.addAll(n)
		}
		// It serves as the plan has it once the best of what there is serves.
		g.settled = g.settled && (len(g.sets) > 0 || n.ready > 0 || n.trying == 0)
		if n.ready == 0 {
			continue
		}
		g.sets = append(g.sets, set)
		switch {
		case percent == 0 || !v.plan.hasZones():
		case len(g.sets) == 1 && t.zone == ownZone:
			g.stay = staying(percent, n.ready, n.members-n.waiting)
		case g.sets[0].zone == ownZone && t.zone != ownZone && g.rest == 0:
			g.rest = len(g.sets) - 1
		}
	}
	if g.rest == 0 {
		g.stay = allCalls
	}
	return g
}

// counts are what connections are.
type counts struct {
	members, ready, trying int
	late                   int   // of those trying, for long
	waiting                int   // for a permit to connect, and never tried, so nothing is known of them
	err                    error // of one that has failed
}

// add counts a connection.
func (n *counts) add(c *condition) {
	n.members++
	switch c.readiness {
	case ready:
		n.ready++
	case trying:
		n.trying++
		if c.late {
			n.late++
		}
	default:
		n.err = cmp.Or(n.err, c.err)
	}
	if c.waits {
		n.waiting++
	}
}

func (n *counts) addAll(o counts) {
	n.members, n.ready, n.trying = n.members+o.members, n.ready+o.ready, n.trying+o.trying
	n.late, n.waiting, n.err = n.late+o.late, n.waiting+o.waiting, cmp.Or(n.err, o.err)
}

// setOf returns the members of a tier that are ready, and what all are. It looks at each connection once, for they change
// meanwhile.
func (v *view) setOf(t *tier, excluded []bool) (s readySet, n counts) {
	p := v.plan
	s = readySet{zone: t.zone, Set: t.NewSet(len(t.members), p.traits, picking.Settings{
		Most: int64(p.in.config.MaxConcurrentRequests), SlowStart: p.in.config.SlowStart,
	})}
	first := t.first.Load()
	for i, m := range t.members {
		x := p.conns[m]
		c := x.current.Load()
		if excluded != nil && excluded[m] {
			s.LeaveOut(false)
			continue
		}
		n.add(c)
		if c.readiness != ready {
			s.LeaveOut(c.readiness == trying && !c.late)
			continue
		}
		weight := uint64(0)
		if p.traits.Weighs {
			weight = weightOf(&p.endpoints[m])
		}
		s.Add(x.stats, weight)
		if x == first {
			s.First = len(s.conns)
		}
		if s.conns == nil {
			s.conns = make([]*conn, 0, len(t.members)-i)
		}
		s.conns = append(s.conns, x)
	}
	return s, n
}

// weightBits is by how many bits weights are shifted left, for the part of a weight that stays in a zone to be exact.
// The sum of all weights stays below 1<<60.
const weightBits = 20

// add adds a group.
func (s *snapshot) add(weight uint32, g *groupState) {
	begin, wide := s.begin(len(s.groups)), uint64(weight)<<weightBits
	next := readyGroup{id: g.id, upTo: begin + wide, stay: begin + wide, sets: g.sets, rest: g.rest}
	if g.stay != allCalls {
		hi, lo := bits.Mul64(wide, g.stay.n)
		part, _ := bits.Div64(hi, lo, g.stay.of)
		next.stay = begin + part
	}
	s.groups = append(s.groups, next)
}

// choose returns the index of the group for a call, and whether the call leaves the client's zone. An affinity decides on
// the group alone: as many calls of a key leave the zone as of any other.
func (s *snapshot) choose(o *calloptions.Options, seq *picking.Sequence) (group int, leaves bool) {
	if len(s.groups) == 1 && s.groups[0].stay == s.groups[0].upTo {
		return 0, false
	}
	if o.Affinity.Text == "" {
		at, _ := bits.Mul64(seq.Next(), s.groups[len(s.groups)-1].upTo)
		group = s.groupAt(at)
		return group, at >= s.groups[group].stay
	}
	group = s.groupOf(o.Affinity.Hash)
	begin := s.begin(group)
	at, _ := bits.Mul64(seq.Next(), s.groups[group].upTo-begin)
	return group, begin+at >= s.groups[group].stay
}

// groupOf returns the index of the group for calls with a hash. By it each group draws a number, the heavier the lower, and
// the lowest wins: a group that goes or loses weight leaves calls of its own to the others, one that comes or gains weight
// takes some of theirs, and no other calls move.
func (s *snapshot) groupOf(hash uint64) (group int) {
	lowest := math.Inf(1)
	for i := range s.groups {
		g := &s.groups[i]
		x := hash ^ g.id // mixed as by MurmurHash3
		x = (x ^ x>>33) * 0xff51afd7ed558ccd
		x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
		x ^= x >> 33
		drawn := -math.Log((float64(x>>11)+0.5)/(1<<53)) / float64(g.upTo-s.begin(i))
		if drawn < lowest {
			group, lowest = i, drawn
		}
	}
	return group
}

// begin returns the sum of the weights before those of a group.
func (s *snapshot) begin(group int) uint64 {
	if group == 0 {
		return 0
	}
	return s.groups[group-1].upTo
}

// groupAt returns the index of the group in whose share at lies.
func (s *snapshot) groupAt(at uint64) int {
	for i := range s.groups {
		if at < s.groups[i].upTo {
			return i
		}
	}
	return 0
}

// isSettled reports whether the view can serve, or nothing in it is left to be tried.
func (v *view) isSettled() bool {
	if !v.settled.Load() {
		v.refresh(0, nil)
	}
	return v.settled.Load()
}
