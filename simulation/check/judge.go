package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Instance is one life of a server.
type Instance struct {
	ID      string // of this life: "server 2, life 3"
	Name    string // the instance id, "" where it is the address
	Process string
	Addr    string
	Methods []string // full names
	Tells   bool     // its entries say which methods it serves
	Marks   bool     // its entries say when it leaves
}

// Judge keeps what it needs to judge, and the problems that it has found. Its methods are to be called in the order of
// what they note.
type Judge struct {
	Problems []Problem

	began   time.Time
	lives   map[string]*life
	links   map[[2]string]*link    // by the names of two processes
	proven  map[path]time.Time     // the last call that came back
	drained map[string]time.Time   // by name: when the live config ceased to drain it, zero while it does
	writes  map[string][]write     // by key: the latest, in order
	lines   map[string][]time.Time // by process and what they are about: the latest, in order
	history history
	store   store
}

type life struct {
	Instance
	up       bool
	since    time.Time // of up
	ended    time.Time
	killed   bool      // so it ended, and the calls under way to it were lost
	leaves   bool      // it leaves etcd, or has left, by its own will
	returned time.Time // when it last ceased to
}

type link struct {
	cut     bool
	stalled bool
	changed time.Time
}

// A path leads a caller's calls to a life of a server.
type path struct{ caller, conn, life string }

// path returns the path of the call to a life.
func (c *Call) path(l *life) path { return path{c.Caller, c.Conn, l.ID} }

type write struct {
	at   time.Time
	from string
}

// New returns a judge of a world that begins now.
func New(now time.Time) *Judge {
	return &Judge{
		began:   now,
		lives:   make(map[string]*life),
		links:   make(map[[2]string]*link),
		proven:  make(map[path]time.Time),
		drained: make(map[string]time.Time),
		writes:  make(map[string][]write),
		lines:   make(map[string][]time.Time),
		history: newHistory(),
		store:   newStore(),
	}
}

// Report adds a problem.
func (j *Judge) Report(now time.Time, rule Rule, format string, args ...any) {
	j.Problems = append(j.Problems, Problem{rule, now.Sub(j.began), fmt.Sprintf(format, args...)})
}

// Up notes that a life of a server takes calls.
func (j *Judge) Up(now time.Time, i Instance) {
	j.lives[i.ID] = &life{Instance: i, up: true, since: now}
}

// Begin notes that a process begins another life, which dials from another host: its links are healthy. It does not know
// what the life before has logged.
func (j *Judge) Begin(process string) {
	maps.DeleteFunc(j.lines, func(of string, _ []time.Time) bool { return strings.HasPrefix(of, process+": ") })
	maps.DeleteFunc(j.links, func(between [2]string, _ *link) bool { return slices.Contains(between[:], process) })
}

// Down notes that a life takes no more calls. If it was killed, the calls under way to it are lost.
func (j *Judge) Down(now time.Time, id string, killed bool) {
	l := j.lives[id]
	l.up, l.ended, l.killed = false, now, killed
}

// Leave notes whether a life leaves etcd, or comes back, by its own will. Its entry takes a while to come back.
func (j *Judge) Leave(now time.Time, id string, leaves bool) {
	l := j.lives[id]
	if l.leaves = leaves; !leaves {
		l.returned = now
	}
}

// Link notes that the link between two processes has changed.
func (j *Judge) Link(now time.Time, a, b string, cut, stalled bool) {
	j.links[pair(a, b)] = &link{cut: cut, stalled: stalled, changed: now}
}

// Reset notes that the connections between two processes were reset. Those of a stalled link hear of it when the stall ends.
func (j *Judge) Reset(now time.Time, a, b string) {
	l := link{}
	if before := j.links[pair(a, b)]; before != nil {
		l = *before
	}
	l.changed = now
	j.links[pair(a, b)] = &l
}

// Drain notes which names the live config drains from now on.
func (j *Judge) Drain(now time.Time, names ...string) {
	for name, ended := range j.drained {
		if ended.IsZero() && !slices.Contains(names, name) {
			j.drained[name] = now
		}
	}
	for _, name := range names {
		j.drained[name] = time.Time{}
	}
}

// pair returns the key of the link between two processes, the same in both directions.
func pair(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// at returns the life that takes calls at an address, nil if there is none.
func (j *Judge) at(addr string) *life {
	for _, l := range j.lives {
		if l.Addr == addr && l.up {
			return l
		}
	}
	return nil
}

// Reachable reports whether lives at all of some addresses have taken calls since a time, and nothing has happened to a caller's
// links to them.
func (j *Judge) Reachable(since time.Time, caller string, addrs ...string) bool {
	return !slices.ContainsFunc(addrs, func(addr string) bool {
		l := j.at(addr)
		return l == nil || !l.since.Before(since) || j.links[pair(caller, l.Process)] != nil
	})
}
