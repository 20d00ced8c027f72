// Package check is what must hold in a simulated world: a judgement over what was observed, without I/O, clock or lock.
package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// Rule names what must hold.
type Rule string

// The rules.
const (
	NeverWas   Rule = "no call reaches an instance that never was"
	Wrong      Rule = "a call reaches an instance that serves its method"
	Target     Rule = "a target is never another"
	Failed     Rule = "no call fails while an instance that serves it is known"
	Gone       Rule = "no call reaches what is drained or has left"
	Forgotten  Rule = "an instance that vanishes without a word is held for a grace"
	Late       Rule = "whoever can reach etcd hears of a change at once"
	SaidIn     Rule = "what was said to be in etcd is there"
	SaidOut    Rule = "what was said to be out of etcd is out"
	Fight      Rule = "two processes never fight over a key"
	Requests   Rule = "requests to etcd stay under a rate"
	Lines      Rule = "log lines stay under a rate"
	Hangs      Rule = "nothing hangs"
	Entries    Rule = "in the end etcd has what is served"
	Readers    Rule = "in the end every reader has what etcd has"
	Shares     Rule = "in the end calls are shared out as configured"
	Status     Rule = "in the end the status is true"
	LeftBehind Rule = "nothing is left behind"
)

// Problem is a rule that was broken.
type Problem struct {
	Rule Rule          `json:"rule"`
	At   time.Duration `json:"at"` // since the world began
	Text string        `json:"text"`
}

func (p Problem) String() string {
	return fmt.Sprintf("%.3f s: %s: %s", p.At.Seconds(), p.Rule, p.Text)
}

// Instance is one life of a server.
type Instance struct {
	ID      string // of this life: "server 2, life 3"
	Name    string // the instance id, "" where it is the address
	Host    string
	Addr    string
	Methods []string // full names
	Tells   bool     // its entries say which methods it serves
	Marks   bool     // its entries say when it leaves
}

// Known is an endpoint that a caller knows.
type Known struct {
	Addr string
	Held bool
}

// Call is a call that has ended.
type Call struct {
	Caller     string // the host
	Conn       string // which of its connections
	Method     string // the full name
	Target     string // the instance that was asked for, "" any
	TargetAddr string // its address when the call began
	Begin, End time.Time
	From       string // the life that answered, by its ID
	Code       codes.Code
	Err        string
	Known      []Known  // to the caller when the call began
	Registered []string // addresses that etcd had when the call began
	Settled    bool     // nothing has changed lately that the caller may not have heard of
	Drained    []string // names that the live config drains
	Lately     []string // addresses that etcd had within the grace before
	Subset     int      // of the caller, 0 none
}

// Judge keeps what it must know to judge, and the problems that it has found.
type Judge struct {
	Problems []Problem

	began   time.Time
	lives   map[string]*life
	links   map[[2]string]*link
	proven  map[[2]string]time.Time // a connection and a life: the last call that came back
	drained map[string]bool         // names that a live config has ever drained
	cut     time.Time               // the last time that a life ended without a word, or its connections did
	writers map[string][]write      // by key: who has put it lately
}

type life struct {
	Instance
	up       bool
	since    time.Time // of up
	ended    time.Time
	leaves   bool      // it has said that it leaves etcd, or was told to
	doubtful time.Time // when somebody else last changed its entry
}

type link struct {
	stalled bool
	cut     bool
	changed time.Time
}

type write struct {
	at   time.Time
	host string
}

// New returns a judge of a world that begins now.
func New(now time.Time) *Judge {
	return &Judge{
		began: now, lives: make(map[string]*life), links: make(map[[2]string]*link), proven: make(map[[2]string]time.Time),
		drained: make(map[string]bool), writers: make(map[string][]write),
	}
}

// Find reports a problem.
func (j *Judge) Find(now time.Time, rule Rule, format string, args ...any) {
	j.Problems = append(j.Problems, Problem{rule, now.Sub(j.began), fmt.Sprintf(format, args...)})
}

// Up notes that a life of a server takes calls.
func (j *Judge) Up(now time.Time, i Instance) {
	j.lives[i.ID] = &life{Instance: i, up: true, since: now}
}

