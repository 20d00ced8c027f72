package balancer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// snapshot holds the ready endpoints of a view for one picker: for all calls,
// or for the calls of one method. The first pick that needs a snapshot makes
// it. A snapshot is immutable, except that it caches the snapshots of methods.
type snapshot struct {
	epoch  uint64 // the epoch of the picker
	groups []readyGroup

	// the error of calls if groups is empty, or none of them takes calls
	err error

	// no group is ready or soon will be, so calls of a lane that is not strict
	// go to the base
	toBase bool

	// by method, if endpoints serve different methods
	methods atomic.Pointer[map[string]*snapshot]
}

// readyGroup is a group with the state of its connections, and its share of the
// calls.
type readyGroup struct {
	*planner.Group
	counts
	serves bool // some endpoint is ready
	live   bool // some of sets have live endpoints

	// one for each tier with ready endpoints or, under ring_hash, with
	// endpoints that calls may reach
	sets []readySet

	stay float64 // the part of the calls that stays in the client's zone
	rest int     // the index of the set for calls that leave the zone

	// calls wait for an endpoint of the client's zone, though others are ready
	waits bool

	upTo uint64 // the sum of the weights up to and including this group's

	// the sum of the weights up to which calls stay in the client's zone
	stayTo uint64
}

// readySet is the ready endpoints of a tier.
type readySet struct {
	*picking.Set
	class planner.Class
	conns []*conn // the connections of Set's members
}

// asOf returns the snapshot of a method for the picker of an epoch. The method
// "" stands for all methods. The first call that needs the snapshot makes it,
// and concurrent calls wait.
func (v *view) asOf(epoch uint64, method string) *snapshot {
	s := v.last.Load()
	if s == nil || s.epoch < epoch {
		s = v.makeLast(epoch)
	}

	if method == "" {
		return s
	}

	return v.forMethod(s, method)
}

func (v *view) makeLast(epoch uint64) *snapshot {
	v.making.Lock()
	defer v.making.Unlock()

	s := v.last.Load()
	if s == nil || s.epoch < epoch {
		if v.open() && v.plan.selectsByReadiness() {
			v.plan.demanded()
		}

		s = v.makeSnapshot(epoch, nil)
		v.last.Store(s)
	}

	return s
}

// forMethod returns the snapshot for the calls of a method. This snapshot
// leaves out the endpoints that lack the method.
func (v *view) forMethod(s *snapshot, method string) *snapshot {
	known := s.methods.Load()
	if known != nil && (*known)[method] != nil {
		return (*known)[method]
	}

	of := s

	if lacking := v.lacking(method); lacking != nil {
		v.plan.need(method)
		of = v.makeSnapshot(s.epoch, lacking)
	}

	next := map[string]*snapshot{method: of}
	if known != nil && len(*known) < maxMethods {
		maps.Copy(next, *known)
	}

	s.methods.Store(&next)

	return of
}

// makeSnapshot makes a snapshot. It leaves out the endpoints whose method lists
// are in lacking.
func (v *view) makeSnapshot(epoch uint64, lacking []string) *snapshot {
	s := &snapshot{epoch: epoch}
	groups := make([]readyGroup, len(v.groups))

	// The core soon chooses the members, and then publishes a picker.
	if v.plan.picksSome() && !v.chosen.Load() {
		s.err = balancer.ErrNoSubConnAvailable
		return s
	}

	anyServes := false
	// a live group serves or, if no group serves, there is a live group
	liveServe := false
	weighted := false
	all := counts{}

	// If a member of a subset is late, calls have waited for it. They do not
	// wait again for the endpoint that replaces it.
	waited := v.plan.picksSome() && v.anyBefore(planner.Away, late)
	for i, tiers := range v.groups {
		g := v.stateOf(tiers, lacking)
		if waited {
			g.awaited = 0
			g.waits = false
		}

		groups[i] = g
		anyServes = anyServes || g.serves
		all.addAll(g.counts)
	}

	for _, g := range groups {
		liveServe = liveServe || g.live && g.serves == anyServes
		weighted = weighted || g.Weight > 0 && (g.live || g.awaited > 0)
	}

	for _, g := range groups {
		// Calls rather wait for a group with a weight than go to one without.
		// If no group has a weight, all have equal shares.
		if g.live && (g.Weight > 0 || !weighted) || len(g.sets) > 0 && !liveServe {
			s.add(max(1, g.Weight), g)
		}
	}

	if len(s.groups) > 0 {
		s.err = errFull
		return s
	}

	s.toBase = all.awaited == 0

	s.err = v.failure(&all)
	if all.trying > 0 || s.err == nil {
		s.err = balancer.ErrNoSubConnAvailable
	}

	if lacking != nil && all.members == 0 {
		s.toBase = true
		s.err = errLacks
	}

	return s
}

