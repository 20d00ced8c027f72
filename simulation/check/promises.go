package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// always lists the promises that hold at any time. A world is calm while there are no faults and no broken promises.
var always = []struct {
	promise string
	broken  func(h *History, broken report)
}{
	{"who answers a call is there, and was meant", wrongAnswers},
	{"no call fails that no policy keeps from an instance, while one is known and reached and no link of the caller is broken", failedCalls},
	{"no call leaves for another region while home has such an instance", strayedCalls},
	{"no more calls fail than under a plain round_robin", failedMore},
	{"a call ends by its deadline, and by its method's timeout", lateCalls},
	{"a store takes nothing from an earlier leader once it has heard of a later one, no token is of two leaders, and where all is calm none is refused", unfencedWrites},
	{"two never lead at a time, unless etcd is put back or an operator revokes a leader's lease", twoLeaders},
	{"nobody deletes what hangs on a lease of somebody else", robbedKeys},
	{"two processes never fight over a key", fights},
	{"what a process asks and logs stays under a rate", floods},
	{"where all is calm, no list or watch is said to fail", falseAlarms},
	{"no call of the runtime hangs", slowActs},
	{"where all is calm, a call that changes etcd succeeds soon, and returns what is true", failedActs},
}

// Promises that are checked as events happen.
const (
	Leads      = "the context of a leader ends with its term, and what only the leader serves runs on no other"
	Listed     = "Instances has what etcd has, and nothing that is only held"
	Returns    = "what a call of the runtime returns is true"
	Recalled   = "who starts while etcd is away calls what the last process knew"
	LeftBehind = "nothing is left behind"
)

// settled lists the promises that hold a stated time after the last fault and after each ordinary change.
var settled = []struct {
	promise string
	wrong   func(l Look, wrong complaint)
}{
	{"etcd has what is served", wrongEntries},
	{"the status of a registration is true, and names no error that is over", wrongStatuses},
	{"a process has one lease at the most, and one for each candidate", manyLeases},
	{"every reader has what etcd has", wrongReaders},
	{"one instance leads", wrongLeader},
}

// Promises about calls, after the world has settled.
const (
	Shared   = "calls are shared out as configured"
	Bounded  = "an instance has as many calls under way as it may, and a call fails only where all have"
	Lanes    = "calls of a lane reach its instances"
	Affine   = "calls of one affinity reach one instance"
	Reached  = "each instance is reached by its name"
	Led      = "calls for the leader reach it"
	Unserved = "a call reaches an instance that serves its method"
)

// Broken returns all promises that were broken.
func (h *History) Broken() []Problem {
	problems := h.Seen
	for _, p := range always {
		p.broken(h, func(at time.Time, format string, args ...any) {
			problems = append(problems, Problem{p.promise, at.Sub(h.Began), fmt.Sprintf(format, args...)})
		})
	}
	return problems
}

// Wrong returns the promises that a look breaks, and why.
func (l Look) Wrong() map[string]string {
	all := make(map[string]string)
	for _, p := range settled {
		var wrong []string
		p.wrong(l, func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) })
		if len(wrong) > 0 {
			slices.Sort(wrong)
			all[p.promise] = strings.Join(wrong, "; ")
		}
	}
	return all
}

// Functions with which rules report problems.
type (
	report    = func(at time.Time, format string, args ...any)
	complaint = func(format string, args ...any)
)

func wrongAnswers(h *History, broken report) {
	for _, c := range h.Calls {
		switch l := h.Life(c.From); {
		case c.Code != codes.OK:
		case c.Abroad:
			if c.Target != "" || c.Method == fixtures.Lead {
				broken(c.End, "%s of %s to %q has left for another region: answered by %q", c.Method, c.Caller, c.Target, c.From)
			}
		case l == nil || !l.Down.IsZero() && l.Down.Before(c.Begin):
			broken(c.End, "%s of %s: answered by %q, which is not there", c.Method, c.Caller, c.From)
		case c.Target != "" && c.Target != l.Addr && c.Target != l.Name && !h.named(c.Target, l.Addr):
			broken(c.End, "%s of %s to %s: answered by %s", c.Method, c.Caller, c.Target, c.From)
		}
	}
}

