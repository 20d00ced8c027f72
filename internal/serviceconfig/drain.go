package serviceconfig

import "fmt"

// Drain is the effect of a list of instances to drain. Clients ignore the list, for all instances or for the base, if it leaves
// none to call, or too few. The base are the instances without a lane.
type Drain struct {
	Drained []bool // by instance: it gets no new calls
	Ignored DrainFault
	Kept    int // the number of instances that the list is ignored for
	least   int // MinHealthyPercent
}

// DrainFault is the reason to ignore a list of instances to drain. 0: the list is followed.
type DrainFault int

// The reasons.
const (
	DrainNamesAll      DrainFault = iota + 1 // it leaves no instance
	DrainLeavesHeld                          // it leaves only instances that vanished from etcd, which may be dead
	DrainNamesBase                           // it leaves no instance of the base, or only ones that vanished
	DrainLeavesFew                           // it leaves less than MinHealthyPercent of the instances in etcd
	DrainLeavesFewBase                       // it leaves less than MinHealthyPercent of the base
)

// Problem returns the reason as a text, "" if the list is followed.
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

// DecideDrain decides which of n instances are drained. It calls named, which reports whether the list names an instance, once
// for each. base reports whether an instance has no lane; nil: there are no lanes. called reports whether a client may call an
// instance of the base; nil: it may call all. held reports whether an instance vanished from etcd; nil: none did.
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
		if of, n := d.fault(called, held); of != 0 && of != DrainLeavesFew { // shares count instances that the client may not call, too
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

// fault returns the reason to ignore the list for a set of instances, and the size of the set. A nil set is all.
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

// FollowDrain is [DecideDrain] for the names in e.Drain and the lanes of e.Route. value returns an instance's value of a name
// in a match.
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
