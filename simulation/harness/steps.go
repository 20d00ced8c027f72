package harness

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// faults holds one for every kind of step.
var faults = map[schedule.Kind]fault{
	schedule.MemberStops: lasts(func(t *trial, s schedule.Step) func() {
		t.stopMember(s.Who)
		return func() { t.startMember(s.Who) }
	}),
	schedule.MemberIsolated: lasts(func(t *trial, s schedule.Step) func() { return t.isolate(s.Who) }),
	schedule.QuorumLost: lasts(func(t *trial, _ schedule.Step) func() {
		var members []int
		for i := range t.plan.Members {
			members = append(members, i)
		}
		return t.isolate(members...)
	}),
	schedule.MemberLags: lasts(func(t *trial, s schedule.Step) func() {
		t.etcd.Lag(s.Who, s.Milliseconds())
		return func() { t.etcd.Lag(s.Who, 0) }
	}),
	schedule.LeaderChanges: once(func(t *trial, s schedule.Step) { t.etcd.Elect(s.Who) }),
	schedule.Compaction:    once(func(t *trial, _ schedule.Step) { t.operated(t.etcd.Compact()) }),
	schedule.Restore:       once((*trial).restore),
	schedule.Wipe:          once(func(t *trial, s schedule.Step) { t.reset(s.For, t.etcd.Wipe, true) }),
	schedule.NoSpace: lasts(func(t *trial, _ schedule.Step) func() {
		t.operated(t.etcd.Alarm(true))
		return func() { t.operated(t.etcd.Alarm(false)) }
	}),
	schedule.RightsRefused: lasts(func(t *trial, s schedule.Step) func() { return t.rights.refuse(s.Who, s.Text) }),
	schedule.TokensExpire:  once(func(t *trial, _ schedule.Step) { t.operated(t.etcd.ExpireTokens()) }),

	schedule.AnswersLost:  meddle(func(schedule.Step) etcd.Verdict { return etcd.Verdict{Lose: true} }),
	schedule.AnswersLate:  meddle(func(s schedule.Step) etcd.Verdict { return etcd.Verdict{After: s.Milliseconds()} }),
	schedule.RequestsLate: meddle(func(s schedule.Step) etcd.Verdict { return etcd.Verdict{Before: s.Milliseconds()} }),
	schedule.RequestsFail: meddle(func(s schedule.Step) etcd.Verdict {
		if s.N == schedule.Busy {
			return etcd.Verdict{Busy: true}
		}
		return etcd.Verdict{Err: status.Error(codes.Unavailable, "etcdserver: leader changed")}
	}),

	schedule.CutFromEtcd:       fromEtcd(func(schedule.Step) network.Link { return network.Link{Cut: true} }),
	schedule.StalledFromEtcd:   fromEtcd(func(schedule.Step) network.Link { return network.Link{Stalled: true} }),
	schedule.SlowToEtcd:        fromEtcd(func(s schedule.Step) network.Link { return network.Link{Delay: s.Milliseconds()} }),
	schedule.StalledFromMember: lasts((*trial).stalledFromMember),
	schedule.ResetFromEtcd:     once((*trial).resetFromEtcd),
	schedule.CutFromServer:     fromServer(network.Link{Cut: true}),
	schedule.StalledFromServer: fromServer(network.Link{Stalled: true}),
	schedule.ResetFromServer:   once((*trial).resetFromServer),
	schedule.SlowToServers:     lasts((*trial).slowToServers),

	schedule.EntryDeleted:     onEntries(func(t *trial, e etcd.Entry) { t.operated(t.etcd.Delete(e.Key)) }),
	schedule.EntriesDeleted:   once(func(t *trial, _ schedule.Step) { t.operated(t.etcd.DeletePrefix(acme.ShopKey + "/")) }),
	schedule.EntryOverwritten: lasts((*trial).entryOverwritten),
	schedule.EntryReplaced:    onEntries(func(t *trial, e etcd.Entry) { t.put(e.Key, acme.Nobody, etcd.SameLease) }),
	schedule.LeaseRevoked:     onEntries((*trial).revoke),
	schedule.EntryAdded:       lasts((*trial).entryAdded),
	schedule.EntryAddedBy: func(t *trial, ctx context.Context, s schedule.Step) {
		t.entryAddedBy(ctx, t.process(s.Who), s.For)
	},
	schedule.BadEntryAdded: lasts(func(t *trial, s schedule.Step) func() {
		t.put(acme.BadKey, s.Text, acme.NoLease)
		return func() { t.operated(t.etcd.Delete(acme.BadKey)) }
	}),
	schedule.NeighbourAdded: once(func(t *trial, s schedule.Step) { t.put(s.Text, acme.Nobody, acme.NoLease) }),
	schedule.ConfigPut:      once(func(t *trial, s schedule.Step) { t.put(acme.ConfigKey, s.Text, acme.NoLease) }),
	schedule.ConfigDeleted:  once(func(t *trial, _ schedule.Step) { t.operated(t.etcd.Delete(acme.ConfigKey)) }),
	schedule.BadConfigPut:   once(func(t *trial, s schedule.Step) { t.put(acme.ConfigKey, s.Text, acme.NoLease) }),

	schedule.ServerKilled: func(t *trial, ctx context.Context, s schedule.Step) {
		t.servers[s.Who].kill()
		t.startAgain(ctx, s)
	},
	schedule.ServerRestarts: func(t *trial, ctx context.Context, s schedule.Step) {
		t.servers[s.Who].stop(ctx)
		t.startAgain(ctx, s)
	},
	schedule.ServerFails: func(t *trial, ctx context.Context, s schedule.Step) {
		t.servers[s.Who].fail(ctx)
		t.startAgain(ctx, s)
	},
	schedule.ServerPauses:  func(t *trial, ctx context.Context, s schedule.Step) { t.servers[s.Who].pause(ctx, s) },
	schedule.ServerUpdates: func(t *trial, ctx context.Context, s schedule.Step) { t.servers[s.Who].update(ctx, uint32(s.N)) },
	schedule.TwinStarts: func(t *trial, ctx context.Context, s schedule.Step) { // under the instance id of a server
		t.twins[s.Who].start(ctx)
		time.Sleep(s.For)
		t.twins[s.Who].stop(ctx)
	},
	schedule.CallerRestarts: func(t *trial, ctx context.Context, s schedule.Step) {
		t.caller(s.Who).stop(ctx)
		t.caller(s.Who).start(ctx)
	},
	schedule.CallerAlone: func(t *trial, ctx context.Context, s schedule.Step) {
		t.caller(s.Who).startsAlone(ctx, s.For, s.N == 1)
	},
	schedule.CallerRefused: func(t *trial, ctx context.Context, s schedule.Step) {
		t.caller(s.Who).startsRefused(ctx, t.rights, s)
	},
	schedule.DiskFails:   lasts((*trial).diskFails),
	schedule.DiskDamaged: once(func(t *trial, s schedule.Step) { t.caller(s.Who).do(t.caller(s.Who).snapshots.damage) }),
	schedule.CallerIdles: lasts(func(t *trial, s schedule.Step) func() {
		t.caller(s.Who).idle.Store(true)
		return func() { t.caller(s.Who).idle.Store(false) }
	}),
	schedule.HomeGoes:        (*trial).homeGoes,
	schedule.CutFromAway:     fromAway(network.Link{Cut: true}),
	schedule.StalledFromAway: fromAway(network.Link{Stalled: true}),
	schedule.WriterDies: func(t *trial, ctx context.Context, s schedule.Step) {
		t.writer(s.Who).kill()
		time.Sleep(s.For)
		t.writer(s.Who).start(ctx)
	},
}