func failedCalls(h *History, broken report) {
	for _, c := range h.Calls {
		switch c.Code {
		case codes.OK:
		case codes.Unavailable, codes.DeadlineExceeded, codes.Unimplemented:
			if sure := h.sure(c); len(sure) > 0 {
				broken(c.End, "%s of %s after %v: %v: %s; it should have reached %s", c.Method, c.Caller, c.End.Sub(c.Begin), c.Code, c.Err, strings.Join(sure, " or "))
			}
		default:
			broken(c.End, "%s of %s: %v: %s", c.Method, c.Caller, c.Code, c.Err)
		}
	}
}

func strayedCalls(h *History, broken report) {
	for _, c := range h.Calls {
		if c.Code != codes.OK || !c.Abroad {
			continue
		}
		if sure := h.sure(c); len(sure) > 0 {
			broken(c.End, "%s of %s: answered by %s; it should have reached %s", c.Method, c.Caller, c.From, strings.Join(sure, " or "))
		}
	}
}

// disturbs is the time for which an event on a link affects calls: the event travels as slowly as they do.
const disturbs = 500 * time.Millisecond

// sure returns lives such that one of them must have answered a call. The caller knew each before and after. Each has answered on
// this connection since its link last changed. No link of the caller was broken or changed during the call or just before.
func (h *History) sure(c Call) (lives []string) {
	sent := c.Begin.Add(-disturbs)
	if !c.Plain || h.disturbed(c.Caller, sent, c.End) {
		return nil
	}
	for _, l := range h.Lives {
		knows := slices.Contains(c.Before, l.Addr) && slices.Contains(c.After, l.Addr)
		switch up := l.Down.IsZero() || l.Down.After(c.End); {
		case l.Killed && !up && !l.Down.Before(sent):
			return nil // calls to it were lost
		case up && knows && l.in(sent, c.End) && h.answered(c, l):
			lives = append(lives, l.ID)
		}
	}
	slices.Sort(lives)
	return lives
}

// disturbed reports whether a link of a process was broken or changed during a period.
func (h *History) disturbed(process string, from, to time.Time) bool {
	broken := make(map[[2]string]bool)
	for _, l := range h.Links {
		switch {
		case l.At.After(to):
		case !l.of(process):
		case !l.At.Before(from):
			return true
		case l.Reset:
		case l.B == "":
			clear(broken)
		default:
			broken[[2]string{l.A, l.B}] = l.Broken
		}
	}
	for _, is := range broken {
		if is {
			return true
		}
	}
	return false
}

// answered reports whether a life has answered on the connection of a call before the call, and since their link last changed.
func (h *History) answered(c Call, l *Life) bool {
	var changed time.Time
	for _, link := range h.Links {
		if link.of(c.Caller) && (link.of(l.Process) || link.B == "") && link.At.Before(c.Begin) {
			changed = link.At
		}
	}
	return slices.ContainsFunc(h.Calls, func(before Call) bool {
		return before.From == l.ID && before.Caller == c.Caller && before.Conn == c.Conn && before.Begin.After(changed) && before.End.Before(c.Begin)
	})
}

// mostMore is the surplus of failed calls over the plain policy that one world may have: both fail for
// the same faults, but at different moments.
const mostMore = 3

func failedMore(h *History, broken report) {
	ours, plain := 0, 0
	var last time.Time
	for _, c := range h.Calls {
		if !c.Beside {
			continue
		}
		if c.Code != codes.OK {
			ours, last = ours+1, c.End
		}
		if c.BesideErr {
			plain++
		}
	}
	if ours > plain+mostMore {
		broken(last, "%d calls have failed, and %d under a plain round_robin", ours, plain)
	}
}

// slack is how far a call may exceed its timeout.
const slack = 100 * time.Millisecond

