package world

import (
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// aftermaths hold by kind how long after a fault on its way to etcd a process may be behind.
type aftermaths map[schedule.Kind]time.Duration

// Those that befall all processes, and those that befall the one that the step names.
var (
	toAll = aftermaths{
		schedule.MemberStops: aftermath, schedule.MemberIsolated: aftermath, schedule.QuorumLost: aftermath, schedule.MemberLags: aftermath,
		schedule.LeaderChanges: aftermath, schedule.TokensExpire: aftermath,
		schedule.Restore: heardOfReset, schedule.Wipe: heardOfReset,
	}
	toOne = aftermaths{
		schedule.AnswersLost: aftermath, schedule.AnswersLate: aftermath, schedule.RequestsLate: aftermath, schedule.RequestsFail: aftermath,
		schedule.CutFromEtcd: aftermath, schedule.StalledFromEtcd: aftermath, schedule.StalledFromMember: aftermath,
		schedule.SlowToEtcd: aftermath, schedule.ResetFromEtcd: aftermath, schedule.RightsRefused: triedAgain,
	}
)

// late are those that may have a process hear late of what etcd has done.
var late = aftermaths{
	schedule.AnswersLate: aftermath, schedule.RequestsLate: aftermath, schedule.SlowToEtcd: aftermath,
	schedule.StalledFromEtcd: aftermath, schedule.StalledFromMember: aftermath,
}

// triedAgain is how long after a refusal at most a process asks again.
const triedAgain = 65 * time.Second

// leaderless are the faults that may leave members without a leader for a while. etcd's client then waits for a token until
// the member gives up, and nothing else goes on meanwhile.
var leaderless = []schedule.Kind{schedule.MemberStops, schedule.MemberIsolated, schedule.QuorumLost}

// tokenTimeout is how long that takes, and what follows it.
const tokenTimeout = 8 * time.Second

// hampered reports whether there is a fault on a process's way to etcd, or was one not long ago.
func (w *World) hampered(process int) bool {
	now := time.Since(w.began)
	return w.faulty(process, now, now, toAll, toOne)
}

// hearsLate reports whether a process may hear late, or may lately have heard late, of what etcd has done.
func (w *World) hearsLate(process int) bool {
	now := time.Since(w.began)
	return w.faulty(process, now, now, aftermaths{schedule.MemberLags: aftermath}, late)
}

// faulty reports whether there was a fault, or the aftermath of one, for a process at any time between two.
func (w *World) faulty(process int, from, to time.Duration, toAll, toOne aftermaths) bool {
	return slices.ContainsFunc(w.plan.Steps, func(s schedule.Step) bool {
		after, ok := toAll[s.Kind]
		if !ok && s.Who == process {
			after, ok = toOne[s.Kind]
		}
		if w.plan.Auth && slices.Contains(leaderless, s.Kind) {
			after = max(after, tokenTimeout)
		}
		return ok && s.At <= to && from < s.At+s.For+after
	})
}
