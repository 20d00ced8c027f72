package serviceconfig

import "fmt"

// Drain is what clients make of a list of instances to drain. They do not follow it where calls would have nowhere to go.
type Drain struct {
	Drained []bool // of each instance, whether it gets no new calls
	Ignored DrainFault
	Kept    int // how many instances the list is ignored for
}

// DrainFault is why a list of instances to drain is not followed.
type DrainFault int

// The faults. The zero value is a list that is followed.
const (
	DrainNamesAll   DrainFault = iota + 1 // it leaves no instance
	DrainLeavesHeld                       // it leaves only instances that etcd no longer has, which may be dead
	DrainNamesBase                        // it leaves none that is in no lane, or only held ones: it is ignored for these
)

// Problem says why the list is not followed, "" if it is.
func (d *Drain) Problem() string {
	switch d.Ignored {
	case DrainNamesAll:
		return fmt.Sprintf("drain names all %d endpoints and is ignored", d.Kept)
	case DrainLeavesHeld:
		return "drain leaves only endpoints that have vanished from etcd, and is ignored meanwhile"
	case DrainNamesBase:
		return fmt.Sprintf("drain leaves no endpoint that is in no lane, and is ignored for these %d", d.Kept)
	}
	return ""
}

// FollowDrain decides which of n instances e drains, whose list names some of them. base tells which are in no lane;
// nil: there are no lanes. held tells which etcd no longer has; nil: it has all. named is asked once for each.
func FollowDrain(_ *Etcd, n int, named, base, held func(i int) bool) Drain {
	d := Drain{Drained: make([]bool, n)}
	for i := range n {
		d.Drained[i] = named(i)
	}
	switch none, onlyHeld, _ := d.left(nil, held); {
	case none:
		return Drain{make([]bool, n), DrainNamesAll, n}
	case onlyHeld:
		return Drain{make([]bool, n), DrainLeavesHeld, n}
	case base == nil:
		return d
	}
	if none, onlyHeld, size := d.left(base, held); none || onlyHeld {
		d.Ignored, d.Kept = DrainNamesBase, size
		for i := range n {
			d.Drained[i] = d.Drained[i] && !base(i)
		}
	}
	return d
}

// left reports whether no instance of a set is left, or only held ones while others are drained. A nil set is all.
func (d *Drain) left(in, held func(i int) bool) (none, onlyHeld bool, size int) {
	left, alive, aliveLeft := 0, false, false
	for i, drained := range d.Drained {
		if in != nil && !in(i) {
			continue
		}
		size++
		here := held == nil || !held(i)
		alive = alive || here
		if !drained {
			left++
			aliveLeft = aliveLeft || here
		}
	}
	return size > 0 && left == 0, left > 0 && alive && !aliveLeft, size
}

// FollowDrain decides which of n instances the policy drains. value returns an instance's value of a name, as a match has
// it, and held is as for the function.
func (e *Etcd) FollowDrain(n int, value func(i int, name string) string, held func(i int) bool) Drain {
	if len(e.Drain) == 0 {
		return Drain{Drained: make([]bool, n)}
	}
	names := make(map[string]bool, len(e.Drain))
	for _, name := range e.Drain {
		names[name] = true
	}
	var base func(i int) bool
	if lanes := NewLanes(e.Route); lanes != nil {
		of := lanes.Place(n, value).Of
		base = func(i int) bool { return of[i] == nil }
	}
	named := func(i int) bool { return names[value(i, "instance")] || names[value(i, "addr")] }
	return FollowDrain(e, n, named, base, held)
}
