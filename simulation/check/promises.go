package check

import (
	"fmt"
	"maps"
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

// always lists the promises that hold at any time. A world without faults and
// broken promises is calm.
var always = []struct {
	promise string
	broken  func(h *History, broken report)
}{
	{"a call is answered by a running instance that it may reach", wrongAnswers},
	{"no call fails while the caller knows and reaches an instance that its policy allows",
		failedCalls},
	{"no call leaves for another region while the caller knows and reaches an allowed instance of its own region",
		strayedCalls},
	{"no more calls fail than under a plain round_robin", failedMore},
	{"a call ends by its deadline", lateCalls},
	{"a store accepts no write of an earlier leader after one of a later leader, tokens are unique, and in a calm no write is refused",
		unfencedWrites},
	{"one instance leads at a time, unless etcd is restored or an operator revokes the lease of a leader",
		twoLeaders},
	{"no process deletes keys on the lease of another process", robbedKeys},
	{"processes do not overwrite each other's key in turn", fights},
	{"processes send requests and log lines at a bounded rate", floods},
	{"in a calm, no log line says that a list or watch failed", falseAlarms},
	{"no call of the runtime hangs", slowActs},
	{"in a calm, a call that changes etcd succeeds soon with a correct result",
		failedActs},
}

// Promises that the harness checks as events happen.
const (
	Leads      = "the context of a leader ends with its term, and only the leader serves calls for the leader"
	Listed     = "Instances has the entries of etcd, without held endpoints"
	Returns    = "calls of the runtime return correct results"
	Recalled   = "a caller that starts while etcd is down calls the endpoints of its snapshot"
	LeftBehind = "a process that has stopped leaves nothing behind"
)

// settled lists the promises that hold a stated time after the last fault and
// after each ordinary change.
var settled = []struct {
	promise string
	wrong   func(l Look, wrong complaint)
}{
	{"etcd has the entries of exactly the running servers", wrongEntries},
	{"the status of a registration is correct, without an old error", wrongStatuses},
	{"a process has at most one lease, and one for each candidate", manyLeases},
	{"every reader knows exactly the entries of etcd", wrongReaders},
	{"exactly one instance leads", wrongLeader},
}

// Promises about calls, after the world has settled.
const (
	Shared   = "calls are distributed as configured"
	Bounded  = "an instance has at most the allowed number of calls under way, and calls fail only if all instances have that many"
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
			problems = append(problems,
				Problem{p.promise, at.Sub(h.Began), fmt.Sprintf(format, args...)})
		})
	}

	return problems
}

// Wrong returns the promises in settled that the look breaks, with the reasons.
func (l Look) Wrong() map[string]string {
	all := map[string]string{}
	for _, p := range settled {
		var wrong []string
		p.wrong(l, func(format string, args ...any) {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		})

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
		l := h.Incarnation(c.From)

		switch {
		case c.Code != codes.OK:
		case c.Abroad:
			if c.Target != "" || c.Method == fixtures.Lead {
				broken(c.End,
					"%s of %s to %q: answered by %q in another region, want the own region",
					c.Method, c.Caller, c.Target, c.From)
			}

		case l == nil || !l.Down.IsZero() && l.Down.Before(c.Begin):
			broken(c.End, "%s of %s: answered by %q, which does not run", c.Method,
				c.Caller, c.From)

		case c.Target != "" &&
			c.Target != l.Addr &&
			c.Target != l.Name &&
			!h.named(c.Target, l.Addr):
			broken(c.End, "%s of %s: want an answer of %s, got one of %s", c.Method,
				c.Caller, c.Target, c.From)
		}
	}
}

