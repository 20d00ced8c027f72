package schedule

// Kind is a kind of step.
type Kind string

// The kinds. Those that undo themselves do so after Step.For.
const (
	// The cluster.
	MemberStops    Kind = "member stops"
	MemberIsolated Kind = "member isolated"
	QuorumLost     Kind = "quorum lost"
	MemberLags     Kind = "member lags" // by N ms
	LeaderChanges  Kind = "leader changes"
	Compaction     Kind = "compaction"
	Restore        Kind = "restore" // of a backup made at At, at the end of For; Text: AsNew, Bumped or none
	Wipe           Kind = "wipe"
	NoSpace        Kind = "no space"
	RightsRefused  Kind = "rights refused" // Text: one of them
	TokensExpire   Kind = "tokens expire"

	// Requests of one process to etcd.
	AnswersLost  Kind = "answers lost"  // of the method Text, AnyWrite or AnyMethod, which take effect
	AnswersLate  Kind = "answers late"  // by N ms
	RequestsLate Kind = "requests late" // by N ms, whether or not the client has gone by then
	RequestsFail Kind = "requests fail" // N: Busy or 0

	// The network.
	CutFromEtcd       Kind = "cut from etcd"
	StalledFromEtcd   Kind = "stalled from etcd"
	StalledFromMember Kind = "stalled from member"
	SlowToEtcd        Kind = "slow to etcd" // by N ms each way
	ResetFromEtcd     Kind = "reset from etcd"
	CutFromServer     Kind = "cut from server"
	StalledFromServer Kind = "stalled from server"
	ResetFromServer   Kind = "reset from server"
	SlowToServers     Kind = "slow to servers" // by N ms each way

	// Operators.
	EntryDeleted     Kind = "entry deleted"
	EntriesDeleted   Kind = "entries deleted"
	EntryOverwritten Kind = "entry overwritten"
	EntryReplaced    Kind = "entry replaced" // its lease is kept
	LeaseRevoked     Kind = "lease revoked"
	EntryAdded       Kind = "entry added"              // of an address that nobody serves
	EntryAddedBy     Kind = "entry added by a process" // likewise, through its registry
	BadEntryAdded    Kind = "bad entry added"
	NeighbourAdded   Kind = "neighbour added"
	ConfigPut        Kind = "config put"
	ConfigDeleted    Kind = "config deleted"
	BadConfigPut     Kind = "bad config put"

	// Processes.
	ServerKilled   Kind = "server killed"   // N 1: it comes back at another port
	ServerRestarts Kind = "server restarts" // likewise; Text: WithNewer or WithoutNewer
	ServerFails    Kind = "server fails"    // its listener does
	ServerPauses   Kind = "server pauses"   // Text: ForGood or none
	ServerUpdates  Kind = "server updates"  // to the weight N
	TwinStarts     Kind = "twin starts"
	CallerRestarts Kind = "caller restarts"
	CallerIdles    Kind = "caller idles"
	CallerAlone    Kind = "caller alone"   // it restarts, killed if N is 1, and its next life cannot reach etcd at first
	CallerRefused  Kind = "caller refused" // it restarts, and its next life lacks the right Text at first
	DiskFails      Kind = "disk fails"     // of a caller
	DiskDamaged    Kind = "disk damaged"   // likewise
	WriterDies     Kind = "writer dies"

	// Where there are two regions.
	HomeGoes        Kind = "home goes" // N: how
	CutFromAway     Kind = "cut from away"
	StalledFromAway Kind = "stalled from away"
)

// The rights that a process may be refused.
const (
	Read       = "read"
	Write      = "write"
	ReadConfig = "read the config"
	ReadVotes  = "read the candidates"
	WriteVotes = "write the candidates"
)

// Sets of methods, in place of the name of one.
const (
	AnyWrite  = "write" // those that change something
	AnyMethod = "any"
)

// AsNew is how a cluster is restored from a snapshot: under another id, and in the first raft term again.
const AsNew = "as a new cluster"

// Bumped is AsNew with revisions that go on after all that the cluster had given, and a history that is compacted up to there.
const Bumped = "as a new cluster with bumped revisions"

// ForGood is how a server gives up its registrations and makes new ones, in place of pausing them.
const ForGood = "for good"

// Busy is for requests that fail because etcd has too many to carry out already.
const Busy = 1

// How a server that restarts may differ from before.
const (
	WithNewer    = "with the newer method"
	WithoutNewer = "without the newer method"
)
