// Package check judges the events of a simulated world. It does no I/O, reads
// no clock and takes no lock.
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
	Began        time.Time
	Incarnations []*Incarnation
	Calls        []Call
	Links        []Link
	Changes      []*etcd.Change
	Resets       []Reset
	Forced       []time.Time       // when an operator revoked leases
	Owners       map[int64]string  // by lease: the dialing host of its owner
	Hosts        map[string]string // by dialing host: the name of the process

	Acts    []Act
	Terms   []*Term
	Writes  []*Write
	Lines   []Line
	Windows []Window
	Calms   []Span
	Seen    []Problem // problems that the harness has found, see See
	Configs []string  // all valid live configs so far
}

// NewHistory returns the history of a world that begins now.
func NewHistory(now time.Time) *History {
	return &History{
		Began:  now,
		Owners: map[int64]string{},
		Hosts:  map[string]string{},
	}
}

// Incarnation is one run of a server, from its start to its end.
type Incarnation struct {
	ID      string // for example "server 2, incarnation 3"
	Name    string // the instance id; "" if the address is the id
	Process string
	Addr    string

	Down   time.Time // zero while the incarnation runs
	Killed bool      // the server lost its calls under way
	Moves  []Move    // the first move is at the start
}

// Move is a change of whether a server should be in etcd.
type Move struct {
	At time.Time
	In bool
}