func failedCalls(h *History, broken report) {
	for _, c := range h.Calls {
		switch c.Code {
		case codes.OK:
		case codes.Unavailable, codes.DeadlineExceeded, codes.Unimplemented:
			if sure := h.sure(c); len(sure) > 0 {
				broken(c.End, "%s of %s after %v: %v: %s; want an answer of %s",
					c.Method, c.Caller, c.End.Sub(c.Begin), c.Code, c.Err,
					strings.Join(sure, " or "))
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
			broken(c.End, "%s of %s: answered by %s; want an answer of %s", c.Method,
				c.Caller, c.From, strings.Join(sure, " or "))
		}
	}
}

// disturbs bounds the time in which an event on a link affects calls:
// connections notice the event late.
const disturbs = 500 * time.Millisecond

// sure returns the incarnations that could certainly have answered the call.
// The caller knew them before and after the call, and they have answered on its
// connection since the last change of their links. There are none if a link of
// the caller was broken or changed.
func (h *History) sure(c Call) (ids []string) {
	sent := c.Begin.Add(-disturbs)
	if !c.Plain || h.disturbed(c.Caller, sent, c.End) {
		return nil
	}

	for _, l := range h.Incarnations {
		knows := slices.Contains(c.Before, l.Addr) && slices.Contains(c.After, l.Addr)
		up := l.Down.IsZero() || l.Down.After(c.End)

		switch {
		case l.Killed && !up && !l.Down.Before(sent):
			return nil // calls to the killed server were lost
		case up && knows && l.in(sent, c.End) && h.answered(c, l):
			ids = append(ids, l.ID)
		}
	}

	slices.Sort(ids)

	return ids
}

// disturbed reports whether a link of a process was broken or changed during a
// period.
func (h *History) disturbed(process string, from, to time.Time) bool {
	broken := map[[2]string]bool{}
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

	return slices.Contains(slices.Collect(maps.Values(broken)), true)
}

// answered reports whether an incarnation has answered an earlier call on the
// same connection, after the last change of the link.
func (h *History) answered(c Call, l *Incarnation) bool {
	var changed time.Time
	for _, link := range h.Links {
		between := link.of(c.Caller) && (link.of(l.Process) || link.B == "")
		if between && link.At.Before(c.Begin) {
			changed = link.At
		}
	}

	return slices.ContainsFunc(h.Calls, func(before Call) bool {
		return before.From == l.ID &&
			before.Caller == c.Caller &&
			before.Conn == c.Conn &&
			before.Begin.After(changed) &&
			before.End.Before(c.Begin)
	})
}

// mostMore bounds how many more calls may fail in a world than under
// round_robin. The same faults affect both, but at different moments.
const mostMore = 3

func failedMore(h *History, broken report) {
	var ours, plain int
	var last time.Time

	for _, c := range h.Calls {
		if !c.Beside {
			continue
		}

		if c.Code != codes.OK {
			ours++
			last = c.End
		}

		if c.BesideErr {
			plain++
		}
	}

	if ours > plain+mostMore {
		broken(last, "%d calls failed, want at most %d, as %d failed under round_robin",
			ours, plain+mostMore, plain)
	}
}

const (
	// Deadline is the timeout of a call.
	Deadline = 2500 * time.Millisecond

	// slack is how far a call may exceed its timeout.
	slack = 100 * time.Millisecond
)

func lateCalls(h *History, broken report) {
	for _, c := range h.Calls {
		if took := c.End.Sub(c.Begin); took > Deadline+slack {
			broken(c.End, "%s of %s took %v, want at most %v", c.Method, c.Caller, took,
				Deadline)
		}
	}
}

// hears bounds the time in a calm until a process learns what another process
// has changed in etcd.
const hears = time.Second

// unfencedWrites replays the writes on a store with a leader.Fence. It reports
// a token that two incarnations use, an accepted write with an old token, and a
// refused write of a leader. After a reset that lets revisions repeat, it skips
// writes until the next calm, and then begins with an empty store.
func unfencedWrites(h *History, broken report) {
	store := new(leader.Fence)
	users := map[int64]string{}
	resets := 0
	highest := int64(0)

	for _, w := range h.Writes {
		n := 0
		for _, r := range h.Resets {
			if r.Repeats && !r.At.After(w.At) {
				n++
			}
		}

		if n > resets {
			if !h.Calm(w.At, w.At) {
				continue
			}

			store = new(leader.Fence)
			users = map[int64]string{}
			resets = n
			highest = 0
		}

		if user, ok := users[w.Token]; ok && user != w.Incarnation {
			broken(w.At, "%s wrote with the token %d of %s, want a token of its own",
				w.Incarnation, w.Token, user)
		}

		refused := store.Admit(w.Token)

		if refused == nil && w.Token < highest {
			broken(w.At,
				"the store accepted a write of %s with the token %d after one with %d",
				w.Incarnation, w.Token, highest)
		}

		if refused != nil && w.Leads && h.Calm(w.At.Add(-hears), w.At) {
			broken(w.At,
				"the store refused a write of %s, which leads with the token %d: %v",
				w.Incarnation, w.Token, refused)
		}

		highest = max(highest, w.Token)
		users[w.Token] = w.Incarnation
	}
}

func twoLeaders(h *History, broken report) {
	forced := slices.Clone(h.Forced)
	for _, r := range h.Resets {
		forced = append(forced, r.At)
	}

	for _, t := range h.Terms {
		for _, other := range h.Terms {
			between := func(at time.Time) bool {
				return !at.Before(other.Began) && !at.After(t.Began)
			}
			both := other != t && t.on(t.Began) && other.on(t.Began)

			if both && !slices.ContainsFunc(forced, between) {
				broken(t.Began,
					"%s leads with the token %d while %s leads with the token %d",
					t.Incarnation, t.Token, other.Incarnation, other.Token)
			}
		}
	}

	h.replay(func(c *etcd.Change, was etcd.Entry, _ []*etcd.Change) {
		if !c.Delete || !strings.HasPrefix(c.Key, fixtures.Candidates) {
			return
		}

		for _, t := range h.Terms {
			leads := was.Create == t.Token && t.Began.Before(c.At) && t.on(c.At)
			if leads && h.Calm(c.At.Add(-hears), c.At) {
				broken(c.At,
					"%s leads with the token %d, although its candidate is deleted",
					t.Incarnation, t.Token)
			}
		}
	})
}

// robbedKeys reports deletions of keys that belong to another process. The
// owner of a key is the owner of the key's lease. A process may also delete an
// entry with the name of one of its servers, if the entry has no lease or the
// deleting incarnation never put it. robbedKeys ignores deletions without an
// answer, and those of a revoked lease.
func robbedKeys(h *History, broken report) {
	h.replay(func(c *etcd.Change, was etcd.Entry, puts []*etcd.Change) {
		entry := strings.HasPrefix(c.Key, fixtures.Prefix)
		candidate := strings.HasPrefix(c.Key, fixtures.Leaders)

		own := h.Owners[was.Lease] == c.Client
		if !c.Delete || c.Client == "" || own || !entry && !candidate {
			return
		}

		by := h.Hosts[c.Client]
		owner := h.Hosts[h.Owners[was.Lease]]
		named := slices.ContainsFunc(h.Incarnations, func(l *Incarnation) bool {
			return l.Process == by && l.owns(c.Key)
		})

		put := slices.ContainsFunc(puts, func(put *etcd.Change) bool {
			return put.Client == c.Client
		})
		may := owner == by || named && (was.Lease == fixtures.NoLease || !put)

		if !entry || !may {
			broken(c.At, "%s deleted %s, which was on lease %x of %s", by, c.Key,
				was.Lease, owner)
		}
	})
}

// mostChanges bounds the changes of a key's owner within Width.
const mostChanges = 4

func fights(h *History, broken report) {
	h.replay(func(c *etcd.Change, _ etcd.Entry, puts []*etcd.Change) {
		if c.Delete || !strings.HasPrefix(c.Key, fixtures.Prefix) {
			return
		}

		changes := 0
		for i := 1; i < len(puts); i++ {
			last := puts[i-1]
			if puts[i].Client != last.Client && last.At.After(c.At.Add(-Width)) {
				changes++
			}
		}

		if changes > mostChanges {
			broken(c.At, "the owner of %s changed %d times within %v, last to %s", c.Key,
				changes, Width, c.Client)
		}
	})
}

// Width is the period over which rates are counted.
const Width = 10 * time.Second

// Bounds within Width.
const (
	// mostRequests bounds requests of any kind to etcd. Each of three leases of
	// 5 s makes 44 if it is renewed early. A restore makes 41.
	mostRequests = 175

	mostRepeated = 3500
	mostDials    = 200
	mostLines    = 40 // lines that one process logs

	// mostAlike bounds lines with the same message and key. A list that hangs
	// for 1 s logs one line at each try.
	mostAlike = 7
)

func floods(h *History, broken report) {
	for _, w := range h.Windows {
		for what, count := range map[string][2]int{
			"made %d requests": {w.Requests, mostRequests},
			"made %d requests that were refused and repeated": {w.Repeated, mostRepeated},
			"asked for %d tokens":                             {w.Tokens, mostRequests},
			"dialled etcd %d times":                           {w.Dials, mostDials},
			"logged %d lines":                                 {w.Lines, mostLines},
		} {
			if count[0] > count[1] {
				broken(w.End, "%s "+what+" within %v, want at most %d", w.Process,
					count[0], Width, count[1])
			}
		}
	}

	alike := map[[2]string][]time.Time{}
	for _, l := range h.Lines {
		of := [2]string{l.Incarnation, l.About}
		old := func(at time.Time) bool { return at.Before(l.At.Add(-Width)) }
		alike[of] = slices.DeleteFunc(append(alike[of], l.At), old)

		if l.About != "" && len(alike[of]) > mostAlike {
			broken(l.At, "%s logged a line %d times within %v, want at most %d: %s",
				l.Incarnation, len(alike[of]), Width, mostAlike, l.About)
			delete(alike, of)
		}
	}
}

func falseAlarms(h *History, broken report) {
	for _, l := range h.Lines {
		if l.Trouble && h.Calm(l.At.Add(-hears), l.At) {
			broken(l.At, "%s logged %q in a calm, with a healthy link to etcd",
				l.Incarnation, l.About)
		}
	}
}

func slowActs(h *History, broken report) {
	for _, a := range h.Acts {
		if took := a.Ended.Sub(a.Began); a.Longest > 0 && took > a.Longest+2*slack {
			broken(a.Ended, "%s of %s took %v, want at most %v", a.What, a.Who, took,
				a.Longest)
		}
	}
}

func failedActs(h *History, broken report) {
	for _, a := range h.Acts {
		took := a.Ended.Sub(a.Began)
		switch {
		case a.Soon == 0 || !h.Calm(a.Began, a.Ended):
		case a.Err != nil || took > a.Soon:
			broken(a.Ended,
				"%s of %s took %v with the error %v, want at most %v and none", a.What,
				a.Who, took, a.Err, a.Soon)

		case a.Wrong != "":
			broken(a.Ended, "%s of %s returned nil, although %s", a.What, a.Who, a.Wrong)
		}
	}
}

func wrongEntries(l Look, wrong complaint) {
	expected := map[string]int{} // by service and address: the number of entries
	for _, s := range l.Servers {
		for _, key := range slices.Sorted(maps.Keys(s.Wants)) {
			if lacks := s.Lacks(l, key); s.In && lacks != "" {
				wrong("%s", lacks)
			}

			if s.In {
				expected[key+" "+s.Addr] = len(s.Layouts)
			}
		}
	}

	for _, addr := range l.Writers {
		// or 0: writers do not put a deleted entry again
		expected[fixtures.ShopKey+" "+addr] = 1
	}

	for _, key := range []string{fixtures.ShopKey, fixtures.UserKey} {
		for _, e := range l.of(key) {
			at := key + " " + fixtures.Read(e).Addr
			expected[at]--

			if expected[at] < 0 && !fixtures.IsOperators(e) {
				wrong("etcd has %s = %q on lease %x, which belongs to no running server",
					e.Key, e.Value, e.Lease)
			}
		}
	}
}

func wrongStatuses(l Look, wrong complaint) {
	for _, s := range l.Servers {
		for _, status := range s.Statuses {
			on := slices.ContainsFunc(l.at(status.Key, s.Addr), func(e etcd.Entry) bool {
				return e.Lease == int64(status.LeaseID)
			})
			registered := status.State == runtime.StateRegistered && status.Err == nil

			if !s.In || !registered || !on {
				wrong("status of %s: %s is %v on lease %x: %v, want it registered on a lease in etcd",
					s.ID, status.Key, status.State, status.LeaseID, status.Err)
			}
		}

		if n := len(s.Statuses); n != len(s.Wants) || s.Registrations != s.Expected {
			wrong("%s has %d registrations, want %d; its registry has %d, want %d", s.ID,
				n, len(s.Wants), s.Registrations, s.Expected)
		}
	}
}

func manyLeases(l Look, wrong complaint) {
	for _, s := range l.Servers {
		ofEntries := slices.DeleteFunc(slices.Clone(s.Leases), func(id int64) bool {
			return slices.ContainsFunc(l.candidates(), func(e etcd.Entry) bool {
				return e.Lease == id
			})
		})

		if len(ofEntries) > 1 {
			wrong("%s has the leases %x for entries, want at most one", s.ID, ofEntries)
		}
	}
}

func wrongReaders(l Look, wrong complaint) {
	want := l.Registered()
	for _, r := range l.Readers {
		for what, has := range map[string][]string{
			"watch":  r.Watched,
			"status": fixtures.Addrs(r.Status.Endpoints),
			"list":   r.Instances,
		} {
			if !slices.Equal(has, want) {
				wrong("the %s of %s has %v, want %v as in etcd", what, r.Name, has, want)
			}
		}

		for _, ep := range r.Status.Endpoints {
			said := l.said(ep.Addr)
			labels := ep.Version == said.Version && ep.Zone == said.Zone

			if !labels || max(1, ep.Weight) != max(1, said.Weight) {
				wrong("%s has %+v, want %+v as in etcd", r.Name, ep, said)
			}
		}

		if r.Status.Held > 0 || r.Status.Away > 0 && !l.mayFailOver(r.Config) {
			wrong("%s holds %d endpoints, and calls on %d connections leave for the other region, want 0 and 0",
				r.Name, r.Status.Held, r.Status.Away)
		}

		if r.Status.Err != nil || r.EtcdErr != nil || r.ListErr != nil {
			wrong("%s: the status of the key has the error %v, that of etcd %v, the list %v, the watch %v, want none",
				r.Name, r.Status.Err, r.EtcdErr, r.ListErr, r.WatchErr)
		}

		if !l.InForce(r.Status.ServiceConfig) {
			wrong("%s has the live config %q, want the one in etcd", r.Name,
				r.Status.ServiceConfig)
		}
	}
}

// wrongLeader requires one leader, and that a drained leader resigns if another
// candidate is not drained.
func wrongLeader(l Look, wrong complaint) {
	live, _ := l.Config()
	p := fixtures.ParsePolicy(live, "")
	var candidates, elect, undrained, lead int
	drainedLeads := false
	for _, s := range l.Servers {
		if !s.Elects || !s.In {
			continue
		}

		elect++
		drained := l.drained(p.Drain, s.Addr)

		switch {
		case s.isCandidate(l):
			candidates++
		case !drained && !schedule.BadConfig(live):
			wrong("%s has no candidate in etcd, want one", s.ID)
		}

		if !drained {
			undrained++
		}

		if s.Leads {
			lead++

			// a leader may ignore a drain that has a minimum
			drainedLeads = drained && p.Least == 0
		}
	}

	if n := len(l.candidates()); n != candidates {
		wrong("%d of %d servers have a candidate, but etcd has %d candidates",
			candidates, elect, n)
	}

	if lead != min(elect, 1) || drainedLeads && undrained > 0 {
		wrong(
			"%d of %d servers lead, want %d; %d are not drained, a drained one leads: %v",
			lead, elect, min(elect, 1), undrained, drainedLeads)
	}
}
