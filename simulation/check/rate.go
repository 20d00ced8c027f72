package check

import (
	"slices"
	"time"
)

// Window is the time over which rates are counted.
const Window = 10 * time.Second

// What may happen within a window.
const (
	mostChanges  = 4   // of hands, to a key
	mostRequests = 150 // of etcd, by a process, for tokens or for anything else: 44 to renew a lease of 5 s out of turn, 41 for a restored etcd
	mostRepeated = 3500
	mostDials    = 200
	mostLines    = 40 // logged by a process
	mostAlike    = 7  // of them about the same: a list that hangs for 1 s again and again, with pauses between that double
)

// Put notes and judges that a key was put from a host.
func (j *Judge) Put(now time.Time, key, from string) {
	writes := append(j.writes[key], write{now, from})
	writes = slices.DeleteFunc(writes, func(w write) bool { return w.at.Before(now.Add(-Window)) })
	j.writes[key] = writes
	changes := 0
	for i := 1; i < len(writes); i++ {
		if writes[i].from != writes[i-1].from {
			changes++
		}
	}
	if changes > mostChanges {
		j.Report(now, Fight, "%s has changed hands %d times within %v, last to %s", key, changes, Window, from)
		delete(j.writes, key)
	}
}

// Wiped notes that etcd was restored or wiped, so that all put their keys again.
func (j *Judge) Wiped() { clear(j.writes) }

// Line notes and judges that a process has logged a line about something.
func (j *Judge) Line(now time.Time, process, about string) {
	of := process + ": " + about
	lines := append(j.lines[of], now)
	lines = slices.DeleteFunc(lines, func(at time.Time) bool { return at.Before(now.Add(-Window)) })
	j.lines[of] = lines
	if len(lines) > mostAlike {
		j.Report(now, Lines, "%s has logged %d lines within %v: %s", process, len(lines), Window, about)
		delete(j.lines, of)
	}
}

// Counts are what a process has done so far, or within a window.
type Counts struct {
	Requests int // that it has made of etcd, save these:
	Repeated int // that were refused and that etcd's client then repeats by itself
	Tokens   int // for tokens; etcd's client makes one for each stream that it opens
	Dials    int // of connections to etcd
	Lines    int // that it has logged
}

// Sub returns what was done since it was less.
func (c Counts) Sub(less Counts) Counts {
	return Counts{c.Requests - less.Requests, c.Repeated - less.Repeated, c.Tokens - less.Tokens, c.Dials - less.Dials, c.Lines - less.Lines}
}

// Rate judges what a process has done within a window, or a part of one.
func (j *Judge) Rate(now time.Time, process string, done Counts) {
	for _, of := range []struct {
		rule       Rule
		what       string
		done, most int
	}{
		{Requests, "made %d requests", done.Requests, mostRequests},
		{Requests, "made %d requests that were refused and repeated", done.Repeated, mostRepeated},
		{Requests, "asked for %d tokens", done.Tokens, mostRequests},
		{Requests, "dialled etcd %d times", done.Dials, mostDials},
		{Lines, "logged %d lines", done.Lines, mostLines},
	} {
		if of.done > of.most {
			j.Report(now, of.rule, "%s has "+of.what+" within %v", process, of.done, Window)
		}
	}
}
