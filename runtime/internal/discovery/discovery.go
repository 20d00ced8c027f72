// Package discovery follows the endpoints and the live service config of service keys, and passes them to gRPC. Each key has
// one state, which connections, watches, calls to each instance, status, metrics and the disk read.
//
//	core.go       the core of a key: handles events, makes the state, returns effects
//	leave.go      ... leaves out endpoints that their owners are withdrawing
//	merge.go      ... makes one endpoint for each address from the entries of all layouts
//	hold.go       ... holds endpoints that vanished suspiciously
//	config.go     ... the live service config
//	state.go      the state, as readers see it
//	backend.go    an endpoint and its form for gRPC
//	key.go        the shell of the core: locks, timers, subscriptions
//	departures.go the connections whose calls leave for the fallback
//	keys.go       the keys of a registry, and where they are in etcd
//	candidates.go the candidates for the leadership of a key
//	standing.go   ... as one of the candidates sees them
//	disk.go       the last known endpoints and live config of each key, in files
//	snapshot.go   ... and the content of a file
//	conn.go       the resolver of one gRPC connection
//	effective.go  ... and the service config that it gives to gRPC
//
// The files down to state.go do no I/O, hold no lock and read no clock.
package discovery
