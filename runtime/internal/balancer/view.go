package balancer

import (
	"math/bits"
	"time"

	"google.golang.org/grpc/balancer"
)

// stand returns the standing of a view, for a picker of an epoch. gone, if it is not nil, says which endpoints may not be called any more. A call does not wait for another that makes one, if there is an older.
func (v *view) stand(epoch uint64, gone []bool) *standing {
	s := v.now.Load()
	if s != nil && s.epoch >= epoch {
		return s
	}
	if s != nil && !v.making.TryLock() {
		return s
	}
	if s == nil {
		v.making.Lock()
	}
	defer v.making.Unlock()
	if s = v.now.Load(); s == nil || s.epoch < epoch {
		s = v.survey(epoch, gone)
		v.now.Store(s)
	}
	return s
}

// survey looks at the connections of a view. gone, if it is not nil, says which endpoints may not be called any more.
func (v *view) survey(epoch uint64, gone []bool) *standing {
	s := &standing{epoch: epoch}
	heaviest := uint32(0)
	looks := make([]look, len(v.groups))
	settled, tried, known := true, true, true
	for i := range v.groups {
		looks[i] = v.look(&v.groups[i], gone)
		settled = settled && looks[i].settled
		tried = tried && looks[i].tried
		known = known && looks[i].known
		if len(looks[i].sets) > 0 {
			heaviest = max(heaviest, v.groups[i].weight)
		} else if s.otherwise == nil {
			s.otherwise = looks[i].err
		}
	}
	if settled {
		v.settled.Store(true)
	}
	for i := range v.groups {
		weight := v.groups[i].weight
		switch {
		case len(looks[i].sets) == 0:
		case weight > 0:
			s.add(weight, &looks[i])
		case heaviest == 0:
			s.add(1, &looks[i]) // only groups without a share are left
		}
	}
	if s.yields = known && len(s.groups) == 0; !tried || s.otherwise == nil {
		s.otherwise = balancer.ErrNoSubConnAvailable
	}
	return s
}

// look is what is found of a group.
type look struct {
	sets    []*set
	stay    fraction // of the calls of the client's zone
	away    int
	settled bool  // it can serve as the plan has it, or nothing is left to be tried
	tried   bool  // nothing is left to be tried
	known   bool  // nothing is left that was never tried
	err     error // of an endpoint that has failed
}

// look looks at the connections of a group.
func (v *view) look(g *group, gone []bool) look {
	l := look{stay: allCalls, tried: true, known: true, settled: true}
	percent := v.plan.in.config.ZoneMinPercent
	for _, t := range g.tiers {
		set, n := v.see(t, gone)
		if n.err != nil && l.err == nil {
			l.err = n.err
		}
		// It serves as the plan has it once the best of what there is serves.
		l.settled = l.settled && (len(l.sets) > 0 || n.ready > 0 || n.trying == 0)
		l.tried = l.tried && n.trying == 0
		l.known = l.known && n.trying == n.again
		if n.ready == 0 {
			continue
		}
		l.sets = append(l.sets, set)
		switch {
		case percent == 0 || !v.plan.hasZones():
		case len(l.sets) == 1 && t.zone == ownZone:
			l.stay = staying(percent, n.ready, n.members-n.waiting)
		case l.sets[0].tier.zone == ownZone && t.zone != ownZone && l.away == 0:
			l.away = len(l.sets) - 1
		}
	}
	if l.away == 0 {
		l.stay = allCalls
	}
	return l
}

// counts are what a tier's connections are.
type counts struct {
	members, ready, trying int
	again                  int // of those trying, not for the first time
	waiting                int // for a place to connect, and never tried, so nothing is known of them
	err                    error
}

// see returns the members of a tier that are ready, and what the others are. It looks at each once, for they change
// meanwhile.
func (v *view) see(t *tier, gone []bool) (s *set, n counts) {
	c := v.plan.in.config
	s = &set{tier: t, most: int64(c.MaxConcurrentRequests), slow: c.SlowStart}
	if _, rings := c.way.(ringHash); rings {
		s.at = make([]int32, len(t.members))
	}
	for i, m := range t.members {
		x := v.plan.conns[m]
		now, at := x.now.Load(), int32(fails)
		switch {
		case gone != nil && gone[m]:
		case now.kind == ready:
			at = int32(len(s.conns))
			s.add(x, len(t.members)-i)
			n.members++
			n.ready++
			if v.plan.traits.weighs {
				s.weights = append(s.weights, weightOf(&v.plan.left[m]))
			}
		default:
			n.add(now)
			if now.kind == trying {
				at = connects
			}
		}
		if s.at != nil {
			s.at[i] = at
		}
	}
	return s, n
}

// add adds a member, after which no more than a number will follow, with itself.
func (s *set) add(x *conn, most int) {
	if s.conns == nil {
		s.conns = make([]*conn, 0, most)
	}
	s.conns = append(s.conns, x)
}

// add counts an endpoint that is not ready.
func (n *counts) add(now *condition) {
	n.members++
	switch {
	case now.kind == trying:
		if n.trying++; now.again {
			n.again++
		}
	case n.err == nil:
		n.err = now.err
	}
	if now.waits {
		n.waiting++
	}
}

// weightBits is by how many bits weights are shifted left, for the part of a weight that stays in a zone to be exact.
// The sum of all weights stays below 1<<60.
const weightBits = 20

// add adds a group.
func (s *standing) add(weight uint32, l *look) {
	begin, wide := uint64(0), uint64(weight)<<weightBits
	if n := len(s.groups); n > 0 {
		begin = s.groups[n-1].upTo
	}
	g := share{upTo: begin + wide, stay: begin + wide, sets: l.sets, away: l.away}
	if l.stay != allCalls {
		hi, lo := bits.Mul64(wide, l.stay.n)
		part, _ := bits.Div64(hi, lo, l.stay.of)
		g.stay = begin + part
	}
	s.groups = append(s.groups, g)
}

// choose returns the index of the group for a call, and whether the call leaves the client's zone. hash, of a call with an
// affinity, chooses the group alone: of a key's calls as many leave the zone as of any other's.
func (s *standing) choose(w *wishes, seq *sequence) (group int, leaves bool) {
	if len(s.groups) == 1 && s.groups[0].stay == s.groups[0].upTo {
		return 0, false
	}
	total := s.groups[len(s.groups)-1].upTo
	if w.affinity.key == "" {
		at, _ := bits.Mul64(seq.next(), total)
		group = s.group(at)
		return group, at >= s.groups[group].stay
	}
	at, _ := bits.Mul64(w.affinity.hash, total)
	group = s.group(at)
	begin := uint64(0)
	if group > 0 {
		begin = s.groups[group-1].upTo
	}
	at, _ = bits.Mul64(seq.next(), s.groups[group].upTo-begin)
	return group, begin+at >= s.groups[group].stay
}

// group returns the index of the group in whose share at lies.
func (s *standing) group(at uint64) int {
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
		v.survey(0, nil)
	}
	return v.settled.Load()
}

// settleWithin is how long a new plan may take to serve.
const settleWithin = 5 * time.Second
