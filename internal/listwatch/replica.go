package listwatch

import (
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// lagAllowed is how long the watch may be behind etcd, and how long etcd may not answer, before the second look.
	lagAllowed = time.Second
	// probeSoon is the time from trouble to a probe, and the time between the probes of a client whose connection says nothing.
	probeSoon = 4 * time.Second
	// probeEvery is the silence after which a range is probed.
	probeEvery = 30 * time.Second
	// probeSpacing is the least mean time between two probes of an etcd client in peace: 48 a minute, so that 60 are hardly ever
	// exceeded by chance.
	probeSpacing = 1250 * time.Millisecond
)

// Reasons to list again. Each names itself in logs and metrics.
var (
	errClosed   = errors.New("the watch was closed")
	errReplaced = errors.New("etcd's revision went backwards: it was restored from a backup or wiped")
	errCluster  = errors.New("another etcd cluster answered")
	errMissed   = errors.New("the watch missed changes")
)

// replica is the known content of a range. Its methods take etcd's answers, and decide whether they fit
// that. If one does not, they return an error, and the range must be listed again.
//
// A watch can be dead without an error: the stream hangs, the member behind it lags, or etcd was restored and has yet to reach
// the revision that the watch begins at. So a range whose watch is silent is probed. A probe reads the number of keys and
// the key changed last, for which etcd takes some 4 ms of a processor where there are 10,000 keys. If they differ from the
// replica's, the watch has a second to deliver the difference.
//
// The content stays known through every error, until a list replaces it.
type replica[T any] struct {
	set set[T]

	known       bool // a list has answered
	provisional bool // ... from a member without a leader
	cluster     uint64
	term        uint64 // of the last list or answer of the watch
	revision    int64  // the highest of the lists and the watch
	applied     int64  // the revision up to which events are in set
	total       int64  // how many keys the range has, whatever they hold
	last        int64  // the revision at which one of them changed last
	deleted     bool   // a key was deleted since, maybe the one changed last

	heardAt time.Time // the last answer of the watch or probe that fits, or the trouble
	calm    bool      // the range was heard of since the last trouble
	awaited int64     // the revision that the watch must reach; 0: none

	every  time.Duration // the silence after which the range is probed
	spread uint8         // shortens the first silences after trouble, so that ranges are not probed at one instant
}

// listed takes a list, and reports whether the snapshot changed. A linearizable list is the truth even
// if its revision is lower than the known one: then etcd's history was replaced.
func (r *replica[T]) listed(l *listing[T], provisional bool) bool {
	changed := !r.known || r.provisional != provisional
	r.known, r.provisional = true, provisional
	r.cluster, r.term = l.header.GetClusterId(), l.header.GetRaftTerm()
	r.revision = l.header.GetRevision()
	r.applied, r.total, r.last, r.deleted = r.revision, l.total, l.last, false
	return l.load.finish() || changed
}

// verified takes a list that was made while the watch goes on, after the connection to etcd has come back, or another range has found
// trouble. If etcd's history was replaced by one that is as long by now, the watch goes on as if nothing had happened, and only a list
// shows the difference.
// verified reports whether the snapshot changed. An error means that the watch is at a revision that etcd has yet to reach.
func (r *replica[T]) verified(l *listing[T], now time.Time) (changed bool, err error) {
	if l.header.GetClusterId() != r.cluster {
		return false, errCluster
	}
	if l.header.GetRaftTerm() < r.term || l.header.GetRevision() < r.revision {
		return false, errReplaced
	}
	changed = r.listed(l, false)
	r.resetLiveness(now)
	return changed, nil
}

// resetLiveness makes the range be probed soon: the watch is on a connection that may be new.
func (r *replica[T]) resetLiveness(now time.Time) {
	r.heardAt, r.calm, r.awaited = now, false, 0
}

// heard takes an answer of the watch, and reports whether the snapshot changed.
func (r *replica[T]) heard(resp *clientv3.WatchResponse, now time.Time) (changed bool, err error) {
	if err := resp.Err(); err != nil {
		return false, err
	}
	// The header itself is not passed on: it is a struct in etcd's client up to 3.6, and a pointer from 3.7 on.
	behind, err := r.fence(resp.Header.GetClusterId(), resp.Header.GetRaftTerm(), resp.Header.GetRevision())
	if err != nil {
		return false, err
	}
	for _, event := range resp.Events {
		var change bool
		switch {
		case event.Kv.ModRevision <= r.applied: // a list has it
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
	case r.total < int64(r.set.used.entries): // those that no event has ended are of another history
		return changed, errMissed
	case behind:
		r.suspect(r.revision, now)
	case r.set.truncated && r.calm && r.awaited == 0: // the next probe, which looks for room, stays due
	case !resp.Created && max(r.revision, r.applied) >= r.awaited: // that it was opened says little
		r.fits(now)
	}
	return changed, nil
}

// fence compares the header of an answer of the watch with the known one. An answer from behind comes from a member that lags,
// or from an etcd that was restored: a probe finds out.
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

// fits notes that the watch or a probe has answered as it should.
func (r *replica[T]) fits(now time.Time) {
	if !r.calm {
		now = now.Add(-r.every / 256 * time.Duration(r.spread))
	}
	r.heardAt, r.calm, r.awaited = now, true, 0
}

// suspect notes that the watch must reach a revision, unless one was awaited already, which it reports.
func (r *replica[T]) suspect(revision int64, now time.Time) (before bool) {
	if r.awaited != 0 {
		return true
	}
	r.awaited, r.heardAt = revision, now
	return false
}

// due returns when to probe the range.
func (r *replica[T]) due() time.Time {
	switch {
	case r.awaited != 0:
		return r.heardAt.Add(lagAllowed)
	case !r.calm:
		return r.heardAt.Add(probeSoon - probeSoon/512*time.Duration(r.spread))
	}
	return r.heardAt.Add(r.every)
}

// probed takes a probe. An error means that the watch has missed something, or that etcd was replaced.
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

// agrees reports whether a probe shows the content of the replica.
func (r *replica[T]) agrees(resp *clientv3.GetResponse) bool {
	if resp.Count != r.total {
		return false
	}
	for _, kv := range resp.Kvs {
		if kv.ModRevision > r.last || kv.ModRevision < r.last && !r.deleted || !r.set.agrees(kv) {
			return false
		}
	}
	return true
}

// snapshot returns the content, nil while nothing is known.
func (r *replica[T]) snapshot() *Snapshot[T] {
	if !r.known {
		return nil
	}
	return &Snapshot[T]{
		Items: r.set.commit(), Removed: r.set.takeRemoved(),
		Revision: r.applied, Provisional: r.provisional, Truncated: r.set.truncated,
	}
}
