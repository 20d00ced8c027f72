// Package election decides whether an instance of this process leads the
// instances of its service key, and until when.
//
//	core.go        decides whether the instance has a candidate, and whether it leads
//	candidates.go  the candidates for a service key, and how an instance sees them
//	calls.go       the calls to etcd: stand, renew, revoke
//	election.go    the core's shell: its timer, the calls for the leader, and the waiters for the leadership
//
// An instance whose entry is registered has a candidate in etcd: a key with a
// random name under the service key's segment, alone on its own lease. The
// candidate with the lowest create revision leads, and that revision is the
// token of its leadership. Each candidate is put in its own transaction, so
// this package never creates two at one revision. If an earlier version or
// another program did, the lower key leads. [candidate.First] defines the
// order.
//
// When a put was not answered, or the key or its lease is gone, the lease is
// revoked, and the instance stands again with another lease and another key.
// Candidates are never repaired. A put that arrives late fails without its
// lease. A candidate is also revoked when its entry leaves, when it resigns or
// yields as a drained one, when its lease is renewed late, or when etcd denies
// it the watch, so that it does not keep others from leading. A leader that is
// withdrawn, resigns or yields refuses calls at once, and is revoked when its
// unary calls have ended, after a grace at the latest.
//
// A lease that lives although it was not renewed in time may be from a backup
// of etcd: others may have led since, with higher tokens. It is not revoked
// before a renewal is answered: each call to an etcd that is back may need a
// login.
//
// # Why two never lead at a time
//
// An instance leads only while all of this holds:
//
//   - The watch has its key, and no candidate that precedes it. The key's name is random, so the watch has reached the revision
//     that created it, and has all earlier candidates; later ones have a higher revision. So no further read is
//     needed. If candidates are left out because there are too many, no instance leads.
//   - The lease is alive. etcd keeps it for the TTL after it receives a renewal, so also for the TTL after the renewal was sent.
//     The leadership ends a tenth of the TTL earlier, by the clock of this process, which may run slower than etcd's by as much.
//     A renewal that is answered later proves the same only with a read of the key: a new leader of etcd renews the lease while a
//     decision of the one before, to end the lease, is under way. It answers a read only once such decisions have been carried out.
//   - This process has not begun to revoke the lease. The leadership ends before the revocation is sent.
//
// So a leader's key, which keeps later candidates from leading, exists until
// after the leader has stepped down. A paused process may notice that late, and
// a call to a store may be under way when the leadership ends. The token covers
// these cases: a store that refuses tokens lower than the highest it has seen
// refuses an earlier leader's writes once the next has written.
//
// etcd's own package concurrency uses the same keys, but is not used here. Its
// sessions rely on Lease.KeepAlive, which does not report when a renewal was
// sent, so they prove none of the above, and its Campaign waits where this
// package watches.
//
// Two may lead for a moment if a candidate is deleted by force, or etcd is
// restored from a backup. After a restore revisions, and so tokens, may repeat
// unless the revision is bumped.
package election