// isolate cuts members of etcd off from each other.
func (t *trial) isolate(members ...int) (end func()) {
	set := func(on bool) {
		for _, i := range members {
			t.etcd.Isolate(i, on)
		}
	}
	set(true)
	return func() { set(false) }
}

// restore restores a backup that is made as the step begins.
func (t *trial) restore(s schedule.Step) {
	backup, err := t.etcd.Backup()
	if err != nil {
		return // another step is about to put etcd back
	}
	time.Sleep(s.For - s.Milliseconds())
	asNew, by := s.Text != "", uint64(0)
	if s.Text == schedule.Bumped {
		by = bump
	}
	t.reset(s.Milliseconds(), func() error { return t.etcd.Restore(backup, asNew, by) }, by == 0)
	t.operated(t.etcd.Alarm(t.noSpace())) // whatever it was when the backup was made
}

// noSpace reports whether a step has etcd have no space now.
func (t *trial) noSpace() bool {
	return slices.ContainsFunc(t.plan.Steps, func(s schedule.Step) bool {
		return s.Kind == schedule.NoSpace && s.At <= t.now() && t.now() < s.At+s.For
	})
}

// bump is more revisions than a world ever has.
const bump = 1_000_000

// meddle has requests of a process meet with a verdict.
func meddle(verdict func(schedule.Step) etcd.Verdict) fault {
	return lasts(func(t *trial, s schedule.Step) func() { return t.requests.add(s.Who, s.Text, verdict(s)) })
}

