package check

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"
)

// store is what a store that leaders write to has heard of tokens.
type store struct {
	highest int64
	users   map[int64]string // by token: the life that has written with it
}

// Write judges a write of a life with a token, and whether the store has taken it.
func (j *Judge) Write(now time.Time, life string, token int64, taken bool) {
	s := &j.store
	if user, ok := s.users[token]; ok && user != life {
		j.Report(now, Fenced, "%s writes with the token %d, with which %s has written", life, token, user)
	}
	s.users[token] = life
	if !taken {
		return
	}
	if token < s.highest {
		j.Report(now, Fenced, "the store has taken a write of %s with the token %d after one with %d", life, token, s.highest)
	}
	s.highest = max(s.highest, token)
}

// Restored notes that revisions may repeat from now on, and that the store has been told so.
func (j *Judge) Restored() { j.store = newStore() }

func newStore() store { return store{users: make(map[int64]string)} }

// LeaderCall judges a call for the leader. leader is the life that has led all through the call and for a while before it,
// with nothing on its way to etcd or on the caller's, "" if there is none or that is not known.
func (j *Judge) LeaderCall(c Call, leader string) {
	if took := c.End.Sub(c.Begin); c.Longest > 0 && took > c.Longest+slack {
		j.Report(c.End, Timeouts, "%s of %s took %v, and its timeout is %v", c.Method, c.Caller, took, c.Longest)
	}
	switch l := j.lives[leader]; {
	case c.Code == codes.OK:
		j.answeredByLeader(c, leader)
	case c.Code != codes.Unavailable && c.Code != codes.DeadlineExceeded:
		j.Report(c.End, ToLeader, "%s of %s: %v: %s", c.Method, c.Caller, c.Code, c.Err)
	case c.Code == codes.Unavailable && c.End.Sub(c.Begin) < c.Waits && !j.broken(c):
		j.Report(c.End, ToLeader, "%s of %s fails after %v, and may wait for %v: %s", c.Method, c.Caller, c.End.Sub(c.Begin), c.Waits, c.Err)
	case l != nil && l.up && j.reached(c, l) && !j.excused(c):
		j.Report(c.End, ToLeader, "%s of %s after %v: %v: %s; it should have reached %s", c.Method, c.Caller, c.End.Sub(c.Begin), c.Code, c.Err, leader)
	}
}

// broken reports whether a connection of the caller may have broken while the call was under way.
func (j *Judge) broken(c Call) bool {
	sent := c.Begin.Add(-sentBefore)
	for _, l := range j.lives {
		if !l.up && !l.ended.Before(sent) {
			return true
		}
	}
	for between, to := range j.links {
		if slices.Contains(between[:], c.Caller) && (to.cut || to.stalled || !to.changed.Before(sent)) {
			return true
		}
	}
	return false
}

// answeredByLeader judges a call for the leader by the life that answered it.
func (j *Judge) answeredByLeader(c Call, leader string) {
	l := j.lives[c.From]
	switch {
	case l == nil || !l.up && l.ended.Before(c.Begin):
		j.Report(c.End, NeverWas, "%s of %s: answered by %q", c.Method, c.Caller, c.From)
	case leader != "" && leader != c.From:
		j.Report(c.End, ToLeader, "%s of %s: answered by %s, and %s leads", c.Method, c.Caller, c.From, leader)
	default:
		j.proven[c.path(l)] = c.End
	}
}
