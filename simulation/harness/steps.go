package harness

import (
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// fault begins a step, and returns a function that ends the step after its
// time, or nil if the step is over.
type fault func(w *world, s schedule.Step) (end func())

// happen carries out a step.
func (w *world) happen(s schedule.Step) {
	w.note("%s", w.schedule.Words(s))

	if end := faults[s.Kind](w, s); end != nil {
		time.Sleep(s.For)
		end()
	}
}

// faults holds a fault for each kind of step. init fills the map, because one
// of the faults refers to it.
var faults map[schedule.Kind]fault

func init() {
	faults = map[schedule.Kind]fault{
		schedule.MemberStops: func(w *world, s schedule.Step) func() {
			return w.stopMember(s.Who)
		},
		schedule.MemberIsolated: during(func(w *world, s schedule.Step, on bool) {
			w.etcd.Isolate(s.Who, on)
		}),
		schedule.QuorumLost: during(func(w *world, _ schedule.Step, on bool) {
			for i := range w.schedule.Members {
				w.etcd.Isolate(i, on)
			}
		}),
		schedule.MemberLags: func(w *world, s schedule.Step) func() {
			w.etcd.Lag(s.Who, s.Milliseconds())
			return func() { w.etcd.Lag(s.Who, 0) }
		},
		schedule.LeaderChanges: once(func(w *world, s schedule.Step) {
			w.etcd.Elect(s.Who)
		}),
		schedule.Compaction: operates((*etcd.Cluster).Compact),
		schedule.Restore:    once((*world).restore),
		schedule.Wipe: once(func(w *world, s schedule.Step) {
			w.reset(s.For, w.etcd.Wipe, true)
		}),
		schedule.NoSpace: during(func(w *world, _ schedule.Step, on bool) {
			w.operated(w.etcd.Alarm(on))
		}),
		schedule.RightsRefused: func(w *world, s schedule.Step) func() {
			return w.refuse(s.Who, s.Text)
		},
		schedule.TokensExpire: operates((*etcd.Cluster).ExpireTokens),

		schedule.AnswersLost: meddle(func(schedule.Step) etcd.Verdict {
			return etcd.Verdict{Lose: true}
		}),
		schedule.AnswersLate: meddle(func(s schedule.Step) etcd.Verdict {
			return etcd.Verdict{After: s.Milliseconds()}
		}),
		schedule.RequestsLate: meddle(func(s schedule.Step) etcd.Verdict {
			return etcd.Verdict{Before: s.Milliseconds()}
		}),
		schedule.RequestsFail: meddle(func(s schedule.Step) etcd.Verdict {
			if s.N == schedule.Busy {
				// on the wire it has the code Unknown
				return etcd.Verdict{Err: rpctypes.ErrTooManyRequests}
			}

			return etcd.Verdict{
				Err: status.Error(codes.Unavailable, "etcdserver: leader changed"),
			}
		}),

		schedule.CutFromEtcd:       links((*world).toEtcd, cut),
		schedule.StalledFromEtcd:   links((*world).toEtcd, stalled),
		schedule.SlowToEtcd:        links((*world).toEtcd, slow),
		schedule.StalledFromMember: links((*world).toMember, stalled),
		schedule.ResetFromEtcd: once(func(w *world, s schedule.Step) {
			_, from := w.processes[s.Who].current()
			for i := range w.schedule.Members {
				w.network.Reset(from, w.schedule.MemberHost(i))
			}
		}),
		schedule.CutFromServer:     links((*world).toServer, cut),
		schedule.StalledFromServer: links((*world).toServer, stalled),
		schedule.ResetFromServer: once(func(w *world, s schedule.Step) {
			p := w.processes[s.Who]
			_, from := p.current()
			p.noteLink(from, s.Whom, check.Link{Reset: true})
			w.network.Reset(from, w.schedule.Host(s.Whom))
		}),
		schedule.SlowToServers:   links((*world).toServers, slow),
		schedule.CutFromAway:     links((*world).toAway, cut),
		schedule.StalledFromAway: links((*world).toAway, stalled),

		schedule.EntryDeleted: onEntries(func(w *world, e etcd.Entry) {
			w.operated(w.etcd.Delete(e.Key))
		}),
		schedule.EntriesDeleted: operates(func(c *etcd.Cluster) error {
			return c.DeletePrefix(fixtures.ShopKey + "/")
		}),
		schedule.EntryOverwritten: (*world).entryOverwritten,
		schedule.EntryReplaced: onEntries(func(w *world, e etcd.Entry) {
			w.put(e.Key, fixtures.Nobody, etcd.SameLease)
		}),
		schedule.LeaseRevoked: onEntries(func(w *world, e etcd.Entry) {
			w.record(func(h *check.History) { h.Forced = append(h.Forced, time.Now()) })
			w.operated(w.etcd.Revoke(e.Lease))
		}),
		schedule.EntryAdded: func(w *world, _ schedule.Step) func() {
			return w.add(fixtures.NobodyKey, fixtures.Nobody)
		},
		schedule.BadEntryAdded: func(w *world, s schedule.Step) func() {
			return w.add(fixtures.BadKey, s.Text)
		},
		schedule.NeighbourAdded: once(func(w *world, s schedule.Step) {
			w.put(s.Text, fixtures.Nobody, fixtures.NoLease)
		}),
		schedule.ConfigPut: once((*world).putConfig),
		schedule.ConfigDeleted: operates(func(c *etcd.Cluster) error {
			return c.Delete(fixtures.ConfigKey)
		}),
		schedule.BadConfigPut: once((*world).putConfig),

		schedule.ServerKilled:   restarts((*server).kill),
		schedule.ServerRestarts: restarts(func(s *server) { s.stop(false) }),
		schedule.ServerFails:    restarts(func(s *server) { s.stop(true) }),
		schedule.ServerPauses: once(func(w *world, s schedule.Step) {
			w.servers[s.Who].pause(s.For, s.Text == schedule.ForGood)
		}),
		schedule.ServerUpdates: once(func(w *world, s schedule.Step) {
			w.servers[s.Who].update(uint32(s.N))
		}),
		// the twin has the instance id of a server
		schedule.TwinStarts: func(w *world, s schedule.Step) func() {
			twin := w.twins[s.Who]
			twin.start()

			return func() { twin.stop(false) }
		},
		schedule.CallerRestarts: onCaller(func(c *caller, _ schedule.Step) {
			c.stop(false)
			c.start(false)
		}),
		schedule.CallerAlone: onCaller(func(c *caller, s schedule.Step) {
			c.stop(s.N == 1)
			c.startAlone(s.For)
		}),
		schedule.CallerRefused: func(w *world, s schedule.Step) func() {
			c := w.caller(s.Who)
			c.stop(false)
			restore := w.refuse(s.Who, s.Text)
			c.start(false)

			return restore
		},
		schedule.DiskFails: func(w *world, s schedule.Step) func() {
			c := w.caller(s.Who)
			var back func()
			c.do(func() { back = c.snapshots.fail() })

			return func() { c.do(back) }
		},
		schedule.DiskDamaged: onCaller(func(c *caller, _ schedule.Step) {
			c.do(c.snapshots.damage)
		}),
		schedule.CallerIdles: during(func(w *world, s schedule.Step, on bool) {
			w.caller(s.Who).idle.Store(on)
		}),
		schedule.HomeGoes: once((*world).homeGoes),
		schedule.WriterDies: func(w *world, s schedule.Step) func() {
			o := w.writer(s.Who)
			o.kill()

			return o.start
		},
	}
}

// once returns a fault that only calls do, and is then over.
func once(do func(*world, schedule.Step)) fault {
	return func(w *world, s schedule.Step) func() {
		do(w, s)
		return nil
	}
}

// onCaller returns a fault that calls do with the caller of the step.
func onCaller(do func(*caller, schedule.Step)) fault {
	return once(func(w *world, s schedule.Step) { do(w.caller(s.Who), s) })
}

// during returns a fault that set turns on, and off after the time of the step.
func during(set func(w *world, s schedule.Step, on bool)) fault {
	return func(w *world, s schedule.Step) func() {
		set(w, s, true)
		return func() { set(w, s, false) }
	}
}

// restore restores a backup made at the start of the step.
func (w *world) restore(s schedule.Step) {
	backup, err := w.etcd.Backup()
	if err != nil {
		return // another step is about to restore etcd
	}

	time.Sleep(s.For - s.Milliseconds())

	by := uint64(0)
	if s.Text == schedule.Bumped {
		// The time in ns exceeds the number of revisions. It also exceeds the
		// bump of an earlier restore, whose backup may be newer than this one.
		by = uint64(w.now())
	}

	restore := func() error { return w.etcd.Restore(backup, s.Text != "", by) }
	w.reset(s.Milliseconds(), restore, by == 0)

	noSpace := slices.ContainsFunc(w.schedule.Steps, func(s schedule.Step) bool {
		return s.Kind == schedule.NoSpace && s.At <= w.now() && w.now() < s.At+s.For
	})
	w.operated(w.etcd.Alarm(noSpace)) // the backup may have the alarm in another state
}

// meddle returns a fault that applies a verdict to requests of a process.
func meddle(verdict func(schedule.Step) etcd.Verdict) fault {
	return func(w *world, s schedule.Step) func() {
		return w.addRule(s.Who, s.Text, verdict(s))
	}
}

// restarts returns a fault that stops a server, and then starts the server with
// the changes of the step.
func restarts(stop func(*server)) fault {
	return func(w *world, s schedule.Step) func() {
		server := w.servers[s.Who]
		stop(server)

		change := func() {
			if s.N == 1 {
				server.port++
			}

			if s.Text != "" {
				server.spec.Newer = s.Text == schedule.WithNewer
			}
		}

		return func() {
			server.do(change)
			server.start()
		}
	}
}

// homeGoes withdraws, stops or kills all servers at the same time. After the
// time of the step they are back.
func (w *world) homeGoes(s schedule.Step) {
	kinds := []schedule.Kind{
		schedule.HomeWithdraws: schedule.ServerPauses,
		schedule.HomeStops:     schedule.ServerRestarts,
		schedule.HomeIsKilled:  schedule.ServerKilled,
	}

	var all sync.WaitGroup
	for i := range w.servers {
		all.Go(func() { w.happen(schedule.Step{Kind: kinds[s.N], Who: i, For: s.For}) })
	}

	all.Wait()
}

// links returns a fault that changes links of the present incarnation of a
// process. The next incarnation has whole links.
func links(
	set func(w *world, s schedule.Step, from string, l network.Link),
	to func(schedule.Step) network.Link,
) fault {
	return func(w *world, s schedule.Step) func() {
		_, from := w.processes[s.Who].current()
		set(w, s, from, to(s))

		return func() { set(w, s, from, network.Link{}) }
	}
}

// States of links.

func cut(schedule.Step) network.Link {
	return network.Link{Cut: true}
}

func stalled(schedule.Step) network.Link {
	return network.Link{Stalled: true}
}

func slow(s schedule.Step) network.Link {
	return network.Link{Delay: s.Milliseconds()}
}

// The links that steps change.

func (w *world) toEtcd(_ schedule.Step, from string, l network.Link) {
	w.setLine(from, l)
}

func (w *world) toMember(s schedule.Step, from string, l network.Link) {
	w.setLink(from, s.Whom, l)
}

func (w *world) toAway(_ schedule.Step, from string, l network.Link) {
	w.other.setLine(from, l)
}

func (w *world) toServers(s schedule.Step, from string, l network.Link) {
	w.processes[s.Who].setLinks(from, l)
}

func (w *world) toServer(s schedule.Step, from string, l network.Link) {
	w.processes[s.Who].setLink(from, s.Whom, l)
}