// startAgain starts a server that has ended, changed as the step says.
func (t *trial) startAgain(ctx context.Context, s schedule.Step) {
	time.Sleep(s.For)
	server := t.servers[s.Who]
	server.do(func() {
		if s.N == 1 {
			server.port++
		}
		switch s.Text {
		case schedule.WithNewer:
			server.spec.Newer = true
		case schedule.WithoutNewer:
			server.spec.Newer = false
		}
	})
	server.start(ctx)
}

// The faults of links disturb those of one life. If that life ends meanwhile, it is off the network for good, and the next one
// has healthy links.

// fromEtcd changes the links of a process to all members.
func fromEtcd(link func(schedule.Step) network.Link) fault {
	return lasts(func(t *trial, s schedule.Step) func() {
		_, from := t.process(s.Who).current()
		set := func(l network.Link) {
			t.process(s.Who).setLine(from, l)
		}
		set(link(s))
		return func() { set(network.Link{}) }
	})
}

func (t *trial) stalledFromMember(s schedule.Step) (end func()) {
	_, from := t.process(s.Who).current()
	t.setLink(from, s.Whom, network.Link{Stalled: true})
	return func() { t.setLink(from, s.Whom, network.Link{}) }
}

func (t *trial) resetFromEtcd(s schedule.Step) {
	_, from := t.process(s.Who).current()
	for i := range t.plan.Members {
		t.network.Reset(from, t.plan.MemberHost(i))
	}
}

// fromServer changes the link between a caller and a server.
func fromServer(link network.Link) fault {
	return lasts(func(t *trial, s schedule.Step) func() {
		p := t.process(s.Who)
		_, from := p.current()
		set := func(l network.Link) {
			p.noteLink(from, s.Whom, check.Link{Broken: l.Cut || l.Stalled})
			t.network.Set(from, t.plan.Host(s.Whom), l)
		}
		set(link)
		return func() { set(network.Link{}) }
	})
}

func (t *trial) resetFromServer(s schedule.Step) {
	p := t.process(s.Who)
	_, from := p.current()
	p.noteLink(from, s.Whom, check.Link{Reset: true})
	t.network.Reset(from, t.plan.Host(s.Whom))
}

func (t *trial) slowToServers(s schedule.Step) (end func()) {
	p := t.process(s.Who)
	_, from := p.current()
	p.setLinks(from, network.Link{Delay: s.Milliseconds()})
	return func() { p.setLinks(from, network.Link{}) }
}
