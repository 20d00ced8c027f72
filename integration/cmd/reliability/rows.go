package main

// part is one of the tables.
type part struct {
	name string
	rows []row
}

// row is a situation and what happens in it; what was measured is in the figures.
type row struct{ number, situation, happens string }

// proved is a row that has no figures: the tests that prove it.
type proved struct {
	row
	tests []string
}

var parts = []part{
	{"Discovering", []row{
		{"D1", "etcd compacts the revision that a watch is at, while the client is disconnected", "The range is listed again and watched from there."},
		{"D2", "A watch fails, or its channel closes, again and again", "It is rebuilt after a pause that doubles, with jitter, up to 5 s. One log line an interruption."},
		{"D3", "Endpoints leave etcd while the client is disconnected", "The first list replaces the set; nothing stale survives."},
		{"D4", "etcd is wiped, or restored from a backup: its revision goes backwards, and a watch at the old one hears nothing, without an error", "What is known is compared with a list after each reconnect, when the stream of the watch is reopened or it moves to another member, and at a lower revision in any answer."},
		{"D5", "etcd loses its quorum", "Watches ask for a leader, so the loss is seen. Calls go on to the last known endpoints."},
		{"D6", "The connection to an etcd member becomes a black hole", "The etcd client's [keepalive](../discovery.md#the-etcd-client) notices, after 13 s at the most, and moves to another member."},
		{"D7", "etcd's authentication is on, and the token expires", "Watches go on; one that is opened later works, too."},
		{"D8", "The etcd user may read nothing but `<key>/`", "Works. The live service config, which it may not read, counts as none."},
		{"D9", "The etcd user may not read the key, and is permitted to later", "The call's error names the key and the permission. It recovers by itself."},
		{"D10", "Keys beside the service's: `user-admin/`, `user/admin/`, `user2/`", "Never taken for endpoints of `user`."},
		{"D11", "A malformed value among good ones", "Skipped and counted; logged once, however often it is put."},
		{"D12", "The etcd client is wrapped, by clientv3/namespace say", "Every call goes through the wrapper."},
		{"D13", "The member asked is behind the others, or there is no leader to ask", "Lists are linearizable. Only with nothing known and no leader is a member's own view taken, until there is a leader."},
		{"D14", "100 connections to one service in one process", "One list and one watch of the key, and one each of its live service config."},
		{"D15", "5,000 endpoints are replaced in a rollout", "The first changes at once, then steps whose pauses grow with what an update costs; withdrawals have a reserve."},
		{"D16", "A value names `unix:/x`, `dns:///x`, a user, a newline, or is a megabyte long", "Never dialled; reported with a bounded text; the other endpoints serve."},
	}},
	{"Resolving", []row{
		{"R1", "etcd is down when a client is built", "The constructor returns at once. A call ends by its own deadline, with etcd and the key in its error."},
		{"R2", "A connection goes idle, and comes back while etcd is away", "It is served from what the process knows."},
		{"R3", "A connection and its registry are closed while etcd hangs", "Both return without waiting, and no goroutine is left."},
		{"R4", "No endpoint is registered", "Fail-fast calls fail at once, naming the key; those that wait for ready wait."},
		{"R5", "The last endpoint, or most of them, vanish at once, as when leases expired in an outage", "They are kept for a grace, 30 s by default. The withdrawal of one of several is followed at once."},
		{"R6", "etcd is down, for as long as you like", "Calls go on to the last known endpoints."},
		{"R7", "The process restarts while etcd is down", "With `WithSnapshotDir` it starts from the last known endpoints, and logs how old they are. A file that is damaged is reported and left alone."},
		{"R8", "Only the metadata, version or weight of an endpoint changes", "No reconnect. A value that says the same is no update."},
		{"R9", "Several endpoints change in one transaction", "One update."},
		{"R10", "Two etcd clusters in one process", "They share nothing."},
		{"R11", "`HTTPS_PROXY` is set", "Calls do not go through it, unless the caller gives a dialer that does."},
		{"R12", "Service configs of the proto file, of the caller, live in etcd, and a broken live one", "The live one goes before the caller's, that before the generated one. A broken one is reported and the last good one kept; a deleted one puts the others back in force."},
		{"R13", "A call is under way on an endpoint that is withdrawn", "It finishes."},
		{"R14", "What is in etcd is hostile", "It names addresses and nothing else: not the name that TLS asks for, and not whether there is TLS."},
	}},
	{"Registering", []row{
		{"G1", "The lease is revoked, expires in an outage, or etcd is wiped", "Registered again on a new lease, for as long as it takes."},
		{"G2", "A server's key is deleted by hand", "Put back, at a limited rate where someone keeps deleting it."},
		{"G3", "The keepalive ends though the lease lives", "The same key is moved to a new lease without being gone in between, then the old lease is revoked."},
		{"G4", "Two processes have one instance id", "The newer one has the key; the older one says `StateConflict`, leaves the key alone, and takes over when the newer one goes."},
		{"G5", "Hundreds of services in one process", "One lease; puts and deletes go in batches below etcd's limits."},
		{"G6", "Close comes while a lease is being granted", "Nothing is left in etcd, and no goroutine."},
		{"G7", "etcd is down when a server starts", "`Serve` serves, and registers when etcd is up; `Status` says why not yet. `Announce` with a deadline fails by it."},
		{"G8", "A server listens on `:0`, `0.0.0.0`, `[::]` or `[::1]`", "An address that can be dialled is announced, or there is an error."},
		{"G9", "A server shuts down under load", "It [drains](../registration.md#leaving). Each step is bounded, also while etcd hangs."},
		{"G10", "A server's process is killed", "Callers use the others at once; the key goes with its lease."},
		{"G11", "The health service says that a service is NOT_SERVING", "Its key is out of etcd for as long."},
		{"G12", "TLS files are missing or damaged", "An error. There is no way to plaintext but to ask for it."},
		{"G13", "A registration is updated", "Same key, same lease; remembered when it is registered again."},
		{"G14", "The process sleeps for longer than its lease lives", "Registered again when it wakes."},
		{"G15", "An operator asks whether a server is registered", "`Status`, a log line at each change and none otherwise, metrics, and the health of the service `etcd`."},
		{"G16", "etcd is restored from a backup that holds the process's living lease", "Own keys are compared by value and by absence: what was updated, closed, paused or registered since is so again."},
		{"G17", "A put is given up, and lands seconds later", "Its lease is left behind or its outcome read back, so etcd has the last word that was said."},
		{"G18", "Someone overwrites an entry and leaves its lease as it is", "Corrected."},
		{"G19", "One key of many may be written and not read; the right comes later, or goes", "The others are put back as ever, and are not touched by what becomes of it. It is tried again."},
		{"G20", "The health service has no `Watch`, or one that ends; its `Check` waits for ever; it flaps, panics or lies", "`Check` is asked from time to time, within bounds. Changes are spaced. What is not known counts as healthy."},
		{"G21", "etcd is restored from a backup that is older than the process, with an entry and a living lease of its predecessor", "Taken over at once."},
		{"G22", "etcd has no space left; a batch exceeds the client's message limit", "Removals go through. A batch is split down to the entry that is refused; the others return."},
		{"G24", "`Withdraw` comes during `Announce`", "The later word wins: `Announce` returns an error, and nothing is left."},
		{"G25", "A context ends while etcd is away", "The call ends with it. What is to be undone is undone behind it."},
		{"G26", "A server cannot register", "The first failure is logged with its cause, those after it rarely."},
		{"G27", "One of three members is a black hole, and the client has other traffic", "The lease's remaining time is watched: below half of it, another connection or another lease."},
		{"G29", "One key is registered twice in a process, under two TTLs or in two layouts", "The second is an error, and the first stays."},
		{"G30", "The connection to etcd is lost and comes back, again and again", "Own keys are watched anew each time. Nothing is left of the watches before, however far they had come."},
		{"S3", "Another user's key hangs on the lease of a process that may not write it, so that etcd refuses what is done with that lease", "It is left for a new one at once. No empty lease lies about."},
	}},
	{"One state a key", []row{
		{"K1", "All leases of a service are lost", "Connections, watches and the status hold the same endpoints for a grace; calls to each instance leave out what is held."},
		{"K2", "Every instance is called, again and again", "Each is connected to once."},
		{"K3", "The sole instance leaves in order, and comes back at another address", "Its entry is marked before it is deleted, so its old address is not held."},
		{"K5", "A live config is deleted while the connection is idle and a thousand other keys were used", "The connection wakes without it."},
		{"K6", "An empty value is put as live config", "Reported once; the last good one stays in force. Only a deletion deletes."},
		{"K7", "Two clusters keep their endpoints in one snapshot directory", "A process gets those of its own cluster, or none."},
		{"K11", "etcd cannot be connected to", "Errors, log and status name the cause: a refused port, a failed handshake."},
	}},
	{"One plan a connection", []row{
		{"P5", "A call names its instance, and the connection was given grpc.WithDefaultServiceConfig", "The option has no effect there. The call never reaches another instance."},
		{"P7", "A split, a zone, another policy below or a target, while 20 instances are connected to", "No connection is made, and no call fails."},
	}},
}

