package serviceconfig

import "fmt"

// Drain is what clients make of a list of instances to drain. They do not follow it where calls would have nowhere to go, or
// too few of the instances were left.
type Drain struct {
	Drained []bool // of each instance, whether it gets no new calls
	Ignored DrainFault
	Kept    int // how many instances the list is ignored for
	least   int // MinHealthyPercent
}

// DrainFault is why a list of instances to drain is not followed.
type DrainFault int

// The faults. The zero value is a list that is followed.
const (
	DrainNamesAll      DrainFault = iota + 1 // it leaves no instance
	DrainLeavesHeld                          // it leaves only instances that etcd no longer has, which may be dead
	DrainNamesBase                           // it leaves none of those in no lane, or only held ones: it is ignored for these
	DrainLeavesFew                           // it leaves fewer of those that etcd has than MinHealthyPercent
	DrainLeavesFewBase                       // ... of those in no lane: it is ignored for these
)

// Problem says why the list is not followed, "" if it is.
func (d *Drain) Problem() string {
	switch d.Ignored {
	case DrainNamesAll:
		if d.Kept == 1 {
			return "drain names the only endpoint and is ignored"
		}
		return fmt.Sprintf("drain names all %d endpoints and is ignored", d.Kept)
	case DrainLeavesHeld:
		return "drain leaves only endpoints that have vanished from etcd, and is ignored meanwhile"
	case DrainNamesBase:
		return fmt.Sprintf("drain leaves no endpoint that is in no lane, and is ignored for these %d", d.Kept)
	case DrainLeavesFew:
		return fmt.Sprintf("drain leaves fewer than %d %% of the %d endpoints, and is ignored", d.least, d.Kept)
	case DrainLeavesFewBase:
		return fmt.Sprintf("drain leaves fewer than %d %% of the %d endpoints that are in no lane, and is ignored for these", d.least, d.Kept)
	}
	return ""
}

// DecideDrain decides which of n instances e drains, whose list names some of them. base tells which are in no lane;
// nil: there are no lanes. called tells which of these a client may call, of which it must not be left without; nil: all. held
// tells which etcd no longer has; nil: it has all. named is asked once for each.
func DecideDrain(e *Etcd, n int, named, base, called, held func(i int) bool) Drain {
	d := Drain{Drained: make([]bool, n), least: int(e.MinHealthyPercent)}
	for i := range n {
		d.Drained[i] = named(i)
	}
	fault, size := DrainFault(0), 0
	if base != nil {
		fault, size = d.fault(base, held)
	}
	if called != nil {
		if of, n := d.fault(called, held); of != 0 && of != DrainLeavesFew { // a share is of all, whoever may call what
			fault, size = of, n
		}
	}
	ofAll, _ := d.fault(nil, held)
	if ofAll != 0 && (size == 0 || ofAll != DrainLeavesFew) { // without a base, all stand in for it
		return Drain{make([]bool, n), ofAll, n, d.least}
	}
	switch fault {
	case 0:
		return d
	case DrainLeavesFew:
		d.Ignored, d.Kept = DrainLeavesFewBase, size
	default:
		d.Ignored, d.Kept = DrainNamesBase, size
	}
	for i := range n {
		d.Drained[i] = d.Drained[i] && !base(i)
	}
	return d
}

// fault returns why the list is not to be followed for a set of instances, and the size of the set. A nil set is all.
func (d *Drain) fault(in, held func(i int) bool) (_ DrainFault, size int) {
	left, here, hereLeft := 0, 0, 0
	for i, drained := range d.Drained {
		if in != nil && !in(i) {
			continue
		}
		size++
		if !drained {
			left++
		}
		if held == nil || !held(i) {
			here++
			if !drained {
				hereLeft++
			}
		}
	}
	switch {
	case size > 0 && left == 0:
		return DrainNamesAll, size
	case here > 0 && hereLeft == 0:
		return DrainLeavesHeld, size
	case 100*hereLeft < d.least*here:
		return DrainLeavesFew, size
	}
	return 0, size
}

// FollowDrain is [DecideDrain] for the names in e.Drain and the lanes of e.Route. value returns what an instance has under a
// name that a match may look up.
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
	return DecideDrain(e, n, named, base, nil, held)
}