// stateOf returns the state of a group. In a view without a base, ejected
// endpoints count as ready if no other endpoint of the group is ready, apart
// from departed and drained ones.
func (v *view) stateOf(tiers []*tier, lacking []string) readyGroup {
	g := v.stateWith(tiers, lacking, false)
	if g.ejected > 0 &&
		v.base == nil &&
		(len(g.sets) == 0 || g.sets[0].class > planner.Away) {
		return v.stateWith(tiers, lacking, true)
	}

	return g
}

func (v *view) stateWith(tiers []*tier, lacking []string, ejected bool) readyGroup {
	g := readyGroup{Group: tiers[0].group, stay: 1}
	percent := v.plan.Config.ZoneMinPercent
	for _, t := range tiers {
		// Endpoints that are not live are skipped if an earlier tier serves. A
		// lane with a base skips them, too, so that the base takes the calls,
		// unless the lane awaits an endpoint, or the plan has no live endpoint.
		if !t.Class.IsLive() && (g.serves || v.base != nil &&
			v.plan.Live > 0 &&
			!v.anyBefore(planner.Departed, trying, joining)) {
			break
		}

		set, n := v.setOf(t, lacking, ejected)
		if t.Class == planner.Away {
			n.awayErr = n.err
			n.err = nil
		}

		// the plan has no endpoints that precede this tier, which is not live
		isFirst := v.plan.Live == 0 &&
			(t.Class == planner.Away || len(v.plan.Fallback()) == 0)

		// Calls may wait for any endpoint but a departed one. With lacking set,
		// calls wait for the fallback, or for drained endpoints, only if no
		// other endpoints precede these.
		mayWait := t.Class.IsLive() ||
			t.Class != planner.Departed && (lacking == nil || isFirst)
		if mayWait {
			g.addAll(n)
		}

		if n.ready == 0 && !(v.plan.traits.Rings && mayWait && n.awaited > 0) {
			continue
		}

		g.serves = g.serves || n.ready > 0
		g.live = g.live || t.Class.IsLive()

		g.sets = append(g.sets, set)
		switch {
		case t.Class == planner.OtherZones && len(g.sets) == 1:
			g.waits = g.awaited > n.awaited // the client's zone has awaited endpoints
		case percent == 0 || !v.plan.HasZones():
		case len(g.sets) == 1 && t.Class == planner.OwnZone:
			g.stay = staying(percent, n.ready+n.awaited, n.members)

		case g.sets[0].class == planner.OwnZone &&
			t.Class == planner.OtherZones &&
			g.rest == 0:
			g.rest = len(g.sets) - 1
		}
	}

	if g.rest == 0 {
		g.stay = 1
	}

	return g
}

// counts counts connections by their condition.
type counts struct {
	members, ready int
	ejected        int

	// trying: neither ready nor failing; awaited: the trying members that calls
	// wait for
	trying, awaited int

	// the errors of a failed connection to the primary and of one to the
	// fallback
	err, awayErr error
}

// add counts a connection by its condition.
func (n *counts) add(c *condition) {
	n.members++

	switch c.readiness {
	case ready:
		n.ready++
	case failing:
		if c.isEjected() {
			n.ejected++
		}

		n.err = cmp.Or(n.err, c.err)

	case trying:
		n.awaited++
		fallthrough
	default:
		n.trying++
	}
}

