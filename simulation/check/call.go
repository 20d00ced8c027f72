package check

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// Call is a call that has ended.
type Call struct {
	Caller     string        // the process
	Conn       string        // which of its connections
	Service    string        // its key
	Method     string        // the full name
	Target     string        // the instance that was asked for, "" any
	Subset     int           // how many instances the connection uses, 0 all
	MayFail    bool          // as unavailable, whatever is known
	Routed     bool          // lanes, or a policy of others, may keep it from instances that serve its method
	Nowhere    bool          // the caller knew no instance, neither when it began nor when it ended
	Ejects     bool          // the connection may have left one instance out
	Longest    time.Duration // how long the method's config lets it take, 0: for ever
	Waits      time.Duration // how long it waits for somebody to lead, 0: not known
	Begin, End time.Time
	From       string // the life that answered, by its ID
	Code       codes.Code
	Err        string
	Abroad     bool // a life of another region has answered
	MustCross  bool // home had nobody, and another region has

	// What was so when the call began.
	Known   []string  // addresses that the caller said it knew
	Drained []string  // names that the live config drained
	Settled bool      // nothing had changed lately that the caller might not have heard of
	Nobody  bool      // it had been told that there is no instance at home
	Spills  bool      // a part of the calls may leave for another region though home serves
	Deaf    time.Time // since when etcd could not tell the caller anything, all through the call; zero: it could
}

// Grace is how long callers hold what vanishes without a word.
const Grace = 5 * time.Second

const (
	// sentBefore is how long something that has happened excuses calls: news of it travels as slowly as they do.
	sentBefore = 500 * time.Millisecond
	// doubt is how late a caller may hear of a change that it has missed.
	doubt = 3 * Grace
	// slack is how much longer than its timeout a call may take.
	slack = 100 * time.Millisecond
	// leaves is how soon after an entry has left etcd no call reaches it any more: it may be held.
	leaves = Grace + time.Second
)

// Call judges a call.
func (j *Judge) Call(c Call) {
	if took := c.End.Sub(c.Begin); c.Longest > 0 && took > c.Longest+slack {
		j.Report(c.End, Timeouts, "%s of %s took %v, and its timeout is %v", c.Method, c.Caller, took, c.Longest)
	}
	switch c.Code {
	case codes.OK:
		if c.Abroad {
			j.answeredAbroad(c)
		} else {
			j.answered(c)
		}
	case codes.Unimplemented:
		if solid := j.solid(c); len(solid) > 0 && j.told(c) && !c.Routed {
			j.Report(c.End, Unserved, "%s of %s ends in Unimplemented, though %s serve it: %s", c.Method, c.Caller, and(solid), c.Err)
		}
	case codes.Unavailable, codes.DeadlineExceeded:
		if c.Nowhere && !j.knewMeanwhile(c) && !slices.ContainsFunc([]string{c.Service, "etcd", "dial"}, func(said string) bool { return strings.Contains(c.Err, said) }) {
			j.Report(c.End, Told, "%s of %s, which knows no instance of %s: %v: %s", c.Method, c.Caller, c.Service, c.Code, c.Err)
		}
		if c.MustCross {
			j.Report(c.End, Crosses, "%s of %s: %v: %s", c.Method, c.Caller, c.Code, c.Err)
		}
		if !c.MayFail && !j.excused(c) {
			j.failed(c)
		}
	default:
		j.Report(c.End, Failed, "%s of %s: %v: %s", c.Method, c.Caller, c.Code, c.Err)
	}
}

// knewMeanwhile reports whether the caller may have known an instance while the call was under way, though neither before nor after.
func (j *Judge) knewMeanwhile(c Call) bool {
	return slices.ContainsFunc(j.history.addrs(c.Service), func(addr string) bool { return j.WentSince(c.Begin, c.Service, addr) })
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
	case !j.targeted(c, l):
		j.Report(c.End, Target, "%s of %s to %s: answered by %s", c.Method, c.Caller, c.Target, c.From)
	case j.gone(c, l) && len(j.solid(c)) > 0:
		j.Report(c.End, Gone, "%s of %s: answered by %s", c.Method, c.Caller, c.From)
	default:
		j.proven[c.path(l)] = c.End
	}
}

// answeredAbroad judges a call that another region has answered.
func (j *Judge) answeredAbroad(c Call) {
	solid := j.solid(c)
	switch {
	case c.Target != "":
		j.Report(c.End, Target, "%s of %s to %s: answered by %s", c.Method, c.Caller, c.Target, c.From)
	case len(solid) > 0 && !c.Routed && !c.Spills && !(c.Ejects && len(solid) == 1):
		j.Report(c.End, AtHome, "%s of %s: answered by %s; it should have reached %s", c.Method, c.Caller, c.From, and(solid))
	}
}

// failed judges a call that nothing excuses, by the lives that it should have reached.
func (j *Judge) failed(c Call) {
	solid := j.solid(c)
	if len(solid) == 0 || c.Ejects && c.Target == "" && len(solid) == 1 {
		return
	}
	rule := Forgotten
	if slices.ContainsFunc(solid, func(id string) bool { return j.knows(c, j.lives[id]) }) {
		rule = Failed
	}
	j.Report(c.End, rule, "%s of %s after %v: %v: %s; it should have reached %s", c.Method, c.Caller, c.End.Sub(c.Begin), c.Code, c.Err, and(solid))
}

// targeted reports whether the call may go to the life, as far as its target says: that has been a name of it.
func (j *Judge) targeted(c Call, l *life) bool {
	return c.Target == "" || c.Target == l.Addr || c.Target == l.Name || j.history.named[[2]string{c.Target, l.Addr}]
}

// gone reports whether a caller that has heard of everything no longer calls the life.
func (j *Judge) gone(c Call, l *life) bool {
	if !c.Settled || c.Target != "" {
		return false
	}
	drained := slices.Contains(c.Drained, l.Addr) || l.Name != "" && slices.Contains(c.Drained, l.Name)
	return drained || l.leaves && l.Marks && !j.lately(c, l.Addr)
}

// told reports whether entries tell the caller which methods each endpoint that it knows serves: each has one that has said so
// for a while, or is held by now.
func (j *Judge) told(c Call) bool {
	return !slices.ContainsFunc(c.Known, func(addr string) bool {
		l, p := j.at(addr), place{c.Service, addr}
		if l == nil || !l.Tells {
			return true
		}
		since, tells := j.history.tells[p]
		return j.history.at(p).present(c.End) && (!tells || since.After(c.Begin.Add(-sentBefore)))
	})
}

// reached reports whether a call from the caller has come back from the life since anything happened to their link.
func (j *Judge) reached(c Call, l *life) bool {
	proven, ok := j.proven[c.path(l)]
	changed := j.links[pair(c.Caller, l.Process)]
	return ok && l.since.Before(c.Begin) && (changed == nil || !changed.cut && !changed.stalled && changed.changed.Before(proven))
}

// drains reports whether the caller may take the life for drained: the live config drains it, or no call has come back from it
// since all callers should have heard that it no longer does.
func (j *Judge) drains(c Call, l *life) bool {
	return slices.ContainsFunc([]string{l.Addr, l.Name}, func(name string) bool {
		ended, ok := j.drained[name]
		return ok && (ended.IsZero() || j.proven[c.path(l)].Before(ended.Add(doubt)))
	})
}

// mayReach reports whether the call may go to the life: it suits the call's target, and the caller knows it or has called it.
func (j *Judge) mayReach(c Call, l *life) bool {
	_, called := j.proven[c.path(l)]
	return j.targeted(c, l) && (called || slices.Contains(c.Known, l.Addr))
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
