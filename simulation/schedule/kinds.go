package schedule

import (
	"cmp"
	"slices"
	"time"
)

// Kind is a kind of step.
type Kind string

// kind defines how steps of a kind are drawn and described.
type kind struct {
	kind    Kind
	share   int           // relative frequency
	longest time.Duration // the longest For; 0 if the step has no end
	choose  chooser
	words   string // describes a step, see Words
}

// catalog holds every kind, sorted by name. The order decides which steps a
// seed draws.
var catalog []kind

// add adds a kind to the catalog. seconds bounds the duration of its steps, to
// which shortest is added; 0 means that the steps have no end.
func add(name Kind, share, seconds int, choose chooser, words string) Kind {
	catalog = append(catalog,
		kind{name, share, time.Duration(seconds) * time.Second, choose, words})
	return name
}

// shares holds every kind as often as its share says.
var shares []kind

// The kinds are initialized in an order that may change, so they are sorted.
func init() {
	slices.SortFunc(catalog, func(a, b kind) int { return cmp.Compare(a.kind, b.kind) })

	for _, k := range catalog {
		shares = append(shares, slices.Repeat([]kind{k}, k.share)...)
	}
}

// The kinds. Steps with an end last for Step.For.
var (
	// The cluster.
	MemberStops    = add("member stops", 3, 10, aMember, "member {#who} stops for {for}")
	MemberIsolated = add("member isolated", 3, 12, all(ofThree, aMember),
		"member {#who} is cut off from the others for {for}")

	QuorumLost = add("quorum lost", 2, 12, ofThree, "the quorum is lost for {for}")
	MemberLags = add("member lags", 3, 10, all(number(50, 4000), ofThree, aMember),
		"member {#who} lags by {ms} for {for}")

	LeaderChanges = add("leader changes", 2, 0, all(ofThree, aMember),
		"member {#who} becomes the leader")

	Compaction = add("compaction", 4, 0, always, "etcd compacts its history")
	Restore    = add("restore", 3, 20, all(number(50, 2000), aBackup),
		"etcd is backed up, and restored from that {text} after {for}, the last {ms} of which it is down")

	Wipe = add("wipe", 1, 2, always, "etcd is down for {for}, and wiped meanwhile")

	NoSpace       = add("no space", 2, 8, always, "etcd has no space for {for}")
	RightsRefused = add("rights refused", 7, 10, aRight, "{who} may not {text} for {for}")
	TokensExpire  = add("tokens expire", 2, 0, withAuth, "all tokens expire")

	// Requests of one process to etcd.
	AnswersLost = add("answers lost", 4, 6, aMethod,
		"for {for} etcd carries out the {text} requests of {who} and does not answer")

	AnswersLate = add("answers late", 4, 8, all(number(100, 8000), aMethod),
		"for {for} etcd answers the {text} requests of {who} after {ms}")

	RequestsLate = add("requests late", 5, 8, all(number(100, 8000), aMethod),
		"for {for} the {text} requests of {who} take effect after {ms}")

	RequestsFail = add("requests fail", 3, 6, aRefusal,
		"for {for} the {text} requests of {who} are refused {as unavailable|for there are too many}")

	// The network.
	CutFromEtcd = add("cut from etcd", 5, 30, aProcess,
		"{who} is cut off from etcd for {for}")

	StalledFromEtcd = add("stalled from etcd", 5, 20, aProcess,
		"etcd is a black hole to {who} for {for}")

	StalledFromMember = add("stalled from member", 3, 20,
		all(ofThree, anotherMember, aProcess),
		"member {#whom} is a black hole to {who} for {for}")

	SlowToEtcd = add("slow to etcd", 3, 15, all(number(10, 1500), aProcess),
		"{who} has {ms} to etcd each way for {for}")

	ResetFromEtcd = add("reset from etcd", 3, 0, aProcess,
		"the connections of {who} to etcd are reset")

	CutFromServer = add("cut from server", 4, 10, aPair,
		"{who} is cut off from {whom} for {for}")

	StalledFromServer = add("stalled from server", 3, 15, aPair,
		"{whom} is a black hole to {who} for {for}")

	ResetFromServer = add("reset from server", 2, 0, aPair,
		"the connections of {who} to {whom} are reset")

	SlowToServers = add("slow to servers", 6, 40, all(number(5, 200), aCaller),
		"{who} has {ms} to every server each way for {for}")

	// Operators.
	EntryDeleted = add("entry deleted", 4, 0, aServer,
		"an operator deletes the entry of {who}")

	EntriesDeleted = add("entries deleted", 1, 0, always,
		"an operator deletes all entries")

	EntryOverwritten = add("entry overwritten", 3, 10, aServer,
		"an operator overwrites the entry of {who}, without a lease, for {for}")

	EntryReplaced = add("entry replaced", 3, 0, aServer,
		"an operator overwrites the entry of {who}, on its lease")

	LeaseRevoked = add("lease revoked", 4, 0, aServer,
		"an operator revokes the leases of {who}")

	EntryAdded = add("entry added", 3, 15, always,
		"an operator adds an entry that nobody serves for {for}")

	BadEntryAdded = add("bad entry added", 2, 15, oneOf(badEntries...),
		"an operator adds the entry {quoted} for {for}")

	NeighbourAdded = add("neighbour added", 1, 0, oneOf(neighbours...),
		"an operator puts {quoted} beside")

	ConfigPut = add("config put", 9, 0, aConfig,
		"an operator puts the live config {text}")

	ConfigDeleted = add("config deleted", 2, 0, always,
		"an operator deletes the live config")

	BadConfigPut = add("bad config put", 2, 0, oneOf(badConfigs...),
		"an operator puts the bad live config {quoted}")

	// Processes.
	ServerKilled = add("server killed", 5, 12, all(number(0, 2), aServer),
		"{who} is killed, and starts again {|at another port} after {for}")

	ServerRestarts = add("server restarts", 6, 10,
		all(number(0, 2), aServer, oneOf("", "", WithNewer, WithoutNewer)),
		"{who} stops in order, and starts again {|at another port} {text} after {for}")

	ServerFails = add("server fails", 1, 10, aServerThat(serves),
		"the listener of {who} fails, and it starts again after {for}")

	ServerPauses = add("server pauses", 5, 10, aPause,
		"{who} leaves etcd {text} for {for}")

	ServerUpdates = add("server updates", 4, 0,
		all(number(1, 5), aServerThat(registers)),
		"{who} updates its weight to {n}")

	TwinStarts = add("twin starts", 2, 12, aServerThat(isNamed),
		"another process takes the instance id of {who} for {for}")

	CallerRestarts = add("caller restarts", 3, 0, aCaller, "{who} restarts")
	CallerAlone    = add("caller alone", 1, 15,
		all(number(0, 2), aCallerThat(keepsSnapshots)),
		"{who} {stops|is killed}, starts again, and cannot reach etcd for {for}")

	CallerRefused = add("caller refused", 2, 8,
		all(withAuth, oneOf(Read), aCallerThat(keepsNothing)),
		"{who} restarts, and may not {text} for {for}")

	DiskFails = add("disk fails", 1, 20, aCallerThat(keepsSnapshots),
		"the snapshot directory of {who} is gone for {for}")

	DiskDamaged = add("disk damaged", 1, 0, aCallerThat(keepsSnapshots),
		"the snapshots of {who} are damaged")

	CallerIdles = add("caller idles", 2, 12, aCaller, "{who} makes no calls for {for}")
	WriterDies  = add("writer dies", 3, 12, aWriter,
		"{who} is killed, and starts again after {for}")

	// Only in worlds with two regions.
	HomeGoes = add("home goes", 4, 15, all(number(0, HomeIsKilled+1), withOther),
		"every server {leaves etcd|stops|is killed} for {for}")

	CutFromAway = add("cut from away", 1, 15, all(withOther, aCaller),
		"{who} is cut off from the other region's etcd for {for}")

	StalledFromAway = add("stalled from away", 1, 15, all(withOther, aCaller),
		"the other region's etcd is a black hole to {who} for {for}")
)

// The rights that a step may take from a process.
const (
	Read       = "read"
	Write      = "write"
	ReadConfig = "read the config"
	ReadVotes  = "read the candidates"
	WriteVotes = "write the candidates"
)

// Texts of a step that stand for several methods.
const (
	AnyWrite  = "write" // methods with effects
	AnyMethod = "any"
)

// AsNew restores a cluster under another id, from the first raft term.
const AsNew = "as a new cluster"

// Bumped is AsNew with higher revisions than etcd ever had, and without the
// history before them.
const Bumped = "as a new cluster with bumped revisions"

// ForGood makes a server close its registrations and make new ones, instead of
// pausing them.
const ForGood = "for good"

// Busy makes requests fail because there are too many.
const Busy = 1

// How a restarted server may differ from its last incarnation.
const (
	WithNewer    = "with the newer method"
	WithoutNewer = "without the newer method"
)

// The values of N of HomeGoes, which takes all servers of the region away.
const (
	HomeWithdraws = iota // withdraw and serve on
	HomeStops
	HomeIsKilled
)