func (n *counts) addAll(o counts) {
	n.members += o.members
	n.ready += o.ready
	n.ejected += o.ejected
	n.trying += o.trying
	n.awaited += o.awaited
	n.err = cmp.Or(n.err, o.err)
	n.awayErr = cmp.Or(n.awayErr, o.awayErr)
}

// failure returns the error of calls that find no ready connection among those
// counted in n. It returns nil if the key has live endpoints and none has
// failed.
func (v *view) failure(n *counts) error {
	home := cmp.Or(v.plan.Err, n.err, v.plan.Empty)
	if home == nil || n.awayErr == nil {
		return cmp.Or(home, n.awayErr)
	}

	return fmt.Errorf("%w; nor in the cluster to fall back on: %s", home,
		n.awayErr.Error())
}

// setOf returns the ready members of a tier, and the number of members in each
// condition. It leaves out members whose method list is in lacking: they do not
// serve the method. If ejected is set, ejected members count as ready. The
// condition of a connection may change at any time, so setOf loads it once.
func (v *view) setOf(t *tier, lacking []string, ejected bool) (s readySet, n counts) {
	p := v.plan
	used := t.used.Load()
	s = readySet{class: t.Class, Set: used.NewSet(p.traits)}
	s.MaxCalls = int64(p.Config.MaxConcurrentRequests)
	s.SlowStart = p.Config.SlowStart

	if p.traits.Rings {
		s.Reach = func(member int) { p.arrive(p.conns[used.Members[member]]) }
	}

	first := t.first.Load()
	for i, m := range used.Members {
		member := p.conns[m]
		if slices.Contains(lacking, p.All[m].Methods) ||
			t.Class == planner.Departed && member.spare.Load() {
			s.LeaveOut(false)
			continue
		}

		c := member.current.Load()
		if ejected && c.isEjected() {
			c = &condition{readiness: ready}
		}

		n.add(c)

		if c.readiness != ready {
			s.LeaveOut(c.readiness == trying && t.Class != planner.Departed)

			if c.readiness == trying && member.reached.Load() {
				s.Connects.Store(true)
			}

			continue
		}

		weight := uint64(0)
		if p.traits.Weighs {
			weight = weightOf(p.All[m])
		}

		s.Add(member.stats, weight)

		if member == first {
			s.First = len(s.conns)
		}

		if s.conns == nil {
			s.conns = make([]*conn, 0, len(used.Members)-i)
		}

		s.conns = append(s.conns, member)
	}

	// the core will soon connect to a member that has the method
	serves := func(m int32) bool { return !slices.Contains(lacking, p.All[m].Methods) }
	if lacking != nil && n.members == 0 && slices.ContainsFunc(t.Members, serves) {
		n = counts{members: 1, trying: 1, awaited: 1}
	}

	return s, n
}

// weightBits is the number of bits by which weights are shifted left, so that
// dividing a weight between zones stays exact. The sum of all weights stays
// below 1<<60.
const weightBits = 20

// add adds a group with its share of the calls.
func (s *snapshot) add(weight uint32, g readyGroup) {
	begin := s.begin(len(s.groups))
	wide := uint64(weight) << weightBits
	g.upTo = begin + wide
	g.stayTo = begin + uint64(g.stay*float64(wide))
	s.groups = append(s.groups, g)
}

var (
	// errFull means that every allowed endpoint has max_concurrent_requests
	// calls under way.
	errFull = errors.New("full")

	// errLacks means that no allowed endpoint serves the method of a call.
	errLacks = errors.New("no endpoint serves the method")
)

