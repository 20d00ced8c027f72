package check

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// Call is a call that has ended.
type Call struct {
	Caller     string // the process
	Conn       string // which of its connections
	Method     string // the full name
	Target     string // the instance that was asked for, "" any
	TargetAddr string // its address when the call began
	Subset     int    // how many instances the connection uses, 0 all
	Begin, End time.Time
	From       string // the life that answered, by its ID
	Code       codes.Code
	Err        string

	// What was so when the call began.
	Known      []string // addresses that the caller knew
	Held       bool     // etcd no longer had all of Known
	Registered []string // addresses that etcd had
	Lately     []string // addresses that etcd had had within most of the grace before
	Drained    []string // names that the live config drained
	Settled    bool     // nothing had changed lately that the caller might not have heard of
}

// Grace is how long callers hold what vanishes without a word.
const Grace = 5 * time.Second

const (
	// sentBefore is how long something that has happened excuses calls: news of it travels as slowly as they do.
	sentBefore = 500 * time.Millisecond
	// doubt is how long calls are excused after somebody else has changed an entry or what is drained, or an instance has come
	// back.
	doubt = 3 * Grace
)

// Call judges a call.
func (j *Judge) Call(c Call) {
	switch c.Code {
	case codes.OK:
		j.answered(c)
	case codes.Unimplemented:
		if solid := j.solid(c); len(solid) > 0 && j.told(c) {
			j.Report(c.End, Unserved, "%s of %s ends in Unimplemented, though %s serve it: %s", c.Method, c.Caller, and(solid), c.Err)
		}
	case codes.Unavailable, codes.DeadlineExceeded:
		if !j.excused(c) {
			j.failed(c)
		}
	default:
		j.Report(c.End, Failed, "%s of %s: %v: %s", c.Method, c.Caller, c.Code, c.Err)
	}
}

func and(ids []string) string { return strings.Join(ids, " and ") }

// answered judges a call by the life that answered it.
func (j *Judge) answered(c Call) {
	l := j.lives[c.From]
	switch {
	case l == nil:
		j.Report(c.End, NeverWas, "%s of %s: answered by %q", c.Method, c.Caller, c.From)
	case !l.up && l.ended.Before(c.Begin):
		j.Report(c.End, NeverWas, "%s of %s: answered by %s, which had ended", c.Method, c.Caller, c.From)
	case !l.targeted(c):
		j.Report(c.End, Target, "%s of %s to %s: answered by %s", c.Method, c.Caller, c.Target, c.From)
	case gone(c, l) && len(j.solid(c)) > 0:
		j.Report(c.End, Gone, "%s of %s: answered by %s", c.Method, c.Caller, c.From)
	default:
		j.proven[path{c.Caller, c.Conn, c.From}] = c.End
	}
}

// failed judges a call that nothing excuses, by the lives that it should have reached.
func (j *Judge) failed(c Call) {
	if held := j.held(c); len(held) > 0 {
		j.Report(c.End, Forgotten, "%s of %s: %v: %s; %s answered it just now, and has not left", c.Method, c.Caller, c.Code, c.Err, and(held))
	}
	if solid := j.solid(c); len(solid) > 0 {
		j.Report(c.End, Failed, "%s of %s after %v: %v: %s; it knows %s, which can be reached",
			c.Method, c.Caller, c.End.Sub(c.Begin), c.Code, c.Err, and(solid))
	}
}

// targeted reports whether the call may go to the life, as far as its target says.
func (l *life) targeted(c Call) bool {
	return c.Target == "" || c.TargetAddr == l.Addr || c.Target == l.Addr || c.Target == l.Name
}

// gone reports whether a caller that has heard of everything no longer calls the life.
func gone(c Call, l *life) bool {
	if !c.Settled || c.Target != "" {
		return false
	}
	drained := slices.Contains(c.Drained, l.Addr) || l.Name != "" && slices.Contains(c.Drained, l.Name)
	return drained || l.leaves && l.Marks && !slices.Contains(c.Lately, l.Addr)
}

