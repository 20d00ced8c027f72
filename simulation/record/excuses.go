package record

import (
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

const (
	// Promptly is how soon a caller that can reach etcd hears of a change.
	Promptly = 2500 * time.Millisecond
	// Aftermath is how long a fault on the way to etcd excuses processes after it has ended, and shortly how long one does that
	// they notice at once.
	Aftermath = 6 * time.Second
	shortly   = 3 * time.Second
	// HeardOfReset is how soon processes know that etcd was restored.
	HeardOfReset = 15 * time.Second
	// triedAgain is how long after a refusal at most a process asks again.
	triedAgain = 65 * time.Second
	// listed is how long after a list that etcd carried out without an answer it is clear that there will be none: the longest that
	// a list may take, and a pause.
	listed = 12 * time.Second
	// tokenTimeout is how long it takes etcd's client to wait in vain for a token, and what follows: see leaderless.
	tokenTimeout = 8 * time.Second
	// trips is how many messages go to etcd and back, one after another, until a process is as it was.
	trips = 16
)

// leaderless are the faults that may leave members without a leader for a while. etcd's client then waits for a token until
// the member gives up, and nothing else goes on meanwhile.
var leaderless = []schedule.Kind{schedule.MemberStops, schedule.MemberIsolated, schedule.QuorumLost}

// aftermaths hold by kind how long after a fault on its way to etcd a process may be behind.
type aftermaths map[schedule.Kind]time.Duration

// excuse says which faults excuse something: of those that befall all processes, and of those that befall the one that the step
// names.
type excuse struct {
	all, one aftermaths
	unseen   aftermaths // in place of all, where a process may not see at once that etcd was put back
	rights   []string   // those whose refusal counts
}

var (
	// hampers keeps a process from doing what it should in etcd.
	hampers = excuse{
		rights: []string{schedule.Read, schedule.Write},
		all: aftermaths{
			schedule.MemberStops: Aftermath, schedule.MemberIsolated: Aftermath, schedule.QuorumLost: Aftermath, schedule.MemberLags: Aftermath,
			schedule.LeaderChanges: Aftermath, schedule.TokensExpire: Aftermath,
			schedule.Restore: Aftermath, schedule.Wipe: Aftermath,
		},
		unseen: aftermaths{schedule.Restore: HeardOfReset, schedule.Wipe: HeardOfReset},
		one: aftermaths{
			schedule.AnswersLost: Aftermath, schedule.AnswersLate: Aftermath, schedule.RequestsLate: Aftermath, schedule.RequestsFail: Aftermath,
			schedule.CutFromEtcd: Aftermath, schedule.StalledFromEtcd: Aftermath, schedule.StalledFromMember: Aftermath,
			schedule.SlowToEtcd: Aftermath, schedule.ResetFromEtcd: Aftermath, schedule.RightsRefused: triedAgain, schedule.CallerAlone: Aftermath,
		},
	}
	// disturbs keeps a process from hearing of a change promptly. A new leader does not: watches go on.
	disturbs = excuse{
		rights: []string{schedule.Read, schedule.ReadConfig, schedule.ReadVotes},
		all: aftermaths{
			schedule.MemberStops: shortly, schedule.MemberIsolated: shortly, schedule.QuorumLost: shortly, schedule.MemberLags: shortly,
			schedule.Restore: Aftermath, schedule.Wipe: Aftermath, schedule.TokensExpire: shortly,
		},
		one: aftermaths{
			schedule.RightsRefused: Aftermath, schedule.AnswersLost: Aftermath, schedule.AnswersLate: Aftermath, schedule.RequestsLate: Aftermath,
			schedule.RequestsFail: shortly, schedule.CutFromEtcd: shortly, schedule.StalledFromEtcd: Aftermath,
			schedule.StalledFromMember: Aftermath, schedule.SlowToEtcd: shortly, schedule.ResetFromEtcd: shortly, schedule.CallerRestarts: shortly,
			schedule.CallerAlone: Aftermath,
		},
	}
	// delays has a process hear late of what etcd has done.
	delays = excuse{
		all: aftermaths{schedule.MemberLags: Aftermath},
		one: aftermaths{
			schedule.AnswersLate: Aftermath, schedule.RequestsLate: Aftermath, schedule.SlowToEtcd: Aftermath,
			schedule.StalledFromEtcd: Aftermath, schedule.StalledFromMember: Aftermath,
		},
	}
	// unanswers has a process wait for the answer of a list, which will not come.
	unanswers = excuse{one: aftermaths{schedule.AnswersLost: listed}}
	// hides has a watch wait for revisions that a restored or wiped etcd has yet to reach: it is asked ever more seldom while nobody
	// writes.
	hides = excuse{all: aftermaths{schedule.Restore: 30 * time.Second, schedule.Wipe: 30 * time.Second}}
	// outruns has a watch that was opened a moment ago ask for revisions that etcd has just compacted.
	outruns = excuse{all: aftermaths{schedule.Compaction: shortly}}
	// outdates has a stream that is already open refuse the next watch, whenever that is.
	outdates = excuse{all: aftermaths{schedule.TokensExpire: time.Hour}}
)

// Add notes a step that is no part of the plan.
func (r *Record) Add(s schedule.Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.more = append(r.more, s)
}

func (r *Record) steps() []schedule.Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(r.Plan.Steps, r.more)
}

