// Package check judges the events of a simulated world. It has no I/O, clock or lock.
//
//	promises.go  what the product promises, each promise a function
//	history.go   the record of a world, in order
//	look.go      a snapshot of a world
//	shares.go    where calls should go under a policy
package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// History is the record of a world. Each list is in the order of its events.
type History struct {
	Began   time.Time
	Lives   []*Life
	Calls   []Call
	Links   []Link
	Changes []etcd.Change
	Resets  []Reset
	Forced  []time.Time       // when an operator has revoked leases
	Owners  map[int64]string  // by lease: the host of the life that holds it
	Hosts   map[string]string // by the host that a life dials from: its process
	Acts    []Act
	Terms   []*Term
	Writes  []*Write
	Lines   []Line
	Windows []Window
	Calms   []Span
	Seen    []Problem // problems reported at once
	Configs []string  // all good live configs so far
}

// NewHistory returns the history of a world that begins now.
func NewHistory(now time.Time) *History {
	return &History{Began: now, Owners: make(map[int64]string), Hosts: make(map[string]string)}
}

// Life is one life of a server.
type Life struct {
	ID      string // "server 2, life 3"
	Name    string // the instance id, "" where it is the address
	Process string
	Addr    string

	Down   time.Time // zero while the life runs
	Killed bool      // it was killed, and the calls under way to it were lost
	Moves  []Move    // the first as it comes up
}

// Move is a change of a server's goal: in etcd from now on, or out.
type Move struct {
	At time.Time
	In bool
}

// in reports whether the life should have been in etcd for the whole period.
func (l *Life) in(from, to time.Time) (in bool) {
	for _, m := range l.Moves {
		switch {
		case m.At.Before(from):
			in = m.In
		case !m.At.After(to):
			in = in && m.In
		}
	}
	return in
}

// owns reports whether an etcd key is named after the life.
func (l *Life) owns(key string) bool {
	host, _, _ := strings.Cut(l.Addr, ":")
	return strings.HasSuffix(key, "/"+cmp.Or(l.Name, l.Addr)) || strings.Contains(key, "/"+host+":")
}

// Call is a finished call.
type Call struct {
	Caller        string        // the process
	Conn          string        // which of its connections
	Method        string        // the full name
	Target        string        // the requested instance, or ""
	Plain         bool          // no policy may reject it, or exclude an instance that serves its method
	Longest       time.Duration // the longest duration allowed
	Begin, End    time.Time
	Before, After []string // addresses known to the caller
	From          string   // the life that answered, by its ID
	Abroad        bool     // that life is in another region
	Code          codes.Code
	Err           string

	Beside    bool // gRPC's round_robin made the same call, to the same addresses over the same links
	BesideErr bool // ... and failed
}

// Link is a change of the link between two processes. If B is "", it changes all links of A, whose next life begins.
type Link struct {
	At     time.Time
	A, B   string
	Broken bool // from now on it is cut or stalled
	Reset  bool // connections were reset, and the link stays as it was
}

func (l Link) of(process string) bool { return l.A == process || l.B == process }

// Reset is a restore or a wipe of etcd, with the number of changes before it and the entries after it.
type Reset struct {
	At      time.Time
	After   int
	Entries []etcd.Entry
	Repeats bool // revisions may repeat
}

// Act is a finished call of the runtime.
type Act struct {
	What, Who    string
	Began, Ended time.Time
	Longest      time.Duration // the longest duration allowed during faults; 0: no bound
	Soon         time.Duration // the longest duration allowed in a calm; 0: the call changes nothing in etcd
	Err          error
	Wrong        string // how etcd differs from the result of the call; "" if it does not
}

// Term is a term of a leader: while its function runs, and its context has not ended.
type Term struct {
	Life         string
	Token        int64
	Began, Ended time.Time // Ended is zero while it goes on
}

// on reports whether a term covers a moment. A term that ended as it began covers none.
func (t *Term) on(at time.Time) bool {
	return !t.Began.After(at) && (t.Ended.IsZero() || t.Ended.After(at))
}

// Write is a write of a leader to a store, with the token of its term.
type Write struct {
	At    time.Time
	Life  string
	Token int64
	Leads bool // the life led with that token before and after the write
}

// Line is a line that a life has logged.
type Line struct {
	At      time.Time
	Life    string
	About   string // the message and the key; "": no bound applies
	Trouble bool   // it reports that etcd fails
}

// Counts counts the actions of a process.
type Counts struct {
	Requests int // requests to etcd, except those in the next two fields
	Repeated int // requests that were refused and that etcd's client then repeats by itself
	Tokens   int // requests for tokens; etcd's client makes one for each stream that it opens
	Dials    int // connections to etcd
	Lines    int // logged lines
}

// Window holds the counts of a process within Width.
type Window struct {
	End     time.Time
	Process string
	Counts
}

// Span is a period; To is zero while it goes on.
type Span struct{ From, To time.Time }

