package check

import (
	"slices"
	"time"
)

// solid returns the lives that a failed call should have reached: the caller should know them, by what etcd has had and not
// by what it says itself, they serve the method, nothing drains them, and nothing has happened on the way to them since a
// call last came back.
func (j *Judge) solid(c Call) []string {
	able := make(map[string]*life) // by address
	used := slices.Clone(c.Known)  // addresses that the caller may use
	for _, addr := range j.history.addrs(c.Service) {
		if l := j.at(addr); l != nil && !l.leaves && j.reached(c, l) && !j.drains(c, l) && (j.listed(c, l) || j.held(c, l)) {
			able[addr] = l
		}
		if able[addr] != nil || j.history.at(place{c.Service, addr}).present(c.Begin) {
			used = append(used, addr)
		}
	}
	slices.Sort(used)
	used = slices.Compact(used)
	doubtful := len(used) - len(able)
	var solid []string
	for _, l := range able {
		if c.Subset > 0 && c.Target == "" && doubtful >= c.Subset {
			continue // the subset may consist of the others
		}
		if slices.Contains(l.Methods, c.Method) && j.heardOfMethod(c, l) {
			solid = append(solid, l.ID)
		}
	}
	slices.Sort(solid)
	return solid
}

// hears returns until when etcd could tell the caller something, at the latest when the call ended.
func (c *Call) hears() time.Time {
	if c.Deaf.IsZero() {
		return c.End
	}
	return c.Deaf
}

// listed reports whether the caller should know the life because etcd has had its entry without a break since a call last came
// back, or had until it could not tell the caller any more.
func (j *Judge) listed(c Call, l *life) bool {
	until, at := c.hears(), place{c.Service, l.Addr}
	s := j.history.at(at)
	if !s.present(until) || !j.heard(c, l, lastAt(s.came, until)) {
		return false
	}
	return c.Target == "" || j.history.standsFor(c.Target, at) && j.heard(c, l, lastAt(s.came, c.End))
}

// heardOfMethod reports whether etcd could tell the caller that the life serves the method, or that one before it at the same
// address did.
func (j *Judge) heardOfMethod(c Call, l *life) bool {
	if c.Deaf.IsZero() {
		return true
	}
	for _, o := range j.lives {
		if o.Addr == l.Addr && o.since.Before(c.Deaf) && slices.Contains(o.Methods, c.Method) {
			return true
		}
	}
	return false
}

// heard reports whether the caller has certainly heard of a change of the life's entry, and called the life since. It closes its
// connection when the entry leaves etcd, and may take long to connect again.
func (j *Judge) heard(c Call, l *life, change time.Time) bool {
	return change.Before(j.proven[c.path(l)]) && (slices.Contains(c.Known, l.Addr) || c.Begin.Sub(change) > doubt)
}

// held reports whether the caller should know the life because it vanished without a word when all did, or most.
func (j *Judge) held(c Call, l *life) bool {
	return c.Target == "" && j.vanished(c, l) && j.suspicious(c)
}

// vanished reports whether etcd ceased without a word to have the entry of the life within the grace, by the change by which it last ceased to
// have any of the service, and the caller knew it before, and could hear of it. The withdrawal of one before is followed at once.
func (j *Judge) vanished(c Call, l *life) bool {
	s := j.history.at(place{c.Service, l.Addr})
	went := lastAt(s.went, c.End)
	switch {
	case !went.After(l.returned) || lastAt(s.left, c.End).After(l.returned) || s.present(c.End):
		return false
	case went.After(c.hears()) || c.End.Sub(went) >= Grace || s.gone < j.lastGone(c):
		return false
	}
	before := went.Add(-1)
	return s.present(before) && j.heard(c, l, lastAt(s.went, before))
}

// lastGone returns the change by which etcd last ceased to have an entry of the service.
func (j *Judge) lastGone(c Call) (last int) {
	for _, addr := range j.history.addrs(c.Service) {
		last = max(last, j.history.at(place{c.Service, addr}).gone)
	}
	return last
}

// suspicious reports whether so many vanished at once that callers hold them, whenever they have heard of it: all, or two and
// more than half.
func (j *Judge) suspicious(c Call) bool {
	left, lost := 0, 0
	for _, addr := range j.history.addrs(c.Service) {
		if j.history.at(place{c.Service, addr}).present(c.hears()) {
			left++
		} else if l := j.at(addr); l != nil && j.vanished(c, l) {
			lost++
		}
	}
	return left == 0 || lost-left >= 2 && 2*left < lost
}

// lately reports whether a caller that has heard of everything may still know an address.
func (j *Judge) lately(c Call, addr string) bool {
	s := j.history.at(place{c.Service, addr})
	return s.present(c.Begin) || c.Begin.Sub(lastAt(s.went, c.Begin)) < leaves
}

// knows reports whether the caller says that it knows the life, and etcd has it.
func (j *Judge) knows(c Call, l *life) bool {
	return slices.Contains(c.Known, l.Addr) && j.history.at(place{c.Service, l.Addr}).present(c.End)
}
