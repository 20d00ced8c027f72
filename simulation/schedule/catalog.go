package schedule

import (
	"slices"
	"time"
)

// kind says how steps of a kind are drawn and described.
type kind struct {
	kind    Kind
	share   int           // how often it is drawn, relative to the others
	longest time.Duration // the longest For; 0: nothing is undone
	choose  chooser
	words   string // describe a step: see Words
}

// catalog holds every kind. Its order decides what a seed draws.
var catalog = slices.Concat(clusterKinds, requestKinds, networkKinds, operatorKinds, processKinds, regionKinds)

var clusterKinds = []kind{
	{MemberStops, 3, 10 * time.Second, aMember, "member {#who} stops for {for}"},
	{MemberIsolated, 3, 12 * time.Second, aMemberOfThree, "member {#who} is cut off from the others for {for}"},
	{QuorumLost, 2, 12 * time.Second, ofThree, "the quorum is lost for {for}"},
	{MemberLags, 3, 10 * time.Second, number(50, 4000, aMemberOfThree), "member {#who} lags by {ms} for {for}"},
	{LeaderChanges, 2, 0, aMemberOfThree, "member {#who} becomes the leader"},
	{Compaction, 4, 0, always, "etcd compacts its history"},
	{Restore, 3, 20 * time.Second, number(50, 2000, aBackup), "etcd is backed up, and restored from that{as} after {for}, the last {ms} of which it is down"},
	{Wipe, 1, 2 * time.Second, always, "etcd is down for {for}, and wiped meanwhile"},
	{NoSpace, 2, 8 * time.Second, always, "etcd has no space for {for}"},
	{RightsRefused, 7, 10 * time.Second, aRight, "{who} may not {text} for {for}"},
	{TokensExpire, 2, 0, withAuth, "all tokens expire"},
}

var requestKinds = []kind{
	{AnswersLost, 4, 6 * time.Second, aMethod, "for {for} etcd carries out the {text} requests of {who} and does not answer"},
	{AnswersLate, 4, 8 * time.Second, number(100, 8000, aMethod), "for {for} etcd answers the {text} requests of {who} after {ms}"},
	{RequestsLate, 5, 8 * time.Second, number(100, 8000, aMethod), "for {for} the {text} requests of {who} take effect after {ms}"},
	{RequestsFail, 3, 6 * time.Second, aRefusal, "for {for} the {text} requests of {who} are refused {because}"},
}

var networkKinds = []kind{
	{CutFromEtcd, 5, 30 * time.Second, aProcess, "{who} is cut off from etcd for {for}"},
	{StalledFromEtcd, 5, 20 * time.Second, aProcess, "etcd is a black hole to {who} for {for}"},
	{StalledFromMember, 3, 20 * time.Second, aMemberAndProcess, "member {#whom} is a black hole to {who} for {for}"},
	{SlowToEtcd, 3, 15 * time.Second, number(10, 1500, aProcess), "{who} has {ms} to etcd each way for {for}"},
	{ResetFromEtcd, 3, 0, aProcess, "the connections of {who} to etcd are reset"},
	{CutFromServer, 4, 10 * time.Second, aPair, "{who} is cut off from {whom} for {for}"},
	{StalledFromServer, 3, 15 * time.Second, aPair, "{whom} is a black hole to {who} for {for}"},
	{ResetFromServer, 2, 0, aPair, "the connections of {who} to {whom} are reset"},
	{SlowToServers, 6, 40 * time.Second, number(5, 200, aCaller), "{who} has {ms} to every server each way for {for}"},
}

var operatorKinds = []kind{
	{EntryDeleted, 4, 0, aServer, "an operator deletes the entry of {who}"},
	{EntriesDeleted, 1, 0, always, "an operator deletes all entries"},
	{EntryOverwritten, 3, 10 * time.Second, aServer, "an operator overwrites the entry of {who}, without a lease, for {for}"},
	{EntryReplaced, 3, 0, aServer, "an operator overwrites the entry of {who}, on its lease"},
	{LeaseRevoked, 4, 0, aServer, "an operator revokes the leases of {who}"},
	{EntryAddedBy, 1, 8 * time.Second, aProcessOfOurs, "{who} adds an entry that nobody serves for {for}"},
	{EntryAdded, 2, 15 * time.Second, always, "an operator adds an entry that nobody serves for {for}"},
	{BadEntryAdded, 2, 15 * time.Second, oneOf(badEntries), "an operator adds the entry {quoted} for {for}"},
	{NeighbourAdded, 1, 0, oneOf(neighbours), "an operator puts {quoted} beside"},
	{ConfigPut, 9, 0, aConfig, "an operator puts the live config {text}"},
	{ConfigDeleted, 2, 0, always, "an operator deletes the live config"},
	{BadConfigPut, 2, 0, oneOf(badConfigs), "an operator puts the bad live config {quoted}"},
}

var processKinds = []kind{
	{ServerKilled, 5, 12 * time.Second, number(0, 2, aServer), "{who} is killed, and starts {again} after {for}"},
	{ServerRestarts, 6, 10 * time.Second, number(0, 2, aNewVersion), "{who} stops in order, and starts {again} after {for}"},
	{ServerFails, 1, 10 * time.Second, aServing, "the listener of {who} fails, and it starts again after {for}"},
	{ServerPauses, 5, 10 * time.Second, aPause, "{who} leaves etcd{as} for {for}"},
	{ServerUpdates, 4, 0, number(1, 5, aRegistered), "{who} updates its weight to {n}"},
	{TwinStarts, 2, 12 * time.Second, aNamed, "another process takes the instance id of {who} for {for}"},
	{CallerRestarts, 3, 0, aCaller, "{who} restarts"},
	{CallerAlone, 1, 15 * time.Second, number(0, 2, withSnapshots), "{who} {ends}, starts again, and cannot reach etcd for {for}"},
	{CallerRefused, 1, 8 * time.Second, aCallerWithout, "{who} restarts, and may not {text} for {for}"},
	{DiskFails, 1, 20 * time.Second, withSnapshots, "the snapshot directory of {who} is gone for {for}"},
	{DiskDamaged, 1, 0, withSnapshots, "the snapshots of {who} are damaged"},
	{CallerIdles, 2, 12 * time.Second, aCaller, "{who} makes no calls for {for}"},
	{WriterDies, 3, 12 * time.Second, aWriter, "{who} is killed, and starts again after {for}"},
}

// find returns the kind's entry in the catalog, nil if there is none.
func find(k Kind) *kind {
	if i := slices.IndexFunc(catalog, func(known kind) bool { return known.kind == k }); i >= 0 {
		return &catalog[i]
	}
	return nil
}
