package listwatch

import (
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// lagAllowed is how long answers may come from behind what is known: a member that lags for
// longer, or a history that was replaced, is settled by a new list.
const lagAllowed = time.Second

// Reasons to list again. Each names itself in logs and metrics.
var (
	errClosed   = errors.New("the watch was closed")
	errReplaced = errors.New("etcd's revision went backwards: it was restored from a backup or wiped")
	errCluster  = errors.New("another etcd cluster answered")
	errMissed   = errors.New("the watch missed changes")
)

// replica is what is known of a range. Its methods take etcd's answers, and decide whether they fit
// what is known. If one does not, they return an error, and the range must be listed again.
//
// What is known stays known through every error, until a list replaces it.
type replica[T any] struct {
	set set[T]

	known       bool // a list has answered
	provisional bool // ... from a member without a leader, or long ago
	cluster     uint64
	term        uint64    // of the last answer
	revision    int64     // the highest that any answer carried
	applied     int64     // the revision up to which events are in set
	life        signs     // of the watch
	behindSince time.Time // since when answers carry a lower revision; zero: they do not
	member      uint64    // the member that the watch is on; 0: not known
	moved       bool      // the watch has moved to another member
	blind       bool      // nobody tells that the connection to etcd is back
	reopened    bool      // the stream of the watch was lost: it may go on at another etcd, whose history is as long
	missing     int64     // a revision that a probe has shown changes up to which the watch has yet to tell of; 0: none
	missingAt   time.Time // when it was shown
	total       int64     // how many keys the range has, whatever they hold
}

// listed takes a list, and reports whether the snapshot changed. A linearizable list is the truth even
// if its revision is lower than what is known: then etcd's history was replaced.
func (r *replica[T]) listed(l *listing[T], provisional bool) bool {
	changed := !r.known || r.provisional != provisional || r.cluster != l.header.GetClusterId()
	r.known, r.provisional = true, provisional
	r.cluster, r.term = l.header.GetClusterId(), l.header.GetRaftTerm()
	r.revision = l.header.GetRevision()
	r.applied, r.total = r.revision, l.total
	r.behindSince, r.reopened, r.missing = time.Time{}, false, 0
	return l.load.finish() || changed
}

// verified takes a list that was made beside the watch, after a sign that etcd may be another than
// before. If etcd's history was replaced by one that is as long by now, the watch goes on as if nothing
// had happened, and only a list shows what it missed. verified reports whether the snapshot changed. An
// error means that the watch is at a revision that etcd has yet to reach.
func (r *replica[T]) verified(l *listing[T]) (changed bool, err error) {
	r.moved = false
	if l.header.GetClusterId() != r.cluster {
		return false, errCluster
	}
	if l.header.GetRaftTerm() < r.term || l.header.GetRevision() < r.revision {
		return false, errReplaced
	}
	return r.listed(l, false), nil
}

// watching notes that a watch from the revision after the list's was opened. Where no connection tells of its return, etcd may
// have become another one since the list, whose history is as long.
func (r *replica[T]) watching(now time.Time) {
	r.life.begin(now)
	r.member, r.moved = 0, false
	r.reopened = r.blind
}

// heard takes an answer of the watch, and returns how many times the snapshot changed.
func (r *replica[T]) heard(resp *clientv3.WatchResponse, now time.Time) (changes int, err error) {
	if err := resp.Err(); err != nil {
		return 0, err
	}
	// The header itself is not passed on: it is a struct in etcd's client up to 3.6, and a pointer from 3.7 on.
	if err := r.fence(resp.Header.GetClusterId(), resp.Header.GetRaftTerm(), resp.Header.GetRevision(), now); err != nil {
		return 0, err
	}
	r.life.heard(resp.IsProgressNotify(), now)
	if member := resp.Header.GetMemberId(); member != r.member {
		r.moved = r.moved || r.member != 0
		r.member = member
	}
	r.moved = r.moved || r.reopened
	last := int64(0)
	for _, event := range resp.Events {
		listed := event.Kv.ModRevision <= r.applied
		var changed bool
		switch {
		case listed: // made beside the watch
			changed = event.Type != clientv3.EventTypeDelete && r.set.was(event.Kv)
		case event.Type == clientv3.EventTypeDelete:
			r.total--
			changed = r.set.remove(string(event.Kv.Key))
		case event.IsCreate():
			r.total++
			fallthrough
		default:
			changed = r.set.put(event.Kv)
		}
		if changed && event.Kv.ModRevision != last { // those of one transaction are one change
			changes, last = changes+1, event.Kv.ModRevision
		}
	}
	if n := len(resp.Events); n > 0 {
		r.applied = max(r.applied, resp.Events[n-1].Kv.ModRevision)
	}
	return changes, err
}

// fence compares an answer's header with what is known. A watch from a revision that etcd has not
// reached hears nothing, and no error either, so a lower revision is the only sign of a restored or
// wiped etcd.
func (r *replica[T]) fence(cluster, term uint64, revision int64, now time.Time) error {
	if cluster == 0 {
		return nil // etcd's gRPC proxy leaves some headers empty
	}
	if cluster != r.cluster {
		return errCluster
	}
	if term < r.term || revision < r.revision {
		if r.behindSince.IsZero() {
			r.behindSince = now
		}
		if now.Sub(r.behindSince) >= lagAllowed {
			return errReplaced
		}
		return nil
	}
	r.behindSince = time.Time{}
	r.term, r.revision = term, revision
	if revision >= r.missing {
		r.missing = 0
	}
	return nil
}

// reconnected notes that the watch goes on over another connection, maybe at another member or another etcd.
func (r *replica[T]) reconnected(now time.Time) {
	r.member = 0
	r.life.trouble(now)
}

// lost notes that the stream of the watch was lost, and is being reopened.
func (r *replica[T]) lost(now time.Time) {
	r.reopened = true
	if !r.life.suspect() {
		r.life.trouble(now)
	}
}

// due returns when a sign of life is due, and the call that asks for it.
func (r *replica[T]) due(now time.Time) (at time.Time, by call) {
	if r.missing != 0 {
		return r.missingAt.Add(lagAllowed + r.life.beside), callProbe
	}
	at, by = r.life.due(now)
	if by == callProgress && !r.behindSince.IsZero() {
		at = earlier(at, r.behindSince.Add(lagAllowed))
	}
	return at, by
}

// headed takes where etcd was at some time since the watch last answered. latest is the highest revision that a watch
// of the stream began at. It returns the call that can tell whether the watch has missed something, callWait for none.
func (r *replica[T]) headed(h head, latest int64, now time.Time) (by call, err error) {
	revision := h.header.GetRevision()
	switch {
	case h.header.GetClusterId() != r.cluster:
		return callWait, errCluster
	case revision < r.revision:
		return callWait, errReplaced
	case revision == r.revision:
		if r.life.still(h.at); r.reopened {
			return callVerify, nil
		}
	case revision < latest:
		return callProbe, nil
	default:
		r.life.movedOn(latest, now)
	}
	return callWait, nil
}

// probed takes a probe of the range: the number of keys, and the key changed last. An error means that
// the watch has missed something, or owes an answer.
func (r *replica[T]) probed(resp *clientv3.GetResponse, latest int64, now time.Time) error {
	revision := resp.Header.GetRevision()
	switch {
	case resp.Header.GetClusterId() != r.cluster:
		return errCluster
	case revision < r.revision:
		return errReplaced
	case resp.Count != r.total || len(resp.Kvs) > 0 && resp.Kvs[0].ModRevision > r.applied:
		if r.missing == 0 { // the event may be on its way
			r.missing, r.missingAt = revision, now
		}
		if now.Sub(r.missingAt) < lagAllowed+r.life.beside {
			return nil
		}
		return errMissed
	}
	r.missing = 0
	if err := r.life.probed(revision, latest, now); err != nil {
		return err
	}
	if !r.life.noProgress { // a proxy's watch tells of lower revisions for as long as it likes
		r.revision = revision
	}
	return nil
}

// snapshot returns the content, nil while nothing is known.
func (r *replica[T]) snapshot() *Snapshot[T] {
	if !r.known {
		return nil
	}
	return &Snapshot[T]{
		Items: r.set.commit(), Removed: r.set.takeRemoved(),
		Revision: r.applied, Cluster: r.cluster, Provisional: r.provisional,
	}
}