// in reports whether the incarnation should have been in etcd for the whole
// period.
func (l *Incarnation) in(from, to time.Time) (in bool) {
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

// owns reports whether an etcd key contains the instance id or the host of the
// incarnation.
func (l *Incarnation) owns(key string) bool {
	host, _, _ := strings.Cut(l.Addr, ":")
	return strings.HasSuffix(key, "/"+cmp.Or(l.Name, l.Addr)) ||
		strings.Contains(key, "/"+host+":")
}

// Call is a finished call.
type Call struct {
	Caller string // the name of the calling process
	Conn   string // the name of the caller's connection
	Method string // the full name
	Target string // the id of the requested instance, or ""

	// under all policies, every instance that serves Method may answer
	Plain bool

	Begin, End    time.Time
	Before, After []string // addresses that the caller knew before and after the call
	From          string   // the ID of the incarnation that answered
	Abroad        bool     // the incarnation From is in another region
	Code          codes.Code
	Err           string

	Beside    bool // a client with gRPC's round_robin made the same call
	BesideErr bool // the call of the round_robin client failed
}

// Link is a change of the link between two processes. If B is "", a new
// incarnation of A begins, with whole links.
type Link struct {
	At     time.Time
	A, B   string
	Broken bool // the link is cut or stalled from now on
	Reset  bool // only connections were reset: the link stays broken or whole
}

func (l Link) of(process string) bool {
	return l.A == process || l.B == process
}

// Reset is a restore or a wipe of etcd.
type Reset struct {
	At      time.Time
	After   int          // the number of earlier History.Changes
	Entries []etcd.Entry // what etcd has afterwards
	Repeats bool         // etcd may assign earlier revisions again
}

// Act is a finished call of a function of package runtime.
type Act struct {
	What, Who    string // the function, and the process or server that called it
	Began, Ended time.Time
	Longest      time.Duration // the longest duration allowed during faults; 0: no bound

	// the longest duration allowed in a calm; 0: no bound, because the call
	// changes nothing in etcd
	Soon time.Duration

	Err   error
	Wrong string // how etcd differs from the result of the call, or ""
}

// Term is the period in which a leader's function runs with a context that has
// not ended.
type Term struct {
	Incarnation  string
	Token        int64
	Began, Ended time.Time // Ended is zero during the term
}

// on reports whether a moment is within the term.
func (t *Term) on(at time.Time) bool {
	return !t.Began.After(at) && (t.Ended.IsZero() || t.Ended.After(at))
}

// Write is a write of a leader to a store, with the token of its term.
type Write struct {
	At          time.Time
	Incarnation string
	Token       int64
	Leads       bool // the incarnation led with the token before and after the write
}

// Line is a line that an incarnation has logged.
type Line struct {
	At          time.Time
	Incarnation string
	About       string // the message and the key; "": equal lines are not counted
	Trouble     bool   // the line reports a failure of etcd
}

// Counts counts the actions of a process.
type Counts struct {
	Requests int // requests to etcd, except those counted as Repeated or Tokens
	Repeated int // refused requests that etcd's client then repeats by itself

	// requests for tokens; etcd's client makes one for each stream that it
	// opens
	Tokens int

	Dials int // connections to etcd
	Lines int // logged lines
}

// Window holds the counts of a process in a period of length Width.
type Window struct {
	End     time.Time
	Process string
	Counts
}

// Span is a period; To is zero while it goes on.
type Span struct{ From, To time.Time }

// Calm reports whether there were no faults and no broken promises during a
// period.
func (h *History) Calm(from, to time.Time) bool {
	return slices.ContainsFunc(h.Calms, func(s Span) bool {
		return !s.From.After(from) && (s.To.IsZero() || s.To.After(to))
	})
}

// SetCalm records whether the world is calm from now on, without faults or
// broken promises.
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

// Incarnation returns the incarnation with an id, nil if there is none.
func (h *History) Incarnation(id string) *Incarnation {
	for _, l := range h.Incarnations {
		if l.ID == id {
			return l
		}
	}

	return nil
}

// Commit records a change in etcd.
func (h *History) Commit(c *etcd.Change) {
	h.Changes = append(h.Changes, c)

	if c.Key == fixtures.ConfigKey && !c.Delete && !schedule.BadConfig(c.Value) {
		h.Configs = append(h.Configs, c.Value)
	}
}

// named reports whether etcd ever had an entry with an instance id and an
// address.
func (h *History) named(name, addr string) bool {
	return slices.ContainsFunc(h.Changes, func(c *etcd.Change) bool {
		e := fixtures.Read(etcd.Entry{Key: c.Key, Value: c.Value, Lease: c.Lease})
		return e.Addr == addr && e.Instance == name && !e.Leaving
	})
}

// replay calls visit for each change. was is the entry before the change, and
// puts holds the puts of the key by processes up to and including the change. A
// reset of etcd replaces all entries and forgets the puts.
func (h *History) replay(
	visit func(c *etcd.Change, was etcd.Entry, puts []*etcd.Change),
) {
	resets := h.Resets
	has := map[string]etcd.Entry{}
	puts := map[string][]*etcd.Change{}

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
		visit(c, was, puts[c.Key])

		if c.Delete {
			delete(has, c.Key)
		} else {
			has[c.Key] = etcd.Entry{
				Key:    c.Key,
				Value:  c.Value,
				Lease:  c.Lease,
				Create: cmp.Or(was.Create, c.Revision),
			}
		}
	}
}

// See records a problem that the harness finds now.
func (h *History) See(now time.Time, promise, format string, args ...any) {
	h.Seen = append(h.Seen,
		Problem{promise, now.Sub(h.Began), fmt.Sprintf(format, args...)})
}

// Plain reports whether, under each policy that a caller may use, every
// instance that serves a method may answer.
func (h *History) Plain(c schedule.Caller) bool {
	return c.Subset == 0 && !h.ever(c, func(p fixtures.Policy) bool {
		return len(p.Routes)+len(p.Drain)+p.Subset+p.Most+p.ZoneLeast > 0 || p.Ejects
	})
}

// Even reports whether all policies that a caller may use distribute calls as
// round_robin does.
func (h *History) Even(c schedule.Caller) bool {
	return !h.ever(c, func(p fixtures.Policy) bool {
		return !p.Exact || p.Weighs || p.PreferZone || len(p.Split) > 0
	})
}

// ever reports whether match returns true for any policy that a caller may use.
func (h *History) ever(c schedule.Caller, match func(fixtures.Policy) bool) bool {
	matches := func(live string) bool {
		return match(fixtures.ParsePolicy(live, c.Config()))
	}

	return matches("") || slices.ContainsFunc(h.Configs, matches)
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
