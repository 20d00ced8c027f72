// Package etcd is a model of an etcd cluster behind the gRPC services that etcd's client calls. Package conformance compares
// it with the real etcd.
//
// A core decides: the state that the members agree on (state.go, with the store, the leases, the rights and the
// transactions), what a stream of watches hears (watch.go), and who leads, who reaches whom and who has applied what
// (members.go). It has no clock, goroutine, lock or channel. A shell around it serves gRPC, waits, and has the clock: one
// goroutine that wakes when something is to happen by itself, so that a cluster at rest costs nothing, and that a
// testing/synctest bubble sees it at rest.
//
// All members share one history. A member that lags or was cut off is a view of it at an earlier revision; leases, rights
// and alarms, though, it knows at once. There is no log of proposals: what a member takes in is committed at that
// instant, waits for a quorum, or is lost, as it would be in etcd. An election takes 1.2 s, and the first member that is
// reached wins it.
//
// Left out is what the runtime does not use: nested transactions; earlier values, filters and ids by request of a watch, and
// notices of its progress that it has not asked for; answers in fragments, streamed ranges, snapshots over the wire; users and
// roles by request; who the members are, and how; learners, and changes of membership.
package etcd
