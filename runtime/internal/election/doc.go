// Package election decides whether an instance of this process leads the instances of its service key, and until when.
//
//	core.go      decides
//	question.go  asks etcd which candidate is the first
//	election.go  the core's shell: its timer, and those who wait for the leadership
//
// Each instance that stands for election has a candidate in etcd: a key of its own under the segment of the service
// key, on the lease of its entry, put with the entry or after it. The candidate with the lowest create revision leads,
// and that revision is the token of its leadership. Package lease keeps the key, creates no two candidates of one election
// in one transaction, and tells how long the key is there for certain. Package discovery watches the candidates.
//
// Who cannot lead does not stand, for it would keep the others from it: package lease takes away a candidate whose lease it
// cannot prove, or that it may not read, and this one has it take away that of an instance which may not ask who leads, or
// is to lead no more. Whether it may again is asked less and less often.
//
// Two may have one revision all the same, where an earlier version of this package or somebody else has created them.
// Of these the one with the lowest key leads: [candidate.First] has the order, wherever one is needed.
//
// # Why two never lead at a time
//
// An instance leads only while all of this holds:
//
//   - etcd has answered a linearizable read: its own candidate precedes all others. etcd's revisions only grow, so this
//     stays so for as long as the key exists.
//   - The key exists. It hangs on a lease that etcd keeps for its TTL from the moment when it takes a renewal in, and
//     that is not before the renewal was sent. The leadership ends a tenth of the TTL earlier than that, by the clock of
//     this process, which may run slower than etcd's by as much. Answers to renewals whose time is not known do not
//     count, nor does a renewal that was sent when that time had run out: etcd may have decided by then to end the lease.
//     While it is not known on which of two leases the key is, the one that ends first counts.
//   - This process has not begun to delete the key. The leadership ends before the deletion is sent. One that is to stand
//     again meanwhile waits until the deletion is known to have failed, or to miss the key, which has moved to another lease.
//
// So a key with a lower create revision than the next leader's exists until after its holder has stepped down. A process
// that stands still for a while may notice that late, and a call to a store may be under way when the leadership ends.
// The token is for that: a store which refuses a token lower than the highest it has seen takes nothing from an earlier
// leader once the next has written.
//
// Two may believe for a moment that they lead if somebody deletes a candidate by force, or restores etcd from a backup.
// After a restore revisions may repeat, and with them tokens, unless it bumps the revision.
package election
