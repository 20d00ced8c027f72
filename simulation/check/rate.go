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
	mostRequests = 100 // to etcd, by a process, for tokens or for anything else
	mostLines    = 40  // logged by a process
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

// Counts are what a process has done so far, or within a window.
type Counts struct {
	Requests int // that etcd has taken
	Tokens   int // that it has asked etcd for: etcd's client does so for each stream that it opens
	Lines    int // that it has logged
}

// Sub returns what was done since it was less.
func (c Counts) Sub(less Counts) Counts {
	return Counts{c.Requests - less.Requests, c.Tokens - less.Tokens, c.Lines - less.Lines}
}

// Rate judges what a process has done within a window.
func (j *Judge) Rate(now time.Time, process string, done Counts) {
	if done.Requests > mostRequests {
		j.Report(now, Requests, "%s has made %d requests within %v", process, done.Requests, Window)
	}
	if done.Tokens > mostRequests {
		j.Report(now, Requests, "%s has asked for %d tokens within %v", process, done.Tokens, Window)
	}
	if done.Lines > mostLines {
		j.Report(now, Lines, "%s has logged %d lines within %v", process, done.Lines, Window)
	}
}
