package world

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

const (
	// promptly is how soon a caller that can reach etcd hears of a change.
	promptly = 2500 * time.Millisecond
	// aftermath is how long a fault on the way to etcd excuses processes after it has ended, and shortly how long one does that
	// they notice at once.
	aftermath = 6 * time.Second
	shortly   = 3 * time.Second
)

// soon checks, a while from now, that every caller whose way to etcd was not disturbed has heard of a change.
func (w *World) soon(change string, heard func(runtime.KeyStatus) bool) {
	lives := make([]int, len(w.callers))
	for i, c := range w.callers {
		lives[i], _ = c.current()
	}
	at := time.Since(w.began)
	w.ghosts.Go(func() {
		time.Sleep(promptly)
		for i, c := range w.callers {
			registry := c.running()
			if life, _ := c.current(); registry == nil || life != lives[i] || w.disturbed(c.index, at) {
				continue
			}
			if status := keyStatus(registry, shopKey); !heard(status) {
				w.report(check.Late, "%s has not heard after %v that %s: it knows %v and %q", c.name(), promptly, change, addrsOf(status.Endpoints),
					status.ServiceConfig)
			}
		}
	})
}

// What disturbs the way to etcd of all callers, or of the one that the step names. A new leader does not: watches go on.
var (
	disturbAll = aftermaths{
		schedule.MemberStops: shortly, schedule.MemberIsolated: shortly, schedule.QuorumLost: shortly, schedule.MemberLags: shortly,
		schedule.Restore: aftermath, schedule.Wipe: aftermath, schedule.TokensExpire: shortly,
	}
	disturbOne = aftermaths{
		schedule.RightsRefused: aftermath, schedule.AnswersLost: aftermath, schedule.AnswersLate: aftermath, schedule.RequestsLate: aftermath,
		schedule.RequestsFail: shortly, schedule.CutFromEtcd: shortly, schedule.StalledFromEtcd: aftermath,
		schedule.StalledFromMember: aftermath, schedule.SlowToEtcd: shortly, schedule.ResetFromEtcd: shortly, schedule.CallerRestarts: shortly,
	}
)

// disturbed reports whether a process may have missed a change made at a time.
func (w *World) disturbed(process int, at time.Duration) bool {
	return w.faulty(process, at, at+promptly, disturbAll, disturbOne) || w.onDeadWatch(process, at+promptly)
}

// onDeadWatch reports whether a process may have opened a watch before a time that etcd has never answered. It then hears of
// changes when it next compares what it knows with etcd, 8 s later at the most.
func (w *World) onDeadWatch(process int, before time.Duration) bool {
	return slices.ContainsFunc(w.plan.Steps, func(s schedule.Step) bool {
		return s.Kind == schedule.AnswersLost && s.Who == process && s.At < before && (s.Text == schedule.AnyMethod || s.Text == "Watch")
	})
}

// quiet reports whether neither the live config has changed lately nor all of etcd.
func (w *World) quiet() bool {
	for _, c := range w.since(time.Now().Add(-promptly)) {
		if strings.HasPrefix(c.Key, configs) {
			return false
		}
	}
	return !w.resetSince(time.Now().Add(-aftermath))
}

// inForce reports whether callers are to use a live service config, given what etcd has. They keep what they have while that is
// bad.
func (w *World) inForce(config string) bool {
	live, ok := w.etcd.Get(configKey)
	if !ok {
		return config == ""
	}
	return schedule.BadConfig(live.Value) || holds(config, live.Value)
}

// holds reports whether a service config holds all that another says: the one in force has the defaults filled in.
func holds(config, said string) bool {
	var have, want any
	if json.Unmarshal([]byte(config), &have) != nil || json.Unmarshal([]byte(said), &want) != nil {
		return false
	}
	return includes(have, want)
}

func includes(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		fields, ok := have.(map[string]any)
		for name, value := range want {
			ok = ok && includes(fields[name], value)
		}
		return ok
	case []any:
		list, ok := have.([]any)
		ok = ok && len(list) == len(want)
		for i := range want {
			ok = ok && includes(list[i], want[i])
		}
		return ok
	default:
		return have == want
	}
}
