package world

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// fault carries a step out, and returns when it is over.
type fault func(w *World, ctx context.Context, step schedule.Step)

// faults holds one for every kind of step.
var faults = map[schedule.Kind]fault{
	schedule.MemberStops:    (*World).memberStops,
	schedule.MemberIsolated: (*World).memberIsolated,
	schedule.QuorumLost:     (*World).quorumLost,
	schedule.MemberLags:     (*World).memberLags,
	schedule.LeaderChanges:  func(w *World, _ context.Context, s schedule.Step) { w.etcd.Elect(s.Who) },
	schedule.Compaction:     func(w *World, _ context.Context, _ schedule.Step) { w.etcd.Compact() },
	schedule.Restore:        (*World).restore,
	schedule.Wipe:           func(w *World, _ context.Context, s schedule.Step) { w.reset(s.For, w.etcd.Wipe) },
	schedule.NoSpace:        (*World).noSpace,
	schedule.RightsRefused:  (*World).rightsRefused,
	schedule.TokensExpire:   func(w *World, _ context.Context, _ schedule.Step) { w.etcd.ExpireTokens() },

	schedule.AnswersLost:  requests(func(schedule.Step) etcd.Verdict { return etcd.Verdict{Lose: true} }),
	schedule.AnswersLate:  requests(func(s schedule.Step) etcd.Verdict { return etcd.Verdict{After: s.Milliseconds()} }),
	schedule.RequestsLate: requests(func(s schedule.Step) etcd.Verdict { return etcd.Verdict{Before: s.Milliseconds()} }),
	schedule.RequestsFail: requests(func(schedule.Step) etcd.Verdict {
		return etcd.Verdict{Err: status.Error(codes.Unavailable, "etcdserver: leader changed")}
	}),

	schedule.CutFromEtcd:       fromEtcd(func(schedule.Step) network.Link { return network.Link{Cut: true} }),
	schedule.StalledFromEtcd:   fromEtcd(func(schedule.Step) network.Link { return network.Link{Stalled: true} }),
	schedule.SlowToEtcd:        fromEtcd(func(s schedule.Step) network.Link { return network.Link{Delay: s.Milliseconds()} }),
	schedule.StalledFromMember: (*World).stalledFromMember,
	schedule.ResetFromEtcd:     (*World).resetFromEtcd,
	schedule.CutFromServer:     fromServer(network.Link{Cut: true}),
	schedule.StalledFromServer: fromServer(network.Link{Stalled: true}),
	schedule.ResetFromServer:   (*World).resetFromServer,
	schedule.SlowToServers:     (*World).slowToServers,

	schedule.EntryDeleted:     onEntries(func(w *World, e etcd.Entry) { w.etcd.Delete(e.Key) }),
	schedule.EntriesDeleted:   func(w *World, _ context.Context, _ schedule.Step) { w.etcd.DeletePrefix(shopKey + "/") },
	schedule.EntryOverwritten: (*World).entryOverwritten,
	schedule.EntryReplaced:    onEntries(func(w *World, e etcd.Entry) { w.put(e.Key, nobody, etcd.SameLease) }),
	schedule.LeaseRevoked:     onEntries((*World).revoke),
	schedule.EntryAdded:       (*World).entryAdded,
	schedule.BadEntryAdded:    (*World).badEntryAdded,
	schedule.NeighbourAdded:   func(w *World, _ context.Context, s schedule.Step) { w.put(s.Text, nobody, noLease) },
	schedule.ConfigPut:        (*World).configPut,
	schedule.ConfigDeleted:    (*World).configDeleted,
	schedule.BadConfigPut:     func(w *World, _ context.Context, s schedule.Step) { w.put(configKey, s.Text, noLease) },

	schedule.ServerKilled:   (*World).serverKilled,
	schedule.ServerRestarts: (*World).serverRestarts,
	schedule.ServerPauses:   func(w *World, ctx context.Context, s schedule.Step) { w.servers[s.Who].pause(ctx, s.For) },
	schedule.ServerUpdates:  func(w *World, ctx context.Context, s schedule.Step) { w.servers[s.Who].update(ctx, uint32(s.N)) },
	schedule.TwinStarts:     (*World).twinStarts,
	schedule.CallerRestarts: (*World).callerRestarts,
	schedule.CallerIdles:    func(w *World, _ context.Context, s schedule.Step) { w.caller(s.Who).rest(s.For) },
	schedule.WriterDies:     (*World).writerDies,
}
