package listwatch

import (
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// lagAllowed is the time from a probe that differs to the second probe: the watch may lag that long.
	lagAllowed = time.Second
	// probeAgain is the time from a probe without an answer to the next one. An etcd that is slow must not get many more reads.
	probeAgain = 10 * time.Second
	// probeSoon is the time from trouble to a probe. It is also the interval of probes if no event reports that the connection is back.
	probeSoon = 4 * time.Second
	// probeEvery is the time without an answer of the watch after which a range is probed.
	probeEvery = 30 * time.Second
	// probeSpacing is the minimum mean interval between two probes of an etcd client without trouble. It gives 48 probes a
	// minute, and rarely more than 60.
	probeSpacing = 1250 * time.Millisecond
)

// These are reasons to list again, as they appear in logs. relistCause names them for metrics.
var (
	errClosed   = errors.New("the watch was closed")
	errReplaced = errors.New("etcd's revision went backwards: it was restored from a backup or wiped")
	errCluster  = errors.New("another etcd cluster answered")
	errMissed   = errors.New("the watch missed changes")
)

// replica is the known content of a range. Its methods check etcd's answers against that content.
// If an answer contradicts it, they return an error, and the range must be listed again.
//
// A watch can be dead without an error: the stream hangs, its member lags, or etcd was restored and has yet to reach the start
// revision of the watch. So a range whose watch is silent is probed. A probe reads the number of keys and the key changed last, which costs etcd
// some 4 ms of a processor for 10,000 keys. If they differ from the replica's, the watch has a second to deliver the difference.
//
// The content stays known through every error, until a list replaces it.
type replica[T any] struct {
	set set[T]

	known       bool // a list has answered
	provisional bool // the last list is from a member without a leader
	cluster     uint64
	term        uint64 // the raft term in the last list or watch answer
	revision    int64  // the highest in the last list and the watch answers since
	applied     int64  // events up to this revision are in set
	total       int64  // the number of keys in the range, malformed ones included
	last        int64  // the mod revision of the key changed last
	deleted     bool   // a key was deleted since the revision last: perhaps that which changed last

	due     time.Time // the time of the next probe
	calm    bool      // an answer has agreed with the content since the last trouble
	awaited int64     // the revision that the watch must reach; 0 for none

	every  time.Duration // the time without an answer after which the range is probed
	spread uint8         // shortens the first intervals after trouble, so that ranges are not probed all at once
}

// listed applies a list. A linearizable list wins even if its revision is lower than the known one: etcd's history was replaced.
func (r *replica[T]) listed(l *listing[T], provisional bool) {
	r.known, r.provisional = true, provisional
	r.cluster, r.term = l.header.GetClusterId(), l.header.GetRaftTerm()
	r.revision = l.header.GetRevision()
	r.applied, r.total, r.last, r.deleted = r.revision, l.total, l.last, false
	l.load.finish()
}

// verified applies a list that was made next to a running watch. If etcd's history was replaced by another that has reached the
// same revision, the watch continues without an error, and only a list shows the difference. An error means that a different
// cluster answered, or that the watch is at a revision or term that etcd has yet to reach.
func (r *replica[T]) verified(l *listing[T], now time.Time) error {
	if l.header.GetClusterId() != r.cluster {
		return errCluster
	}
	if l.header.GetRaftTerm() < r.term || l.header.GetRevision() < r.revision {
		return errReplaced
	}
	r.listed(l, false)
	r.resetLiveness(now)
	return nil
}

// resetLiveness schedules a probe soon: the connection of the watch may be new.
func (r *replica[T]) resetLiveness(now time.Time) {
	r.due, r.calm, r.awaited = now.Add(probeSoon-probeSoon/512*time.Duration(r.spread)), false, 0
}

// heard applies an answer of the watch, and reports whether the snapshot changed.
func (r *replica[T]) heard(resp *clientv3.WatchResponse, now time.Time) (changed bool, err error) {
	if err := resp.Err(); err != nil {
		return false, err
	}
	// The header is not passed on: it is a struct in etcd's client up to 3.6, and a pointer from 3.7 on.
	behind, err := r.fence(resp.Header.GetClusterId(), resp.Header.GetRaftTerm(), resp.Header.GetRevision())
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
			r.last, r.deleted = event.Kv.ModRevision, false
			change = r.set.put(event.Kv)
		}
		changed = changed || change
	}
	if n := len(resp.Events); n > 0 {
		r.applied = max(r.applied, resp.Events[n-1].Kv.ModRevision)
	}
	switch {
	case r.total < int64(r.set.used.entries): // entries without a deletion belong to another history
		return changed, errMissed
	case behind:
		r.suspect(r.revision, now)
	case r.set.truncated && r.calm && r.awaited == 0: // the probe that checks for room must not be delayed
	case !resp.Created && max(r.revision, r.applied) >= r.awaited: // the first answer of a watch proves little
		r.fits(now)
	}
	return changed, nil
}

// fence compares the header of an answer of the watch with the known one. A lower revision or term
// comes from a member that lags, or from an etcd that was restored: a probe distinguishes the two.
func (r *replica[T]) fence(cluster, term uint64, revision int64) (behind bool, err error) {
	switch {
	case cluster == 0: // etcd's gRPC proxy leaves some headers empty
	case cluster != r.cluster:
		return false, errCluster
	case term < r.term || revision < r.revision:
		return true, nil
	default:
		r.term, r.revision = term, revision
	}
	return false, nil
}

// fits records that the watch or a probe agreed with the content.
func (r *replica[T]) fits(now time.Time) {
	if !r.calm {
		now = now.Add(-r.every / 256 * time.Duration(r.spread))
	}
	r.due, r.calm, r.awaited = now.Add(r.every), true, 0
}

// suspect requires the watch to reach a revision. It does nothing, and returns true, if the watch already has to reach one.
func (r *replica[T]) suspect(revision int64, now time.Time) (already bool) {
	if r.awaited != 0 {
		return true
	}
	r.awaited, r.due = revision, now.Add(lagAllowed)
	return false
}

// probed checks the answer of a probe. An error means that the watch has missed changes, or that etcd was replaced.
func (r *replica[T]) probed(resp *clientv3.GetResponse, now time.Time) error {
	switch revision := resp.Header.GetRevision(); {
	case resp.Header.GetClusterId() != r.cluster:
		return errCluster
	case resp.Header.GetRaftTerm() < r.term || revision < r.revision:
		return errReplaced
	case r.agrees(resp):
		for _, kv := range resp.Kvs {
			r.last, r.deleted = kv.ModRevision, false
		}
		r.fits(now)
	case r.suspect(revision, now):
		return errMissed
	}
	return nil
}

// agrees reports whether a probe matches the content of the replica.
func (r *replica[T]) agrees(resp *clientv3.GetResponse) bool {
	if resp.Count != r.total {
		return false
	}
	for _, kv := range resp.Kvs {
		key := string(kv.Key)
		known := r.set.get(key) // kv has no value and, since etcd 3.7, no lease, unless the range is one key
		switch {
		case kv.ModRevision > r.last, kv.ModRevision < r.last && !r.deleted,
			known == nil && r.total == int64(r.set.used.entries), // all keys are in the set
			known != nil && known.CreateRevision != kv.CreateRevision,
			known != nil && kv.Value != nil && known != r.set.read(key, kv, known): // another history's write at the same revision
			return false
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
		Items: r.set.show(), Removed: r.set.takeRemoved(),
		Revision: r.applied, Provisional: r.provisional, Truncated: r.set.truncated,
	}
}