// Calm reports whether there were no faults and no broken promises during a period.
func (h *History) Calm(from, to time.Time) bool {
	return slices.ContainsFunc(h.Calms, func(s Span) bool { return !s.From.After(from) && (s.To.IsZero() || s.To.After(to)) })
}

// SetCalm records whether the world is calm from now on: no faults, no broken promises.
func (h *History) SetCalm(now time.Time, calm bool) {
	last := len(h.Calms) - 1
	going := last >= 0 && h.Calms[last].To.IsZero()
	switch {
	case calm && !going:
		h.Calms = append(h.Calms, Span{From: now})
	case !calm && going:
		h.Calms[last].To = now
	}
}

// Life returns the life with an id, nil if there is none.
func (h *History) Life(id string) *Life {
	if i := slices.IndexFunc(h.Lives, func(l *Life) bool { return l.ID == id }); i >= 0 {
		return h.Lives[i]
	}
	return nil
}

// Commit records a change in etcd.
func (h *History) Commit(c etcd.Change) {
	h.Changes = append(h.Changes, c)
	if c.Key == fixtures.ConfigKey && !c.Delete && !schedule.BadConfig(c.Value) {
		h.Configs = append(h.Configs, c.Value)
	}
}

// named reports whether an entry has assigned a name to an address.
func (h *History) named(name, addr string) bool {
	return slices.ContainsFunc(h.Changes, func(c etcd.Change) bool { return fixtures.Names(c.Key, c.Value, addr, name) })
}

// replay calls each with every change, with the entry of the key before it, and with all puts of the key by processes up to then. It
// starts again from the entries of each reset of etcd.
func (h *History) replay(each func(c etcd.Change, was etcd.Entry, puts []etcd.Change)) {
	resets, has, puts := h.Resets, make(map[string]etcd.Entry), make(map[string][]etcd.Change)
	for i, c := range h.Changes {
		for len(resets) > 0 && resets[0].After <= i {
			clear(has)
			clear(puts)
			for _, e := range resets[0].Entries {
				has[e.Key] = e
			}
			resets = resets[1:]
		}
		if !c.Delete && c.Client != "" {
			puts[c.Key] = append(puts[c.Key], c)
		}
		was := has[c.Key]
		each(c, was, puts[c.Key])
		if c.Delete {
			delete(has, c.Key)
		} else {
			has[c.Key] = etcd.Entry{Key: c.Key, Value: c.Value, Lease: c.Lease, Create: cmp.Or(was.Create, c.Revision)}
		}
	}
}

// repeats returns how many resets of etcd up to a moment let revisions repeat.
func (h *History) repeats(until time.Time) (n int) {
	for _, r := range h.Resets {
		if r.Repeats && !r.At.After(until) {
			n++
		}
	}
	return n
}

// See records a problem that happens now.
func (h *History) See(now time.Time, promise, format string, args ...any) {
	h.Seen = append(h.Seen, Problem{promise, now.Sub(h.Began), fmt.Sprintf(format, args...)})
}

// Plain reports whether no policy that a caller may use excludes instances that serve the method.
func (h *History) Plain(c schedule.Caller) bool {
	return c.Subset == 0 && !h.ever(c, func(p fixtures.Policy) bool {
		return len(p.Routes)+len(p.Drain)+p.Subset+p.Most+p.ZoneLeast > 0 || p.Others || p.Ejects
	})
}

// Even reports whether each policy that a caller may use distributes calls as round_robin does.
func (h *History) Even(c schedule.Caller) bool {
	return !h.ever(c, func(p fixtures.Policy) bool { return !p.Exact || p.Weighs || p.PreferZone || len(p.Split) > 0 })
}

// ever reports whether is holds for any policy that a caller may use.
func (h *History) ever(c schedule.Caller, is func(fixtures.Policy) bool) bool {
	return is(fixtures.ParsePolicy(c.Config())) || slices.ContainsFunc(h.Configs, func(config string) bool { return is(fixtures.ParsePolicy(config)) })
}

// LongestWait returns the longest timeout of a call of the shop under all configs so far, or 0 if a
// config does not bound it.
func (h *History) LongestWait(generated string) time.Duration {
	longest := fixtures.MethodsOf(generated).Timeout
	for _, config := range h.Configs {
		timeout := fixtures.MethodsOf(config, generated).Timeout
		if longest == 0 || timeout == 0 {
			return 0
		}
		longest = max(longest, timeout)
	}
	return longest
}

// Problem is a promise that was broken.
type Problem struct {
	Promise string        `json:"promise"`
	At      time.Duration `json:"at"` // since the world began; 0: unknown
	Text    string        `json:"text"`
}

func (p Problem) String() string {
	if p.At == 0 {
		return fmt.Sprintf("%s: %s", p.Promise, p.Text)
	}
	return fmt.Sprintf("%.3f s: %s: %s", p.At.Seconds(), p.Promise, p.Text)
}