// befell reports whether there was a fault that excuses, or the aftermath of one, for a process at any time between two.
func (r *Record) befell(e excuse, process int, from, to time.Duration) bool {
	return slices.ContainsFunc(r.steps(), func(s schedule.Step) bool {
		after, ok := e.all[s.Kind]
		if longer, late := e.unseen[s.Kind]; late && !r.seen(s, process) {
			after = longer
		}
		if !ok && s.Who == process {
			after, ok = e.one[s.Kind]
		}
		if s.Kind == schedule.RightsRefused && !slices.Contains(e.rights, s.Text) {
			return false
		}
		if r.Plan.Auth && slices.Contains(leaderless, s.Kind) {
			after = max(after, tokenTimeout)
		}
		after += trips * time.Duration(r.Plan.Line) * time.Millisecond
		return ok && s.At <= to && from < s.At+s.For+after
	})
}

// seen reports whether a process sees at once that etcd was put back: by revisions that jump ahead, over connections whose loss its
// client shows.
func (r *Record) seen(s schedule.Step, process int) bool {
	return s.Text == schedule.Bumped && r.Plan.Client(process) == ""
}

// Hampered reports whether there is a fault on a process's way to etcd, or was one not long ago.
func (r *Record) Hampered(process int) bool { return r.befell(hampers, process, r.Now(), r.Now()) }

// Barred reports whether there is a fault on a server's way to the candidates, or was one not long ago.
func (r *Record) Barred(server int) bool { return r.BarredSince(server, r.Now()) }

// BarredSince reports whether there was one since a time.
func (r *Record) BarredSince(server int, at time.Duration) bool {
	e := hampers
	e.rights = []string{schedule.Read, schedule.Write, schedule.ReadVotes, schedule.WriteVotes}
	return r.befell(e, server, at, r.Now())
}

// Refused reports whether a process lacks a right now, or has lacked it not long ago.
func (r *Record) Refused(process int, right string) bool {
	return r.befell(excuse{one: aftermaths{schedule.RightsRefused: triedAgain}, rights: []string{right}}, process, r.Now(), r.Now())
}

// HamperedSince reports whether there was one since a time.
func (r *Record) HamperedSince(process int, at time.Duration) bool {
	return r.befell(hampers, process, at, r.Now())
}

// Troubled reports whether a process may say that etcd does not answer as it should.
func (r *Record) Troubled(process int) bool {
	now := r.Now()
	return r.Hampered(process) || r.DisturbedSince(process, now) || r.befell(outdates, process, now, now) || r.befell(hides, process, now, now) ||
		r.befell(outruns, process, now, now)
}