// provedRows are those in which nothing is measured: a test shows that it is so, or that it is not.
var provedRows = []proved{
	{row{"K4", "`WithSubset` beside hold, drain, zones and splits", "The subset is taken last, of each set that calls choose from."}, []string{"TestK4_TheSubsetComesLast", "TestK4_ASubsetOfOneThatIsHeldAndDead"}},
	{row{"K8", "The snapshot directory hangs", "Nothing waits for it, save Close, for 100 ms."}, []string{"TestK8_AHungFileSystem"}},
	{row{"K9", "A live config may not be read", "Asked for less and less often, once a minute at last."}, []string{"TestK9_CoreBacksOffFromRefusals"}},
	{row{"K10", "A call without a deadline, while etcd has never answered", "It ends by its method's timeout."}, []string{"TestK10_AStateBeforeTheFirstList"}},
	{row{"K17", "Two entries have one instance id", "Both are called, and it is reported."}, []string{"TestK17_TwoOfOneInstanceID"}},
	{row{"K18", "A connection is made after a live config was deleted", "It keeps its own default."}, []string{"TestK18_WhatAConnectionWasGiven", "TestK18_AConnectionMadeAfterALiveConfig"}},
	{row{"G31", "An entry of a service with a leader is refused, among many", "It keeps no other out, and gets in soon after the right is granted."}, []string{"TestG31_OthersGetIn"}},
	{row{"G32", "A crash, and a restart within the TTL at the same address, not healthy at first", "What the process before has left is marked and deleted; only then is the entry paused."}, []string{"TestG32_WhatIsPausedIsOut", "TestG32_ThePredecessorsEntryIsOut"}},
	{row{"G34", "256 pieces of metadata, or a value as long as may be", "A server takes what a registration takes: `grpc_methods` and `grpc_started` are left out where there is no room. An error says which piece is too much."}, []string{"TestG34_OneRuleForMetadata"}},
	{row{"G35", "A log handler asks the registry", "Nothing is logged under a lock."}, []string{"TestG35_ALogHandlerAsks"}},
	{row{"G37", "The ten-thousandth endpoint is registered", "It takes no step over the others."}, []string{"TestG37_NoStepOverTheEntriesThatRest", "TestG37_EntriesThatRestAreRoused", "TestG37_ClaimsTakeNoStepOverTheOthers"}},
	{row{"G38", "An entry in conflict is paused and resumed", "Its state has its reason from the first, in status and log. Calls return what became true."}, []string{"TestG38_AStateHasItsReason", "TestG38_AConflictSaysWho"}},
	{row{"G39", "A process may write its key and not read it", "`registered`, and `Err` says that nobody knows whether the key is there."}, []string{"TestG39_WhatCannotBeReadIsNotClaimed"}},
	{row{"E1", "Two servers of a process stand for one election", "Each term has a token of its own."}, []string{"TestE1_OneRegistry", "TestE1_OneElectionTwoTransactions"}},
	{row{"E2", "One transaction has created many candidates", "All name the same first."}, []string{"TestE2_OneOrder"}},
	{row{"E3", "An instance may write candidates and not read them", "It does not stand, and others lead."}, []string{"TestE3_WhoCannotReadDoesNotStand"}},
	{row{"E4", "etcd is full, and a leader has stalled for nearly its TTL", "It gives way."}, []string{"TestE4_WhoIsNotProvenGivesWay", "TestE4_FullAtEachStep"}},
	{row{"E6", "A leadership ends while a handler waits in Recv", "It gets the reason, and the caller's stream ends."}, []string{"TestE6_RecvHearsOfTheEnd"}},
	{row{"E7", "60,000 keys, or large values, among the candidates", "The only one leads. What is asked is bounded."}, []string{"TestE7_WhatIsNoCandidateStopsNobody", "TestE7_AQuestionIsBounded"}},
	{row{"E9", "The leader is drained", "It resigns while another can lead."}, []string{"TestE9_ADrainedLeaderResigns"}},
	{row{"P1", "An instance that lacks a method joins", "No call of that method reaches it."}, []string{"TestP1_ARollbackUnderLoad"}},
	{row{"P2", "An instance is drained while another plan connects", "It leaves every plan at once."}, []string{"TestP2_ADrainDoesNotWaitForAnotherPlan"}},
	{row{"P3", "A policy does not shut its connections down", "They end with their endpoint."}, []string{"TestP3_WhatAPolicyLeaksIsShutDown"}},
	{row{"P4", "`loadBalancingPolicy` names our policy, or one of gRPC's", "Read as the field that replaced it."}, []string{"TestP4_TheTopPolicyIsOurs"}},
	{row{"P6", "Round robin gives way to a policy that connects when it is called", "What serves stays until what follows can."}, []string{"TestP6_WhatServesStaysUntilWhatFollowsCan", "TestP6_FromRoundRobinToRingHashUnderLoad", "TestP6_APolicyOfOthersIsWaitedFor"}},
	{row{"P8", "A policy that knows addresses alone, below ours or in its place", "It is given addresses."}, []string{"TestP8_PoliciesOnBalancerBaseGetAddresses"}},
	{row{"P9", "Misspelt fields, refused policies by their old field, splits that print alike", "Refused, refused, told apart."}, []string{"TestP9_MisspeltAndUnknownIsRefused", "TestP9_SplitsAreToldApart", "TestP9_GroupsAreToldApart"}},
	{row{"P10", "10,000 targets dropped at once; 3,000 classes of methods", "No call waits; one pass."}, []string{"TestP10_NothingHoldsAPickUp", "TestP10_ClassesOfMethodsStopAtTheirBound"}},
	{row{"P11", "A target with a fragment, or two layouts", "An error."}, []string{"TestP11_QuestionableTargets"}},
	{row{"P12", "A drain or a split that names nothing, or only what is drained", "Said as it is."}, []string{"TestPlan"}},
	{row{"P13", "An instance is full, of all of a key or of a zone", "The next takes the call. It fails only if all are full."}, []string{"TestP13_WhatIsFullIsPassedOver"}},
	{row{"P15", "An instance hangs while shares grow", "It gets few calls."}, []string{"TestP15_WhatHangsWhileSharesGrow"}},
	{row{"P16", "A policy of the caller's above ours chooses endpoints", "No others are called."}, []string{"TestP16_EndpointsForAPolicyAbove", "TestP16_APolicyAboveOurs"}},
	{row{"P20", "Live routes come while no instance of the base is up", "Each lane goes by them at once."}, []string{"TestP20_EachCallsOwnSetDecides"}},
	{row{"P21", "Weights above 65,536 under ring hash", "Shares are as the weights say."}, []string{"TestP21_RingsKeepTheSharesOfAnyWeights"}},
	{row{"S1", "Live configs of any text, whatever policies are linked", "Each is in force, or refused with a reason. The process does not end."}, []string{"TestS1_NothingThatCrashesAPolicyIsAccepted", "TestS1_NothingBelowEndsTheProcess"}},
	{row{"S2", "65,536 endpoints of weight 65,536 under gRPC's ring hash, by a bare `Resolver`", "Weights are scaled so that gRPC can add them up."}, []string{"TestS2_WeightsFitARing", "TestS2_WeightsOfASetFit"}},
	{row{"S5", "Live configs of 256 KB, and nested deep", "Refused in a moment."}, []string{"TestS5_DepthIsBounded", "TestS5_HostileTextsAreCheap"}},
	{row{"S6", "Outlier detection at an interval of nothing", "Refused."}, []string{"TestS6_NoIntervalSpins"}},
	{row{"S7", "Many groups of a split, many names of a drain", "Maps, and bounds."}, []string{"TestS7_MatchingIsNoLoopInALoop", "TestS7_ManyGroupsAndNamesCostOnePass"}},
	{row{"S8", "Live policies that flip", "They share the connections, and make none."}, []string{"TestS8_FlippingPoliciesConnectsToNothing", "TestS8_PickFirstShares"}},
	{row{"S10", "A live config lifts a message limit", "Refused; `WithLiveLoadBalancingOnly` refuses all but policies."}, []string{"TestS10_LimitsAreNotLifted", "TestS10_LiveConfigsForLoadBalancingAlone"}},
	{row{"S16", "Ring hash without its header; policies in upper case", "Refused."}, []string{"TestS16_PoliciesThatFailAllCallsAreRefused"}},
}
