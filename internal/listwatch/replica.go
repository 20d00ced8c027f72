package listwatch

import (
	"cmp"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// lagAllowed is the time from a proof that differs to the second proof: the
	// watch may lag that long, or twice as long as the proof took.
	lagAllowed = time.Second

	// proveAgain is the time from a proof without an answer to the next one.
	// More reads would slow a slow etcd.
	proveAgain = 10 * time.Second

	// proveSoon is the time from trouble to a proof. It is also the interval of
	// proofs if no event reports that the connection is back.
	proveSoon = 4 * time.Second

	// proveEvery is the time without an answer of the watch after which a range
	// is proven.
	proveEvery = 30 * time.Second
)

// These are reasons to list again, as they appear in logs. relistCause names
// them for metrics.
var (
	errClosed   = errors.New("the watch was closed")
	errCluster  = errors.New("another etcd cluster answered")
	errMissed   = errors.New("the watch missed changes")
	errReplaced = errors.New(
		"etcd's revision went backwards: it was restored from a backup or wiped")
)

// replica is the known content of a range. Its methods check etcd's answers
// against that content. If an answer contradicts it, they return an error, and
// the range must be listed again.
//
// A watch can be dead without an error: the stream hangs, its member lags, or
// etcd was restored and has yet to reach the start revision of the watch. So a
// range whose watch is silent is proven. A proof reads the number of keys and
// the key changed last, which costs etcd some 4 ms of a processor for 10,000
// keys. If they differ from the replica's, the watch has a second to deliver
// the difference.
//
// The content stays known through every error, until a list replaces it.
type replica[T any] struct {
	set set[T]

	known       bool // a list has answered
	provisional bool // the last list is from a member without a leader
	cluster     uint64
	term        uint64 // the raft term in the last list or watch answer
	revision    int64  // the highest in the last list and the watch answers since

	// the revision of the list or, if that is later, of the last event in set
	applied int64

	agreed int64 // the revision of the last proof that agreed with set
	total  int64 // the number of keys in the range, malformed ones included
	last   int64 // the mod revision of the key changed last

	// a key was deleted since the revision last: perhaps the one changed last
	deleted bool

	early   time.Time // from when on the range joins a proof of others
	due     time.Time // when a proof is due
	calm    bool      // an answer has agreed with the content since the last trouble
	awaited int64     // the revision that the watch must reach; 0 for none

	every time.Duration // the time without an answer after which the range is proven

	// shortens the first intervals after trouble by up to a half, so that the
	// processes of a fleet do not ask all at once
	spread uint8
}

// applyList applies a list. A linearizable list wins even if its revision is
// lower than the known one: etcd's history was replaced.
func (r *replica[T]) applyList(l *listing[T], provisional bool) {
	r.known = true
	r.provisional = provisional
	r.cluster = l.header.GetClusterId()
	r.term = l.header.GetRaftTerm()
	r.revision = l.header.GetRevision()
	r.applied = r.revision
	r.agreed = r.revision
	r.total = l.total
	r.last = l.last
	r.deleted = false
	l.load.finish()
}

// resetLiveness schedules a proof soon: the connection of the watch may be new.
func (r *replica[T]) resetLiveness(now time.Time) {
	r.prove(now.Add(proveSoon - proveSoon/512*time.Duration(r.spread)))

	// so that ranges whose watches open one after the other share a proof
	r.early = now.Add(proveSoon / 8)
	r.calm = false
	r.awaited = 0
}

// prove sets the time of the next proof.
func (r *replica[T]) prove(at time.Time) {
	r.early = at
	r.due = at
}

// applyAnswer applies an answer of the watch, and reports whether the snapshot
// changed.
func (r *replica[T]) applyAnswer(
	resp *clientv3.WatchResponse,
	now time.Time,
) (changed bool, err error) {
	if err := resp.Err(); err != nil {
		return false, err
	}

	// The header is not passed on: it is a struct in etcd's client up to 3.6,
	// and a pointer from 3.7 on.
	behind, err := r.lags(resp.Header.GetClusterId(), resp.Header.GetRaftTerm(),
		resp.Header.GetRevision())
	if err != nil {
		return false, err
	}

	for _, event := range resp.Events {
		var change bool

		switch {
		case event.Kv.ModRevision <= r.applied: // the last list includes it
			change = event.Type != clientv3.EventTypeDelete && r.set.overtaken(event.Kv)
		case event.Type == clientv3.EventTypeDelete:
			r.total--
			r.deleted = true
			change = r.set.remove(string(event.Kv.Key))

		default:
			if event.IsCreate() {
				r.total++
			}

			r.last = event.Kv.ModRevision
			r.deleted = false
			change = r.set.put(event.Kv)
		}

		changed = changed || change
	}

	if n := len(resp.Events); n > 0 {
		r.applied = max(r.applied, resp.Events[n-1].Kv.ModRevision)
	}

	switch {
	case r.total < int64(r.set.used.entries):
		return changed, errMissed // the set has entries of another history
	case behind:
		r.suspect(r.revision, now, lagAllowed)
	case resp.Created: // the first answer of a watch proves little
	case r.set.truncated && r.calm && r.awaited == 0:
		// the proof stays due: it finds out whether entries left out have room
	case max(r.revision, r.applied) >= r.awaited:
		r.confirm(now)
	}

	return changed, nil
}

