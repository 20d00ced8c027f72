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
// Candidates are never repaired. If a put was not answered, or the key or its
// lease is gone, the lease is revoked, and the instance stands again with
// another lease and another key. A put that arrives late then fails, because
// its lease is gone.
//
// A candidate that may not or should not lead is revoked, so that it does not
// keep others from leading: when its entry leaves, when it resigns, when it
// yields because it is drained, when its lease is renewed late, or when etcd
// denies it the watch. A leader that is withdrawn, resigns or yields refuses
// calls at once. It is revoked when its unary calls have ended, or after a
// grace.
//
// A lease that was not renewed in time may still exist, for example in an etcd
// that was restored from a backup. Others may have led since, with higher
// tokens, so the lease is revoked. The revocation waits until etcd has answered
// a renewal: each call to an etcd that has just come back may need a login.
//
// # Why two never lead at a time
//
// An instance leads only while all of this holds:
//
//   - The watch has the instance's key, and no candidate that precedes it. The
//     key's name is random, so the watch has reached the revision that created
//     the key. It then has all earlier candidates, and later ones have a higher
//     revision, so no further read is needed. If candidates are left out because
//     there are too many, no instance leads.
//   - The lease is alive. etcd keeps it for the TTL after it receives a renewal,
//     and so for the TTL after the renewal was sent. The leadership ends a tenth
//     of the TTL earlier by the clock of this process, which may run slower than
//     etcd's by as much. If a renewal is answered after that end, it proves that
//     the lease is alive only together with a later read of the key. For when the
//     leader of the etcd cluster changes, the new one may renew a lease that the
//     old one has decided to end. It answers a read only once such decisions have
//     been carried out.
//   - This process has not begun to revoke the lease. The leadership ends before
//     the revocation is sent.
//
// So a leader's key exists until after the leader has stepped down, and keeps
// later candidates from leading. A paused process may notice its end late, and
// a call to a store may be under way at that time. The token covers these
// cases: a store that refuses tokens lower than the highest it has seen refuses
// an earlier leader's writes once the next has written.
//
// etcd's own package concurrency uses the same keys, but is not used here. Its
// sessions rely on Lease.KeepAlive, which does not report when a renewal was
// sent. So they prove none of the above. Its Campaign waits where this package
// watches.
//
// Two may lead for a moment if a candidate is deleted by force, or etcd is
// restored from a backup. After a restore, revisions may repeat, and so may
// tokens, unless the revision is bumped.
package election