func lateCalls(h *History, broken report) {
	for _, c := range h.Calls {
		if took := c.End.Sub(c.Begin); took > c.Longest+slack {
			broken(c.End, "%s of %s took %v, and may take %v", c.Method, c.Caller, took, c.Longest)
		}
	}
}

// hears is the time for a change of one process to reach another in a calm.
const hears = time.Second

// unfencedWrites passes the writes to a store. Writes between a reset that lets revisions repeat and the next calm are not judged: the
// store begins empty after them.
func unfencedWrites(h *History, broken report) {
	store, users, resets := new(leader.Fence), make(map[int64]string), 0
	highest := int64(0)
	for _, w := range h.Writes {
		if n := h.repeats(w.At); n > resets {
			if !h.Calm(w.At, w.At) {
				continue
			}
			store, users, resets, highest = new(leader.Fence), make(map[int64]string), n, 0
		}
		if user, ok := users[w.Token]; ok && user != w.Life {
			broken(w.At, "%s writes with the token %d, with which %s has written", w.Life, w.Token, user)
		}
		refused := store.Admit(w.Token)
		if refused == nil && w.Token < highest {
			broken(w.At, "the store has taken a write of %s with the token %d after one with %d", w.Life, w.Token, highest)
		}
		if refused != nil && w.Leads && h.Calm(w.At.Add(-hears), w.At) {
			broken(w.At, "the store has refused a write of %s, which leads with the token %d: %v", w.Life, w.Token, refused)
		}
		highest, users[w.Token] = max(highest, w.Token), w.Life
	}
}

func twoLeaders(h *History, broken report) {
	forced := slices.Clone(h.Forced)
	for _, r := range h.Resets {
		forced = append(forced, r.At)
	}
	for _, t := range h.Terms {
		for _, other := range h.Terms {
			meanwhile := func(at time.Time) bool { return !at.Before(other.Began) && !at.After(t.Began) }
			if other != t && t.on(t.Began) && other.on(t.Began) && !slices.ContainsFunc(forced, meanwhile) {
				broken(t.Began, "%s leads with the token %d, and %s with the token %d", t.Life, t.Token, other.Life, other.Token)
			}
		}
	}
	h.replay(func(c etcd.Change, was etcd.Entry, _ []etcd.Change) {
		for _, t := range h.Terms {
			goes := strings.HasPrefix(c.Key, fixtures.Candidates) && c.Delete && was.Create == t.Token
			if goes && t.Began.Before(c.At) && t.on(c.At) && h.Calm(c.At.Add(-hears), c.At) {
				broken(c.At, "the candidate of %s is gone, and it leads with the token %d", t.Life, t.Token)
			}
		}
	})
}

// robbedKeys judges by the lease of each key. A process may delete its own keys, the keys of its earlier lives, and a key under its
// own name before it puts that key. Deletions that several processes may have asked for are not judged.
func robbedKeys(h *History, broken report) {
	h.replay(func(c etcd.Change, was etcd.Entry, puts []etcd.Change) {
		entry := strings.HasPrefix(c.Key, fixtures.Prefix) && !strings.HasSuffix(c.Key, fixtures.Added)
		if !c.Delete || c.Client == "" || !entry && !strings.HasPrefix(c.Key, fixtures.Leaders) || h.Owners[was.Lease] == c.Client {
			return
		}
		by, owner := h.Hosts[c.Client], h.Hosts[h.Owners[was.Lease]]
		named := slices.ContainsFunc(h.Lives, func(l *Life) bool { return l.Process == by && l.owns(c.Key) })
		has := slices.ContainsFunc(puts, func(put etcd.Change) bool { return put.Client == c.Client })
		if !entry || owner != by && !(named && (was.Lease == fixtures.NoLease || !has)) {
			broken(c.At, "%s has deleted %s, which hung on lease %x of %s", by, c.Key, was.Lease, owner)
		}
	})
}

// mostChanges bounds the changes of a key's owner within Width.
const mostChanges = 4