// pickFrom picks a connection from a snapshot, and counts the call if there is
// a limit. passOn reports whether the base may take the call.
//
// While all endpoints of a set are connecting, another ready set takes the
// call. If no set is ready, the call waits. A call also waits if its group
// waits for endpoints of the client's zone, so that other groups do not exceed
// their shares.
func (p *connPlan) pickFrom(
	ctx context.Context,
	o *calloptions.Options,
	s *snapshot,
) (conn *conn, passOn bool, err error) {
	chosen, outOfZone := s.chooseGroup(o, &p.sequence)
	someConnect := false // all endpoints of some set are connecting
	for n := range s.groups {
		g := &s.groups[(chosen+n)%len(s.groups)]
		if n == 0 && g.waits {
			return nil, false, balancer.ErrNoSubConnAvailable
		}

		if n == 0 && outOfZone {
			if conn, err := p.pickIn(ctx, o, &g.sets[g.rest]); !errors.Is(err, errFull) {
				return conn, false, err
			}
		}

		for i := range g.sets {
			set := &g.sets[i]
			if someConnect && len(set.conns) == 0 {
				continue
			}

			conn, err := p.pickIn(ctx, o, set)
			if len(set.conns) > 0 && !errors.Is(err, errFull) {
				return conn, false, err
			}

			someConnect = someConnect || len(set.conns) == 0
		}
	}

	if someConnect {
		return nil, false, balancer.ErrNoSubConnAvailable
	}

	return nil, s.toBase || len(s.groups) > 0, s.err
}

// pickIn picks a connection of a set, and counts the call if calls are counted.
func (p *connPlan) pickIn(
	ctx context.Context,
	o *calloptions.Options,
	s *readySet,
) (*conn, error) {
	for {
		i := p.in.config.policy.Pick(ctx, o, s.Set)
		switch i {
		case picking.Full:
			return nil, errFull
		case picking.Wait:
			return nil, balancer.ErrNoSubConnAvailable
		}

		if conn := s.conns[i]; !p.traits.Counts || conn.stats.Begin(s.MaxCalls) {
			return conn, nil
		}
	}
}

// chooseGroup returns the index of the group for a call, 0 if there are no
// groups, and whether the call goes to another zone. The affinity of a call
// decides the group, but not the zone: each affinity key sends the same share
// of its calls to other zones.
func (s *snapshot) chooseGroup(
	o *calloptions.Options,
	seq *picking.Sequence,
) (group int, outOfZone bool) {
	if len(s.groups) == 0 ||
		len(s.groups) == 1 && s.groups[0].stayTo == s.groups[0].upTo {
		return 0, false
	}

	if o.Affinity.Text == "" {
		at, _ := bits.Mul64(seq.Next(), s.groups[len(s.groups)-1].upTo)
		for at >= s.groups[group].upTo {
			group++
		}

		return group, at >= s.groups[group].stayTo
	}

	group = s.groupOf(o.Affinity.Hash)
	begin := s.begin(group)
	at, _ := bits.Mul64(seq.Next(), s.groups[group].upTo-begin)

	return group, begin+at >= s.groups[group].stayTo
}

// groupOf returns the index of the group for calls with a hash, by weighted
// rendezvous hashing. Each group draws a number from the hash, on average a
// lower one for a higher weight. The group with the lowest number wins. So only
// a group that is removed or loses weight loses calls, and only a group that is
// added or gains weight gets calls of other groups.
func (s *snapshot) groupOf(hash uint64) (group int) {
	lowest := math.Inf(1)
	for i := range s.groups {
		g := &s.groups[i]
		x := hash ^ g.ID // mixed as by MurmurHash3
		x = (x ^ x>>33) * 0xff51afd7ed558ccd
		x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
		x ^= x >> 33

		drawn := -math.Log((float64(x>>11)+0.5)/(1<<53)) / float64(g.upTo-s.begin(i))
		if drawn < lowest {
			group = i
			lowest = drawn
		}
	}

	return group
}

// begin returns the sum of the weights of all groups before a group.
func (s *snapshot) begin(group int) uint64 {
	if group == 0 {
		return 0
	}

	return s.groups[group-1].upTo
}

// staying returns the share of the calls that stay in a zone. It is 1 while at
// least percent % of the known members are ready. With fewer ready members it
// falls in proportion, down to 0.
func staying(percent uint32, ready, known int) float64 {
	return min(1, 100*float64(ready)/(float64(percent)*float64(known)))
}
