package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/methods"
)

// hasBase reports whether an endpoint is in no lane, be it one that clients can call or not.
func (p *plan) hasBase() bool { return p.placed == nil || len(p.placed.Of) < len(p.Endpoints) }

func (p *plan) isHeld(i int) bool {
	_, held := p.Held[p.Endpoints[i].Addr]
	return held
}

// drain finds the endpoints that get no new calls. As in the runtime, all count of which a share is to be left. But a drain
// that leaves none that clients can call is lifted.
func (p *plan) drain(all []*endpoint.Endpoint) {
	placed, called := p.placed, make(map[*endpoint.Endpoint]bool)
	if !p.hasBase() {
		placed = nil
	}
	for _, i := range p.callable() {
		called[all[i]] = true
	}
	d := p.policy.etcd.FollowDrain(all, placed, func(e *endpoint.Endpoint) bool { return called[e] }, p.Held)
	p.drained = make([]bool, len(all))
	for i, e := range all {
		p.drained[i] = d.Drained[e]
	}
	if !p.hasLive(p.callable()) {
		clear(p.drained)
	}
}

// callable returns the endpoints of which it can be said where they are.
func (m *mapping) callable() []int {
	all := make([]int, 0, len(m.Endpoints))
	for i := range m.Endpoints {
		if m.located[i] != nil {
			all = append(all, i)
		}
	}
	return all
}

// hasLive reports whether one of some endpoints gets new calls.
func (p *plan) hasLive(members []int) bool {
	return slices.ContainsFunc(members, func(i int) bool { return !p.drained[i] })
}

// divideByLane makes the base and the lanes. Where all endpoints are in lanes, all of them stand in for the base; not where
// clients only cannot call those in none. A strict lane without endpoints is there as well, for its calls fail, and so is any
// that is named where those of other lanes fail. First come the lanes whose calls would go elsewhere without routes of their own.
func (p *plan) divideByLane() {
	all := p.callable()
	if p.placed == nil {
		p.base.members = all
		return
	}
	members := make(map[string][]int, len(p.placed.Made))
	for _, i := range all {
		e := &p.Endpoints[i]
		if p.placed.IsBase(e) {
			p.base.members = append(p.base.members, i)
		}
		for _, name := range p.placed.Of[e] {
			members[name] = append(members[name], i)
		}
	}
	if !p.hasBase() {
		p.base.members = all
	}
	p.closed = p.policy.etcd.Strict("")
	names := append(slices.Clone(p.placed.Made), p.policy.etcd.NamedLanes()...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		l := lane{name: name, members: members[name], strict: p.policy.etcd.Strict(name)}
		if l.strict || p.closed || p.hasLive(l.members) {
			p.lanes = append(p.lanes, l)
		}
	}
	slices.SortStableFunc(p.lanes, func(a, b lane) int {
		switch {
		case a.strict == b.strict:
			return 0
		case a.strict == p.closed:
			return 1
		}
		return -1
	})
}

// methodsText returns the text in which an endpoint names the methods that it serves, "" if it names none.
func methodsText(e *endpoint.Endpoint) string {
	if text := e.Metadata[endpoint.MethodsName]; len(text) <= endpoint.MaxMethods {
		return text
	}
	return ""
}

// tellApart finds the distinct texts of the members of a lane that get new calls, in their order; none if there are too many or,
// with those of other lanes, too long ones.
func (p *plan) tellApart(l *lane) {
	l.of = make([]int, len(l.members))
	all := &set{lane: l.name, members: l.members, groups: p.bySplit(l.members)}
	l.sets = map[uint32]*set{methods.Every: all}
	for _, i := range l.members {
		if text := methodsText(&p.Endpoints[i]); !p.drained[i] && !slices.Contains(l.texts, text) {
			if len(l.texts) == methods.MaxTexts {
				l.texts = nil
				return
			}
			l.texts = append(l.texts, text)
		}
	}
	bytes := 0
	for _, text := range l.texts {
		if p.known[text] == nil {
			bytes += len(text)
		}
	}
	if bytes > p.allowed {
		p.lose("endpoints in lanes publish more than %d KiB of different lists of methods: in some lanes, calls go to all",
			maxNamed>>10)
		l.texts = nil
		return
	}
	p.allowed -= bytes
	for n, i := range l.members {
		l.of[n] = slices.Index(l.texts, methodsText(&p.Endpoints[i]))
	}
	for _, text := range l.texts {
		if p.known[text] == nil {
			p.known[text] = namedBy(text)
		}
		p.named[text] = p.known[text]
	}
}