func fights(h *History, broken report) {
	h.replay(func(c etcd.Change, _ etcd.Entry, puts []etcd.Change) {
		changes := 0
		for i := 1; i < len(puts); i++ {
			if puts[i].Client != puts[i-1].Client && puts[i-1].At.After(c.At.Add(-Width)) {
				changes++
			}
		}
		if strings.HasPrefix(c.Key, fixtures.Prefix) && !c.Delete && changes > mostChanges {
			broken(c.At, "%s has changed hands %d times within %v, last to %s", c.Key, changes, Width, c.Client)
		}
	})
}

// Width is the period over which rates are counted.
const Width = 10 * time.Second

// Bounds within Width.
const (
	mostRequests = 150 // of etcd, by a process, for tokens or anything else: 44 to renew a lease of 5 s out of turn, 41 for a restored etcd
	mostRepeated = 3500
	mostDials    = 200
	mostLines    = 40 // logged by a process
	mostAlike    = 7  // of them about the same: a list that hangs for 1 s again and again, with pauses between that double
)

func floods(h *History, broken report) {
	for _, w := range h.Windows {
		for what, of := range map[string][2]int{
			"made %d requests": {w.Requests, mostRequests},
			"made %d requests that were refused and repeated": {w.Repeated, mostRepeated},
			"asked for %d tokens":                             {w.Tokens, mostRequests},
			"dialled etcd %d times":                           {w.Dials, mostDials},
			"logged %d lines":                                 {w.Lines, mostLines},
		} {
			if of[0] > of[1] {
				broken(w.End, "%s has "+what+" within %v", w.Process, of[0], Width)
			}
		}
	}
	alike := make(map[[2]string][]time.Time)
	for _, l := range h.Lines {
		of := [2]string{l.Life, l.About}
		alike[of] = slices.DeleteFunc(append(alike[of], l.At), func(at time.Time) bool { return at.Before(l.At.Add(-Width)) })
		if l.About != "" && len(alike[of]) > mostAlike {
			broken(l.At, "%s has logged %d lines within %v: %s", l.Life, len(alike[of]), Width, l.About)
			delete(alike, of)
		}
	}
}

func falseAlarms(h *History, broken report) {
	for _, l := range h.Lines {
		if l.Trouble && h.Calm(l.At.Add(-hears), l.At) {
			broken(l.At, "%s logs %q, with nothing between it and etcd", l.Life, l.About)
		}
	}
}

func slowActs(h *History, broken report) {
	for _, a := range h.Acts {
		if took := a.Ended.Sub(a.Began); a.Longest > 0 && took > a.Longest+2*slack {
			broken(a.Ended, "%s of %s took %v, and may take %v", a.What, a.Who, took, a.Longest)
		}
	}
}

func failedActs(h *History, broken report) {
	for _, a := range h.Acts {
		took := a.Ended.Sub(a.Began)
		switch {
		case a.Soon == 0 || !h.Calm(a.Began, a.Ended):
		case a.Err != nil || took > a.Soon:
			broken(a.Ended, "%s of %s took %v: %v", a.What, a.Who, took, a.Err)
		case a.Wrong != "":
			broken(a.Ended, "%s of %s returned nil: %s", a.What, a.Who, a.Wrong)
		}
	}
}

func wrongEntries(l Look, wrong complaint) {
	expected := make(map[string]int) // by key and address: how many entries
	for _, s := range l.Servers {
		for _, key := range s.keys() {
			if lacks := s.Lacks(l, key); s.In && lacks != "" {
				wrong("%s", lacks)
			}
			if s.In {
				expected[key+" "+s.Addr] = len(s.Layouts)
			}
		}
	}
	for _, addr := range l.Writers {
		expected[fixtures.ShopKey+" "+addr] = 1 // at most: a writer does not notice that its entry is gone
	}
	for _, key := range []string{fixtures.ShopKey, fixtures.UserKey} {
		for _, e := range l.under(key + "/") {
			at := key + " " + fixtures.AddrIn(e.Value)
			if expected[at]--; expected[at] < 0 && !fixtures.IsOperators(e) {
				wrong("%s, which nobody wants, holds %q on lease %x", e.Key, e.Value, e.Lease)
			}
		}
	}
}

