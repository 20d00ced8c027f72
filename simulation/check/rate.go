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
	mostRequests = 100 // to etcd, by a process
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

// Rate judges how many requests of a process etcd has taken within a window, and how many lines it has logged.
func (j *Judge) Rate(now time.Time, process string, requests, lines int) {
	if requests > mostRequests {
		j.Report(now, Requests, "%s has made %d requests within %v", process, requests, Window)
	}
	if lines > mostLines {
		j.Report(now, Lines, "%s has logged %d lines within %v", process, lines, Window)
	}
}
