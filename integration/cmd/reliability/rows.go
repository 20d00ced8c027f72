package main

// part is one of the tables.
type part struct {
	name string
	rows []row
}

// row is a situation and what happens in it; what was measured is in the figures.
type row struct{ number, situation, happens string }

var parts = []part{
	{"Discovering", []row{
		{"D1", "etcd compacts the revision that a watch is at, while the client is disconnected", "The range is listed again and watched from there."},
		{"D2", "A watch fails, or its channel closes, again and again", "It is rebuilt after a pause that doubles, with jitter, up to 5 s. One log line an interruption."},
		{"D3", "Endpoints leave etcd while the client is disconnected", "The first list replaces the set; nothing stale survives."},
		{"D4", "etcd is wiped, or restored from a backup: its revision goes backwards, and a watch at the old one hears nothing, without an error", "After each reconnect, and when the watch moves to another member, what is known is compared with a list; a lower revision in any answer has the range listed again. So it is noticed also when the new revision has passed the old one."},
		{"D5", "etcd loses its quorum", "Watches ask for a leader, so the loss is seen. Calls go on to the last known endpoints."},
		{"D6", "The connection to an etcd member becomes a black hole", "The etcd client's keepalive notices, after 13 s at the most with the settings above, and moves to another member."},
		{"D7", "etcd's authentication is on, and the token expires", "Watches go on; one that is opened later works, too."},
		{"D8", "The etcd user may read nothing but `<key>/`", "Works. The live service config, which it may not read, counts as none."},
		{"D9", "The etcd user may not read the key, and is permitted to later", "The call's error names the key and the permission. It recovers by itself."},
		{"D10", "Keys beside the service's: `user-admin/`, `user/admin/`, `user2/`", "Never taken for endpoints of `user`."},
		{"D11", "A malformed value among good ones", "Skipped and counted; logged once, however often it is put."},
		{"D12", "The etcd client is wrapped, by clientv3/namespace say", "Every call goes through the wrapper."},
		{"D13", "The member asked is behind the others, or there is no leader to ask", "Lists are linearizable. Only with nothing known and no leader is a member's own view taken, until there is a leader; an older revision never replaces a newer one."},
		{"D14", "100 connections to one service in one process", "One list and one watch of the key, and one each of its live service config."},
		{"D15", "5,000 endpoints are replaced in a rollout", "The first change at once, then steps whose pauses grow with the set."},
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
		{"R12", "Service configs of the proto file, of the caller, live in etcd, and a broken live one", "The live one goes before the caller's, that before the generated one, field by field. A broken one is reported and the last good one kept; a deleted one puts the others back in force."},
		{"R13", "A call is under way on an endpoint that is withdrawn", "It finishes."},
		{"R14", "What is in etcd is hostile", "It names addresses and nothing else: not the name that TLS asks for, and not whether there is TLS."},
	}},
	{"Registering", []row{
		{"G1", "The lease is revoked, expires in an outage, or etcd is wiped", "Registered again on a new lease, for as long as it takes."},
		{"G2", "A server's key is deleted by hand", "Put back, at a limited rate where someone keeps deleting it."},
		{"G3", "The keepalive ends though the lease lives", "The same key is moved to a new lease without being gone in between, then the old lease is revoked."},
		{"G4", "Two processes have one instance id", "The newer one has the key; the older one says `StateConflict`, leaves the key alone, also when it closes, and takes over when the newer one goes."},
		{"G5", "Hundreds of services in one process", "One lease; puts and deletes go in batches below etcd's limits."},
		{"G6", "Close comes while a lease is being granted", "Nothing is left in etcd, and no goroutine."},
		{"G7", "etcd is down when a server starts", "`Serve` serves, and registers when etcd is up; `Status` says why not yet. `Announce` with a deadline fails by it."},
		{"G8", "A server listens on `:0`, `0.0.0.0`, `[::]` or `[::1]`", "An address that can be dialled is announced, or there is an error."},
		{"G9", "A server shuts down under load", "Health turns NOT_SERVING, the key goes, callers get time to hear of it, open calls get time to finish. Each step is bounded, also while etcd hangs."},
		{"G10", "A server's process is killed", "Callers use the others at once; the key goes with its lease."},
		{"G11", "The health service says that a service is NOT_SERVING", "Its key is out of etcd for as long."},
		{"G12", "TLS files are missing or damaged", "An error. There is no way to plaintext but to ask for it."},
		{"G13", "A registration is updated", "Same key, same lease; remembered when it is registered again."},
		{"G14", "The process sleeps for longer than its lease lives", "Registered again when it wakes."},
		{"G15", "An operator asks whether a server is registered", "`Status`, a log line at each change and none otherwise, metrics, and the health of the service `etcd`."},
	}},
}