func wrongStatuses(l Look, wrong complaint) {
	for _, s := range l.Servers {
		for _, status := range s.Statuses {
			on := slices.ContainsFunc(l.at(status.Key, s.Addr), func(e etcd.Entry) bool { return e.Lease == int64(status.LeaseID) })
			if !s.In || status.State != runtime.StateRegistered || status.Err != nil || !on {
				wrong("%s says that %s is %v on lease %x: %v", s.ID, status.Key, status.State, status.LeaseID, status.Err)
			}
		}
		if n := len(s.Statuses); n != len(s.Wants) || s.Registrations != s.Expected {
			wrong("%s has %d registrations, its registry %d", s.ID, n, s.Registrations)
		}
	}
}

func manyLeases(l Look, wrong complaint) {
	for _, s := range l.Servers {
		ofEntries := slices.DeleteFunc(slices.Clone(s.Leases), func(id int64) bool {
			return slices.ContainsFunc(l.under(fixtures.Candidates), func(e etcd.Entry) bool { return e.Lease == id })
		})
		if len(ofEntries) > 1 {
			wrong("%s has the leases %x", s.ID, ofEntries)
		}
	}
}

func wrongReaders(l Look, wrong complaint) {
	want := l.Registered()
	for _, r := range l.Readers {
		for what, has := range map[string][]string{"watch": r.Watched, "status": fixtures.Addrs(r.Status.Endpoints), "list": r.Instances} {
			if !slices.Equal(has, want) {
				wrong("the %s of %s has %v, and etcd %v", what, r.Name, has, want)
			}
		}
		for _, ep := range r.Status.Endpoints {
			if said := l.said(ep.Addr); ep.Version != said.Version || ep.Zone != said.Zone || max(1, ep.Weight) != max(1, said.Weight) {
				wrong("%s has %+v, and etcd %+v", r.Name, ep, said)
			}
		}
		if r.Status.Held > 0 || r.Status.Away > 0 && !l.leaves(r.Config) {
			wrong("%s holds %d, and calls on %d connections leave for the other region", r.Name, r.Status.Held, r.Status.Away)
		}
		if r.Status.Err != nil || r.EtcdErr != nil || r.ListErr != nil {
			wrong("%s says %v of the key, %v of etcd, %v of the list; its watch said %v", r.Name, r.Status.Err, r.EtcdErr, r.ListErr, r.WatchErr)
		}
		if !l.InForce(r.Status.ServiceConfig) {
			wrong("%s has the live config %q, which is not etcd's", r.Name, r.Status.ServiceConfig)
		}
	}
}

// wrongLeader respects the drain: a drained leader makes way for a candidate that is not drained.
func wrongLeader(l Look, wrong complaint) {
	live, _ := l.Config()
	p := fixtures.ParsePolicy(live)
	var stand, elect, undrained, lead int
	leadDrained := false
	for _, s := range l.Servers {
		if !s.Elects || !s.In {
			continue
		}
		elect++
		drained := l.drained(p.Drain, s.Addr)
		switch {
		case s.stands(l):
			stand++
		case !drained && !schedule.BadConfig(live):
			wrong("%s has no candidate", s.ID)
		}
		if !drained {
			undrained++
		}
		if s.Leads {
			lead, leadDrained = lead+1, drained && p.Least == 0 // where callers do not follow the drain, for it leaves too few, none gives way
		}
	}
	if n := len(l.under(fixtures.Candidates)); n != stand {
		wrong("%d of %d servers stand, and etcd has %d candidates", stand, elect, n)
	}
	if lead != min(elect, 1) || leadDrained && undrained > 0 {
		wrong("of %d servers that are to stand %d lead, one that is drained: %v", elect, lead, leadDrained)
	}
}
