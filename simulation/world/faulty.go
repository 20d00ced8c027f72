package world

import (
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

// triedAgain is how long after a refusal at most a process asks again.
const triedAgain = 65 * time.Second

// hampered reports whether there is a fault on a process's way to etcd, or was one not long ago.
func (w *World) hampered(process int) bool {
	now := time.Since(w.began)
	for _, s := range w.plan.Steps {
		after, ok := toAll[s.Kind]
		if !ok && s.Who == process {
			after, ok = toOne[s.Kind]
		}
		if ok && s.At <= now && now < s.At+s.For+after {
			return true
		}
	}
	return false
}
