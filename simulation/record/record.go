// Package record keeps what has happened in a simulated world, has package check hear of it, and says what excuses whom.
//
//	record.go   the trace, the judge, and what was written to etcd
//	entries.go  which instances etcd has, and has had
//	leases.go   who has which lease, and which key hangs on which
//	configs.go  by which configs callers may go
//	excuses.go  whom faults may have kept from hearing, or from doing, what they should
package record

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// Record is what has happened since a world began.
type Record struct {
	Plan  schedule.Schedule
	Began time.Time
	Etcd  *etcd.Cluster

	resigned func(token int64) // is told of each candidate that goes

	mu       sync.Mutex
	judge    *check.Judge
	trace    []byte             // a line an event
	commits  []etcd.Change      // all, in order
	resets   []time.Time        // when etcd was restored or wiped
	repeated time.Time          // when that last had revisions repeat
	resumed  int64              // the revision that etcd went on from when it was last restored or wiped
	noted    map[string]bool    // the keys of entries that the judge has heard of
	deaf     map[string]silence // by where a life dials from: when it last could not hear from etcd
	granted  map[string][]int64 // by where a process dials from: its leases as far as it has heard, in order
	leases   map[string]int64   // by key: the lease that it hangs on
	tokens   map[string]int64   // by candidate's key
	forced   time.Time          // when a candidate was last taken out of etcd by force
	more     []schedule.Step    // that are no part of the plan
}

// New begins the record of a schedule. What it returns calls resigned with the token of each candidate that goes.
func New(plan schedule.Schedule, cluster *etcd.Cluster, resigned func(token int64)) *Record {
	r := &Record{
		Plan: plan, Began: time.Now(), Etcd: cluster, resigned: resigned, judge: check.New(time.Now()),
		noted: make(map[string]bool), deaf: make(map[string]silence), granted: make(map[string][]int64),
		leases: make(map[string]int64), tokens: make(map[string]int64),
	}
	cluster.OnCommit(r.commit)
	return r
}

// Result returns the problems that were found, and the trace.
func (r *Record) Result() ([]check.Problem, []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.judge.Problems, r.trace
}

// Observe has the judge hear of something.
func (r *Record) Observe(tell func(*check.Judge)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tell(r.judge)
}

// Report reports a broken rule.
func (r *Record) Report(rule check.Rule, format string, args ...any) {
	r.Observe(func(j *check.Judge) { j.Report(time.Now(), rule, format, args...) })
}

// Note adds a line to the trace.
func (r *Record) Note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trace = fmt.Appendf(r.trace, "%v ", time.Since(r.Began))
	r.trace = fmt.Appendf(r.trace, format+"\n", args...)
}

// slack is how much longer than its bound a call may take.
const slack = 200 * time.Millisecond

// ContextOnly is the bound of a call that its context alone bounds.
const ContextOnly = time.Hour

// Bound reports a call that took longer than its context and its own bound allow.
func (r *Record) Bound(ctx context.Context, began time.Time, what, who string, longest time.Duration) {
	end := began.Add(longest)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(end) {
		end = deadline
	}
	if late := time.Since(end); late > slack {
		r.Report(check.Hangs, "%s of %s took %v, %v longer than it may", what, who, time.Since(began), late)
	}
}

// Now returns how long the world has gone on, as steps count their times.
func (r *Record) Now() time.Duration { return time.Since(r.Began) }

// commit takes in a change in etcd.
func (r *Record) commit(c etcd.Change) {
	r.Note("commit %q %q delete %v by %s", c.Key, c.Value, c.Delete, c.Client)
	if token := r.take(c); token != 0 {
		r.resigned(token)
	}
}

// take takes in a change in etcd, and returns the token of the candidate that goes by it, 0 if none does.
func (r *Record) take(c etcd.Change) (resigned int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commits = append(r.commits, c)
	r.hang(c)
	resigned = r.candidate(c)
	r.noteEntry(c.Revision, c.Key, c.Value)
	if c.Key == acme.ConfigKey {
		r.drain(c.Value, !c.Delete)
	}
	if !c.Delete && c.Client != "" && strings.HasPrefix(c.Key, acme.Prefix) {
		r.judge.Put(time.Now(), c.Key, c.Client)
	}
	return resigned
}

// candidate takes in a change of a candidate, and returns its token if it goes. It must be called with mu held.
func (r *Record) candidate(c etcd.Change) (resigned int64) {
	token := r.tokens[c.Key]
	switch {
	case !strings.HasPrefix(c.Key, acme.Candidates):
	case c.Delete:
		delete(r.tokens, c.Key)
		return token
	case token == 0:
		r.tokens[c.Key] = c.Revision
	}
	return 0
}

// Reset notes that etcd is restored or wiped by change, while every member is down, and whether revisions may repeat then.
func (r *Record) Reset(change func(), repeats bool) {
	r.mu.Lock()
	r.resets = append(r.resets, time.Now())
	if repeats {
		r.repeated = time.Now()
	}
	r.mu.Unlock()
	change()
	live, ok := r.Etcd.Get(acme.ConfigKey)
	entries, candidates, leaders := r.Etcd.Entries(acme.Prefix), r.Etcd.Entries(acme.Candidates), r.Etcd.Entries(acme.Leaders)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.judge.Wiped()
	clear(r.leases)
	for _, e := range slices.Concat(entries, leaders) {
		r.leases[e.Key] = e.Lease
	}
	r.resumed = r.Etcd.Revision()
	r.noteAll(entries)
	clear(r.tokens)
	for _, e := range candidates {
		r.tokens[e.Key] = e.Create
	}
	r.drain(live.Value, ok)
}

// Since returns the commits since a time.
func (r *Record) Since(at time.Time) []etcd.Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := len(r.commits)
	for i > 0 && !r.commits[i-1].At.Before(at) {
		i--
	}
	return r.commits[i:len(r.commits):len(r.commits)]
}

// ResetSince reports whether etcd was restored or wiped since a time.
func (r *Record) ResetSince(at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.lastReset()
	return !last.IsZero() && !last.Before(at)
}

// RepeatedSince reports whether etcd was restored or wiped since a time so that revisions may repeat.
func (r *Record) RepeatedSince(at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.repeated.IsZero() && !r.repeated.Before(at)
}

// Older reports whether a token was given before etcd was last restored or wiped.
func (r *Record) Older(token int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return token <= r.resumed
}

// lastReset returns when etcd was last restored or wiped, zero if it never was. It must be called with mu held.
func (r *Record) lastReset() (at time.Time) {
	if len(r.resets) > 0 {
		at = r.resets[len(r.resets)-1]
	}
	return at
}

// silence is a time when a life hears nothing from etcd.
type silence struct {
	since time.Time
	ended time.Time // zero: it has not
}

// Deaf notes whether a life hears nothing from etcd.
func (r *Record) Deaf(from string, deaf bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if deaf {
		r.deaf[from] = silence{since: time.Now()}
	} else {
		r.deaf[from] = silence{ended: time.Now()}
	}
}

// DeafSince returns since when a life hears nothing from etcd, zero if it does.
func (r *Record) DeafSince(from string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.deaf[from]; s.ended.IsZero() {
		return s.since
	}
	return time.Time{}
}

// HearsAgain reports whether a life hears from etcd again since a moment ago: what it has heard is not known.
func (r *Record) HearsAgain(from string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.deaf[from]
	return !s.ended.IsZero() && time.Since(s.ended) < Promptly
}