// solid returns the lives that a failed call should have reached: the caller knew them, etcd had them, they serve the
// method, nothing drains them, and nothing has happened to their entries, or on the way to them, since a call last came
// back.
func (j *Judge) solid(c Call) []string {
	if c.Held {
		return nil // any of them may be held: etcd no longer has it
	}
	var solid []string
	doubtful := 0
	for _, addr := range c.Known {
		l := j.at(addr)
		if l == nil || l.leaves || !slices.Contains(c.Registered, addr) || !j.reached(c, l) || !j.connected(c, l) || j.drains(c, l) {
			doubtful++
			continue
		}
		if l.targeted(c) && slices.Contains(l.Methods, c.Method) {
			solid = append(solid, l.ID)
		}
	}
	if c.Subset > 0 && c.Target == "" && doubtful >= c.Subset {
		return nil // the subset may consist of the others
	}
	slices.Sort(solid)
	return slices.Compact(solid)
}

// held returns the lives that a failed call should have reached because the caller holds them: etcd suddenly has nothing, and
// all that it had lately are up and have not left by their own will. If only some vanish, they are not held.
func (j *Judge) held(c Call) []string {
	if c.Target != "" || c.Subset > 0 || len(c.Registered) > 0 {
		return nil
	}
	var held []string
	for _, addr := range c.Lately {
		l := j.at(addr)
		if l == nil || l.leaves || c.Begin.Sub(l.doubted) < doubt || j.drains(c, l) {
			return nil
		}
		proven := j.proven[path{c.Caller, c.Conn, l.ID}]
		if c.Begin.Sub(proven) < Grace && slices.Contains(l.Methods, c.Method) && j.reached(c, l) {
			held = append(held, l.ID)
		}
	}
	slices.Sort(held)
	return held
}

// told reports whether entries tell the caller which methods each endpoint that it knows serves.
func (j *Judge) told(c Call) bool {
	return !slices.ContainsFunc(c.Known, func(addr string) bool {
		l := j.at(addr)
		return l == nil || !l.Tells
	})
}

// reached reports whether a call from the caller has come back from the life since anything happened to their link.
func (j *Judge) reached(c Call, l *life) bool {
	proven, ok := j.proven[path{c.Caller, c.Conn, l.ID}]
	changed := j.links[pair(c.Caller, l.Process)]
	return ok && l.since.Before(c.Begin) && (changed == nil || !changed.cut && !changed.stalled && changed.changed.Before(proven))
}

// connected reports whether the caller has kept its connection to the life since a call came back. It closes the connection when
// the entry leaves etcd, and may take long to connect again.
func (j *Judge) connected(c Call, l *life) bool {
	return l.absent.Before(j.proven[path{c.Caller, c.Conn, l.ID}])
}

// drains reports whether the caller may take the life for drained: the live config drains it, or no call has come back from it
// since all callers should have heard that it no longer does.
func (j *Judge) drains(c Call, l *life) bool {
	return slices.ContainsFunc([]string{l.Addr, l.Name}, func(name string) bool {
		ended, ok := j.drained[name]
		return ok && (ended.IsZero() || j.proven[path{c.Caller, c.Conn, l.ID}].Before(ended.Add(doubt)))
	})
}

// mayReach reports whether the call may go to the life: it suits the call's target, and the caller knows it or has called it.
func (j *Judge) mayReach(c Call, l *life) bool {
	_, called := j.proven[path{c.Caller, c.Conn, l.ID}]
	return l.targeted(c) && (called || slices.Contains(c.Known, l.Addr))
}

// excused reports whether the call may have been under way to an instance that was killed, or over a link that failed.
func (j *Judge) excused(c Call) bool {
	sent := c.Begin.Add(-sentBefore)
	for _, l := range j.lives {
		if !j.mayReach(c, l) {
			continue
		}
		if l.killed && !l.ended.Before(sent) {
			return true
		}
		// A call into a black hole waits for its deadline.
		if to := j.links[pair(c.Caller, l.Process)]; to != nil && (c.Code == codes.DeadlineExceeded && to.stalled || !to.changed.Before(sent)) {
			return true
		}
	}
	return false
}