// set is endpoints of a lane that serve a method.
type set struct {
	lane    string // "": the base
	members []int
	groups  []group // of members
	served  string  // tells what they serve, where others of the lane do not; else ""
}

// serving returns those of a lane's members that serve a method. elsewhere reports that only those of other, nil for none, are
// known to. Sets are told apart until there are too many.
func (p *plan) serving(at path, l, other *lane) (s *set, elsewhere bool) {
	var others []string
	if other != nil {
		others = other.texts
	}
	in, elsewhere := methods.Serving(l.texts, others, func(text string) (service, method bool) {
		return p.named[text][path{service: at.service}], at.method != "" && p.named[text][at]
	})
	if l.sets[in] == nil && len(l.sets) > methods.MaxTexts {
		in = methods.Every
	}
	if l.sets[in] == nil {
		l.sets[in] = p.setOf(l, in)
	}
	return l.sets[in], elsewhere
}

// inBase returns those of the base that serve a method.
func (p *plan) inBase(at path) *set {
	s, _ := p.serving(at, &p.base, nil)
	return s
}

// setOf makes the set of those members of a lane that have some of its texts.
func (p *plan) setOf(l *lane, in uint32) *set {
	s := &set{lane: l.name}
	for n, i := range l.members {
		if of := l.of[n]; of >= 0 && in&(1<<of) != 0 {
			s.members = append(s.members, i)
		}
	}
	s.groups = p.bySplit(s.members)
	var served []string
	for i, text := range l.texts {
		if in&(1<<i) != 0 {
			served = append(served, text)
		}
	}
	slices.Sort(served)
	s.served = fmt.Sprintf("%016x", xxhash.Sum64String(strings.Join(served, "\n")))
	return s
}

// group is the endpoints that have one share of the calls.
type group struct {
	weight  uint32
	name    string // "": there is no split
	members []int
}

// bySplit returns the groups of members that may be called, and last those that match none.
func (p *plan) bySplit(members []int) []group {
	split := p.policy.etcd.Split
	if len(split) == 0 {
		return []group{{weight: 1, members: members}}
	}
	groups := make([]group, len(split)+1)
	for g := range split {
		groups[g].weight, groups[g].name = split[g].Weight, p.policy.groups[g]
	}
	groups[len(split)].name = "rest"
	for _, i := range members {
		g := p.policy.etcd.Group(&p.Endpoints[i])
		groups[g].members = append(groups[g].members, i)
	}
	return slices.DeleteFunc(groups, func(g group) bool { return !p.hasLive(g.members) })
}

// byZone returns the members in the client's own zone and then the others, either of which may be none, or all in one.
func (p *plan) byZone(members []int) [][]int {
	if !p.policy.etcd.PreferZone || p.client.Zone == "" {
		return [][]int{members}
	}
	var own, others []int
	for _, i := range members {
		if p.Endpoints[i].Zone == p.client.Zone {
			own = append(own, i)
		} else {
			others = append(others, i)
		}
	}
	return [][]int{own, others}
}

// bySubset returns the members that the client uses: as many as are asked for, by rendezvous hashing with its id. A held
// endpoint may be dead, so for each that is chosen a live one is added while there is one. Drained ones are not counted.
func (p *plan) bySubset(members []int) []int {
	n := int(p.policy.etcd.Subset)
	if n == 0 || len(members) <= n {
		return members
	}
	score := make(map[int]uint64, len(members))
	for _, i := range members {
		score[i] = xxhash.Sum64String(p.client.ID + "\x00" + p.Endpoints[i].Instance)
	}
	ranking := slices.DeleteFunc(slices.Clone(members), func(i int) bool { return p.drained[i] })
	slices.SortStableFunc(ranking, func(a, b int) int { return cmp.Compare(score[b], score[a]) })
	var chosen []int
	live := 0
	for _, i := range ranking {
		switch {
		case live == n:
			continue
		case !p.isHeld(i):
			live++
		case len(chosen) >= n:
			continue
		}
		chosen = append(chosen, i)
	}
	slices.Sort(chosen)
	return chosen
}