// HearsLate reports whether a process may hear late, or may lately have heard late, of what etcd has done.
func (r *Record) HearsLate(process int) bool { return r.befell(delays, process, r.Now(), r.Now()) }

// Unanswered reports whether a process may wait for the answer of a list, which will not come.
func (r *Record) Unanswered(process int) bool { return r.befell(unanswers, process, r.Now(), r.Now()) }

// Disturbed reports whether a process may have missed a change made at a time.
func (r *Record) Disturbed(process int, at time.Duration) bool {
	return r.befell(disturbs, process, at, at+Promptly) || r.onDeadWatch(process, at+Promptly)
}

// DisturbedSince reports whether a process may have missed a change since a time.
func (r *Record) DisturbedSince(process int, at time.Duration) bool {
	return r.befell(disturbs, process, at, r.Now()) || r.onDeadWatch(process, r.Now())
}

// onDeadWatch reports whether a process may have opened a watch before a time that etcd has never answered. It then hears of
// changes when it next compares what it knows with etcd, 8 s later at the most.
func (r *Record) onDeadWatch(process int, before time.Duration) bool {
	return slices.ContainsFunc(r.Plan.Steps, func(s schedule.Step) bool {
		return s.Kind == schedule.AnswersLost && s.Who == process && s.At < before && (s.Text == schedule.AnyMethod || s.Text == "Watch")
	})
}

// CutOff reports whether a life of a process that has begun at a time is cut off from etcd. One that began at the same instant may
// not be.
func (r *Record) CutOff(process int, begun time.Time) bool {
	now := r.Now()
	return slices.ContainsFunc(r.Plan.Steps, func(s schedule.Step) bool {
		return s.Kind == schedule.CutFromEtcd && s.Who == process && begun.Sub(r.Began) < s.At && s.At <= now && now < s.At+s.For
	})
}

// Full reports whether etcd has had no space at any time since one.
func (r *Record) Full(since time.Duration) bool {
	return r.Etcd.Full() || slices.ContainsFunc(r.Plan.Steps, func(s schedule.Step) bool {
		return s.Kind == schedule.NoSpace && s.At+s.For > since && s.At < r.Now()
	})
}

// NoSpace reports whether a step has etcd have no space now.
func (r *Record) NoSpace() bool {
	return slices.ContainsFunc(r.Plan.Steps, func(s schedule.Step) bool {
		return s.Kind == schedule.NoSpace && s.At <= r.Now() && r.Now() < s.At+s.For
	})
}

// ResetHidden reports whether etcd was last restored or wiped while a process had a connection to a member that was a black
// hole. Its client then does not tell it that the others were lost.
func (r *Record) ResetHidden(process int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.lastReset()
	at := last.Sub(r.Began)
	return !last.IsZero() && slices.ContainsFunc(r.Plan.Steps, func(s schedule.Step) bool {
		return s.Kind == schedule.StalledFromMember && s.Who == process && s.At <= at && at <= s.At+s.For+Aftermath
	})
}

// Unopened reports whether a member may have a watch that a process gave up before it was told that it is open, at a revision to come.
// Until somebody writes, etcd then answers no request for progress on the stream of that.
func (r *Record) Unopened(process int) bool {
	return slices.ContainsFunc(r.steps(), func(s schedule.Step) bool {
		stalled := s.Kind == schedule.StalledFromMember || s.Kind == schedule.StalledFromEtcd
		return stalled && s.Who == process && s.At <= r.Now() && len(r.Since(r.Began.Add(s.At+s.For))) == 0
	})
}

// Pardoned reports whether two may believe that they lead: a candidate was taken out of etcd by force, and its owner has not
// had to renew its lease since, or etcd was restored or wiped, and not all have heard of it.
func (r *Record) Pardoned() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.forced.IsZero() && time.Since(r.forced) < r.Plan.LeaseTTL() || r.lastReset().After(time.Now().Add(-HeardOfReset))
}