// nextRevision returns the revision from which a watch continues. It is after
// the last proof that agreed, so that etcd has hardly compacted it.
func (r *replica[T]) nextRevision() int64 {
	return max(r.applied, r.agreed) + 1
}

// lags reports whether an answer of the watch has a lower revision or term than
// the known one, and records a higher one. A lower one comes from a member that
// lags, or from an etcd that was restored: a proof distinguishes the two.
func (r *replica[T]) lags(cluster, term uint64, revision int64) (bool, error) {
	switch {
	case cluster == 0: // etcd's gRPC proxy leaves some headers empty
	case cluster != r.cluster:
		return false, errCluster
	case term < r.term || revision < r.revision:
		return true, nil
	default:
		r.term = term
		r.revision = revision
	}

	return false, nil
}

// confirm records that the watch or a proof agreed with the content.
func (r *replica[T]) confirm(now time.Time) {
	r.early = now.Add(r.every / 2)
	r.due = now.Add(r.every)

	if !r.calm {
		r.due = r.due.Add(-r.every / 512 * time.Duration(r.spread))
	}

	r.calm = true
	r.awaited = 0
}

// suspect requires the watch to reach a revision before the next proof, unless
// it already has to reach one.
func (r *replica[T]) suspect(revision int64, now time.Time, lag time.Duration) {
	if r.awaited == 0 {
		r.awaited = revision
		r.prove(now.Add(lag))
	}
}

// checkHeader returns an error if an answer to a read is from another cluster,
// or older than the known content.
func (r *replica[T]) checkHeader(h *etcdserverpb.ResponseHeader) error {
	switch {
	case h.GetClusterId() != r.cluster:
		return errCluster
	case h.GetRaftTerm() < r.term, h.GetRevision() < r.revision:
		return errReplaced
	}

	return nil
}

// checkProof checks the answer of a proof. took is how long etcd took for the
// answer. An error means that the watch has missed changes, or that etcd was
// replaced. A slow answer may be older than the watch's last answers, so the
// first one that differs only raises a suspicion. But no answer of the same
// etcd is older than asOf, the highest revision that was known before the
// request.
func (r *replica[T]) checkProof(
	resp *clientv3.GetResponse,
	asOf int64,
	now time.Time,
	took time.Duration,
) error {
	revision := resp.Header.GetRevision()
	if revision < asOf {
		return errReplaced
	}

	err := r.checkHeader(resp.Header)
	if err == nil && r.agrees(resp) {
		for _, kv := range resp.Kvs {
			r.last = kv.ModRevision
			r.deleted = false
		}

		r.revision = revision
		r.agreed = revision
		r.confirm(now)

		return nil
	}

	if r.awaited != 0 {
		return cmp.Or(err, errMissed)
	}

	r.suspect(max(r.revision, revision), now, max(lagAllowed, 2*took))

	return nil
}

// agrees reports whether a proof matches the content of the replica.
func (r *replica[T]) agrees(resp *clientv3.GetResponse) bool {
	if resp.Count != r.total {
		return false
	}

	for _, kv := range resp.Kvs {
		key := string(kv.Key)
		known := r.set.get(key)
		switch {
		case kv.ModRevision > r.last, kv.ModRevision < r.last && !r.deleted:
			return false
		case known == nil && r.total == int64(r.set.used.entries):
			return false // the set has all keys, but not this one
		case known != nil && known != r.set.parse(key, kv, known):
			return false // another history has written the key at this revision
		}
	}

	return true
}

// snapshot returns the content, nil if none is known.
func (r *replica[T]) snapshot() *Snapshot[T] {
	if !r.known {
		return nil
	}

	return &Snapshot[T]{
		Items:       r.set.show(),
		Removed:     r.set.takeRemoved(),
		Revision:    r.applied,
		Provisional: r.provisional,
		Truncated:   r.set.truncated,
	}
}