// Down notes that a life takes no more calls. A killed one takes what is under way with it.
func (j *Judge) Down(now time.Time, id string, killed bool) {
	j.lives[id].up, j.lives[id].ended = false, now
	if killed {
		j.cut = now
	}
}

// Leave notes that a life leaves etcd, or comes back, by its own will.
func (j *Judge) Leave(id string, leaves bool) { j.lives[id].leaves = leaves }

// Doubt notes that somebody else has changed the entry of a life.
func (j *Judge) Doubt(now time.Time, id string) {
	if l := j.lives[id]; l != nil {
		l.doubtful = now
	}
}

// Link notes that the link between two hosts has changed.
func (j *Judge) Link(now time.Time, a, b string, cut, stalled bool) {
	j.links[pair(a, b)] = &link{stalled: stalled, cut: cut, changed: now}
}

// Drain notes names that a live config drains. They are forgiven for good, for who has heard of which config is not known.
func (j *Judge) Drain(names ...string) {
	for _, name := range names {
		j.drained[name] = true
	}
}

func pair(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// noticed is how long something that has happened excuses a call: it travels as long as any byte, and the call may have been sent
// before it arrives.
const noticed = 500 * time.Millisecond

// Call judges a call.
func (j *Judge) Call(c Call) {
	if c.Code == codes.OK {
		j.answered(c)
		return
	}
	if c.Code == codes.Unimplemented {
		if solid := j.solid(c); len(solid) > 0 && j.told(c) {
			j.Find(c.End, Wrong, "%s of %s ends in Unimplemented, though %s serve it: %s", c.Method, c.Caller, strings.Join(solid, " and "), c.Err)
		}
		return
	}
	if c.Code != codes.Unavailable && c.Code != codes.DeadlineExceeded {
		j.Find(c.End, Failed, "%s of %s: %v: %s", c.Method, c.Caller, c.Code, c.Err)
		return
	}
	if j.excused(c) {
		return
	}
	if held := j.held(c); len(held) > 0 {
		j.Find(c.End, Forgotten, "%s of %s: %v: %s; %s answered it just now, and has not left", c.Method, c.Caller, c.Code, c.Err,
			strings.Join(held, " and "))
	}
	if solid := j.solid(c); len(solid) > 0 {
		j.Find(c.End, Failed, "%s of %s after %v: %v: %s; it knows %s, which can be reached", c.Method, c.Caller, c.End.Sub(c.Begin), c.Code, c.Err,
			strings.Join(solid, " and "))
	}
}

func (j *Judge) answered(c Call) {
	l := j.lives[c.From]
	switch {
	case l == nil:
		j.Find(c.End, NeverWas, "%s of %s: answered by %q", c.Method, c.Caller, c.From)
	case !l.up && l.ended.Before(c.Begin):
		j.Find(c.End, NeverWas, "%s of %s: answered by %s, which had ended", c.Method, c.Caller, c.From)
	case !l.targeted(c):
		j.Find(c.End, Target, "%s of %s to %s: answered by %s", c.Method, c.Caller, c.Target, c.From)
	case j.gone(c, l) && len(j.solid(c)) > 0:
		j.Find(c.End, Gone, "%s of %s: answered by %s", c.Method, c.Caller, c.From)
	default:
		j.proven[[2]string{c.Caller + c.Conn, c.From}] = c.End
	}
}

// gone reports whether the life that answered gets no calls any more, as far as a caller that has heard of everything knows.
func (j *Judge) gone(c Call, l *life) bool {
	if !c.Settled || c.Target != "" {
		return false
	}
	drained := slices.Contains(c.Drained, l.Addr) || l.Name != "" && slices.Contains(c.Drained, l.Name)
	return drained || l.leaves && l.Marks && !slices.Contains(c.Lately, l.Addr)
}

// solid returns the lives that a failed call should have reached: the caller knew them, etcd had them, they serve the
// method, nothing drains them, and nothing has happened on the way to them since a call last came back.
func (j *Judge) solid(c Call) []string {
	var solid []string
	doubtful := 0
	for _, known := range c.Known {
		l := j.at(known.Addr)
		if l == nil || l.leaves || known.Held || !slices.Contains(c.Registered, known.Addr) || !j.reached(c, l) {
			doubtful++
			continue
		}
		if l.targeted(c) && slices.Contains(l.Methods, c.Method) && !j.drained[l.Addr] && !j.drained[l.Name] {
			solid = append(solid, l.ID)
		}
	}
	if c.Subset > 0 && c.Target == "" && doubtful+len(j.drained) >= c.Subset {
		return nil // the subset may be of those
	}
	slices.Sort(solid)
	return slices.Compact(solid)
}

// Grace is how long callers hold what vanishes without a word.
const Grace = 5 * time.Second

// held returns the lives that a call which failed should have reached although etcd has nothing any more: all that it had
// within the grace are up, and have not left by their own will. One of several that vanishes is not held.
func (j *Judge) held(c Call) []string {
	if c.Target != "" || c.Subset > 0 || len(j.drained) > 0 || len(c.Registered) > 0 {
		return nil
	}
	var held []string
	for _, addr := range c.Lately {
		l := j.at(addr)
		if l == nil || l.leaves || c.Begin.Sub(l.doubtful) < 3*Grace {
			return nil
		}
		proven := j.proven[[2]string{c.Caller + c.Conn, l.ID}]
		if c.Begin.Sub(proven) < Grace && slices.Contains(l.Methods, c.Method) && j.reached(c, l) {
			held = append(held, l.ID)
		}
	}
	slices.Sort(held)
	return held
}

// targeted reports whether the call may go to the life, for all that its target says.
func (l *life) targeted(c Call) bool {
	return c.Target == "" || c.TargetAddr == l.Addr || c.Target == l.Addr || c.Target == l.Name
}

// told reports whether the caller has been told which methods each endpoint serves that it knew.
func (j *Judge) told(c Call) bool {
	return !slices.ContainsFunc(c.Known, func(k Known) bool {
		l := j.at(k.Addr)
		return l == nil || !l.Tells
	})
}

// at returns the life that takes calls at an address, nil if there is none.
func (j *Judge) at(addr string) *life {
	for _, l := range j.lives {
		if l.Addr == addr && l.up {
			return l
		}
	}
	return nil
}

// reached reports whether a call from the caller has come back from the life since anything happened to their link.
func (j *Judge) reached(c Call, l *life) bool {
	proven, ok := j.proven[[2]string{c.Caller + c.Conn, l.ID}]
	changed := j.links[pair(c.Caller, l.Host)]
	return ok && l.since.Before(c.Begin) && (changed == nil || !changed.cut && !changed.stalled && changed.changed.Before(proven))
}

// excused reports whether the call may have been under way to an instance that died, or is behind a link that did.
func (j *Judge) excused(c Call) bool {
	if !j.cut.Before(c.Begin.Add(-noticed)) {
		return true
	}
	for hosts, l := range j.links {
		if hosts[0] != c.Caller && hosts[1] != c.Caller {
			continue
		}
		// What is sent into a black hole waits for its deadline.
		if c.Code == codes.DeadlineExceeded && l.stalled || !l.changed.Before(c.Begin.Add(-noticed)) {
			return true
		}
	}
	return false
}

const (
	// window is the time in which changes of hands and rates are counted.
	window = 10 * time.Second
	// hands is how often a key may change hands in that time.
	hands = 4
)

// Put notes that a process has put a key.
func (j *Judge) Put(now time.Time, key, host string) {
	writes := append(j.writers[key], write{now, host})
	writes = slices.DeleteFunc(writes, func(w write) bool { return w.at.Before(now.Add(-window)) })
	j.writers[key] = writes
	changes := 0
	for i := 1; i < len(writes); i++ {
		if writes[i].host != writes[i-1].host {
			changes++
		}
	}
	if changes > hands {
		j.Find(now, Fight, "%s has changed hands %d times within %v, last to %s", key, changes, window, host)
		delete(j.writers, key)
	}
}

const (
	// mostRequests is how many requests a process may make within a window.
	mostRequests = 100
	// mostLines is how many lines it may log.
	mostLines = 40
)

// Rate judges how many requests of a process etcd has taken within a window, and how many lines it has logged.
func (j *Judge) Rate(now time.Time, process string, requests, lines int) {
	if requests > mostRequests {
		j.Find(now, Requests, "%s has made %d requests within %v", process, requests, window)
	}
	if lines > mostLines {
		j.Find(now, Lines, "%s has logged %d lines within %v", process, lines, window)
	}
}

// Window is how long Rate's counts are taken over.
const Window = window
