// Package election decides whether an instance of this process leads the instances of its service key, and until when.
//
//	core.go      decides whether there is a candidate, and whether it leads
//	calls.go     the calls to etcd: stand, ask, renew, revoke
//	election.go  the core's shell: its timer, and those who wait for the leadership
//
// An instance whose entry is registered has a candidate in etcd: a key of a random name under the segment of the service key,
// alone on a lease of its own. The candidate with the lowest create revision leads, and that revision is the token of its
// leadership. Each is put in a transaction of its own, so no two of this package have one revision. Two may where an earlier
// version or somebody else has created them: then the lower key leads. [candidate.First] has the order, wherever one is needed.
// Package discovery watches the candidates.
//
// Whenever anything about a candidate is in doubt, its lease is revoked, and the instance stands again with another lease and
// another key: when a put was not answered, the lease was not proven in time, or the key is gone. Nothing is repaired. A put that
// arrives late finds no lease, and a candidate that a restored etcd has again is renewed by nobody. So is a candidate revoked that is
// to go: when its entry leaves, when it resigns, or when it may not follow the candidates and would keep others from leading.
//
// # Why two never lead at a time
//
// An instance leads only while all of this holds:
//
//   - The watch has its key, and no candidate that precedes it. The key's name is random, so the watch has come to the revision
//     that created it, and has all that were there before; those that come later have a higher revision. So no question to etcd is
//     needed. Where candidates are left out, for they are too many, nobody leads.
//   - The lease lives. The etcd client renews it, and etcd is asked how long it keeps it: for that time from the moment when it
//     takes the question in, which is not before the question was sent. The leadership ends a tenth of the TTL earlier than that, by
//     the clock of this process, which may run slower than etcd's by as much. An answer that comes later proves nothing: etcd may
//     have decided to end the lease before, and a new leader of etcd gives it its whole TTL while that decision is under way.
//   - This process has not begun to revoke the lease. The leadership ends before the revocation is sent.
//
// So a key with a lower create revision than the next leader's exists until after its holder has stepped down. A process that stands
// still for a while may notice that late, and a call to a store may be under way when the leadership ends. The token is for that: a
// store which refuses a token lower than the highest it has seen takes nothing from an earlier leader once the next has written.
//
// etcd's own package concurrency has the same keys. Its sessions go by Lease.KeepAlive alone, which does not tell when a renewal was
// sent, so they prove nothing of the above, and its Campaign waits for others where this package watches them. It is not used.
//
// Two may believe for a moment that they lead if somebody deletes a candidate by force, or restores etcd from a backup. After a
// restore revisions may repeat, and with them tokens, unless it bumps the revision.
package election
