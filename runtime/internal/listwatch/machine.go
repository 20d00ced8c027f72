package listwatch

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// probeAfter is the silence after which the watch is asked for a sign of life.
	probeAfter = 4 * time.Second
	// silentAfter is the silence after which a watch is given up.
	silentAfter = 8 * time.Second
	// lagAllowed is how long answers may come from behind what is known: a member that lags for
	// longer, or a history that was replaced, is settled by a new list.
	lagAllowed = time.Second
)

// Reasons to list again. Each names itself in logs and metrics.
var (
	errClosed   = errors.New("the watch was closed")
	errSilent   = fmt.Errorf("the watch did not answer for %v", silentAfter)
	errReplaced = errors.New("etcd's revision went backwards: it was restored from a backup or wiped")
	errCluster  = errors.New("another etcd cluster answered")
	errMissed   = errors.New("the watch missed changes")
)

// machine is the state of one range and what each answer of etcd's does to it. It does no I/O and
// reads no clock.
//
//	listed ──▶ following ──▶ (any error that a method returns) ──▶ to be listed again
//
// A watch that is silent is asked for a sign of life. One that has given such signs before and gives
// none any more is dead. One that never has may be behind etcd's gRPC proxy, which knows no such
// requests: it is mute, and a look at the range tells whether it missed anything.
//
// What is known stays known through every error, until a list replaces it.
type machine[T any] struct {
	set set[T]

	known       bool // a list has answered
	provisional bool // ... only from a member without a leader
	cluster     uint64
	term        uint64    // of the last answer
	revision    int64     // highest that any answer carried
	applied     int64     // up to here events are in set
	heardAt     time.Time // when the watch last answered
	behindSince time.Time // since when answers carry a lower revision than known; zero: they do not
	member      uint64    // that the watch is at; 0: not known
	moved       bool      // the watch is at another member than it was
	total       int64     // keys in the range, whatever they hold
	answers     bool      // the watch has given a sign of life when asked
	mute        bool      // it has not, and is not asked any more
}

// listed takes in a list. A linearizable one is the truth, also where its revision is lower than
// what is known: then etcd's history was replaced. It returns whether the content changed.
func (m *machine[T]) listed(resp *clientv3.GetResponse, provisional bool) bool {
	first := !m.known || m.provisional != provisional
	m.known, m.provisional = true, provisional
	m.cluster, m.term = resp.Header.GetClusterId(), resp.Header.GetRaftTerm()
	m.revision = resp.Header.GetRevision()
	m.applied, m.total = m.revision, int64(len(resp.Kvs))
	m.behindSince = time.Time{}
	return m.set.replace(resp.Kvs) || first
}

// verified takes in a list that was made beside the watch, after a sign that etcd may not be the one
// that it was. Where its history was replaced by one that is as long by now, the watch goes on as if
// nothing had happened: only a list shows what it has missed. It returns whether the content changed,
// and an error where the watch is at a revision that etcd has yet to reach.
func (m *machine[T]) verified(resp *clientv3.GetResponse) (changed bool, err error) {
	m.moved = false
	if resp.Header.GetClusterId() != m.cluster {
		return false, errCluster
	}
	if resp.Header.GetRaftTerm() < m.term || resp.Header.GetRevision() < m.revision {
		return false, errReplaced
	}
	return m.listed(resp, false), nil
}

// watching is told that a watch from the revision after the list's was opened.
func (m *machine[T]) watching(now time.Time) {
	m.heardAt, m.answers, m.mute = now, false, false
	m.member, m.moved = 0, false
}

// heard takes in an answer of the watch. It returns whether the content changed, and an error
// where the range must be listed again.
func (m *machine[T]) heard(resp *clientv3.WatchResponse, now time.Time) (changed bool, err error) {
	if err := resp.Err(); err != nil {
		return false, err
	}
	if err := m.fence(resp.Header, now); err != nil {
		return false, err
	}
	m.heardAt = now
	if member := resp.Header.GetMemberId(); member != m.member {
		m.member, m.moved = member, m.member != 0
	}
	m.answers = m.answers || resp.IsProgressNotify()
	for _, event := range resp.Events {
		if event.Kv.ModRevision <= m.applied {
			continue // already in the list
		}
		switch {
		case event.Type == clientv3.EventTypeDelete:
			m.total--
			changed = m.set.remove(string(event.Kv.Key)) || changed
		case event.IsCreate():
			m.total++
			fallthrough
		default:
			changed = m.set.put(event.Kv) || changed
		}
	}
	if n := len(resp.Events); n > 0 {
		m.applied = max(m.applied, resp.Events[n-1].Kv.ModRevision)
	}
	return changed, nil
}

// fence compares an answer's header with what is known. A watch at a revision that etcd's history
// has not reached hears nothing, without an error, so a lower revision is the only sign of a
// restored or wiped etcd.
func (m *machine[T]) fence(h *etcdserverpb.ResponseHeader, now time.Time) error {
	if h.GetClusterId() == 0 {
		return nil // etcd's gRPC proxy leaves some headers empty
	}
	if h.GetClusterId() != m.cluster {
		return errCluster
	}
	if h.GetRaftTerm() < m.term || h.GetRevision() < m.revision {
		if m.behindSince.IsZero() {
			m.behindSince = now
		}
		if now.Sub(m.behindSince) >= lagAllowed {
			return errReplaced
		}
		return nil
	}
	m.behindSince = time.Time{}
	m.term, m.revision = h.GetRaftTerm(), h.GetRevision()
	return nil
}

// doubt makes a sign of life due now.
func (m *machine[T]) doubt(now time.Time) {
	due := now.Add(-probeAfter)
	if m.mute {
		due = now.Add(-silentAfter)
	}
	if m.heardAt.After(due) {
		m.heardAt = due
	}
}

// due tells how long the watch may be left alone; 0 is until now. look says that there is no use in
// asking it, and the range is to be looked at instead. An error means that it is dead.
func (m *machine[T]) due(now time.Time) (askIn time.Duration, look bool, err error) {
	silence := now.Sub(m.heardAt)
	switch {
	case silence >= silentAfter && m.answers:
		return 0, false, errSilent
	case silence >= silentAfter:
		return 0, true, nil
	case m.mute:
		return silentAfter - silence, false, nil
	case !m.behindSince.IsZero():
		return max(0, m.behindSince.Add(lagAllowed).Sub(now)), false, nil
	}
	return max(0, probeAfter-silence), false, nil
}

// looked takes in a look at the range: how many keys there are, and the one that was changed last.
// An error means that the watch has missed something.
func (m *machine[T]) looked(resp *clientv3.GetResponse, now time.Time) error {
	switch {
	case resp.Header.GetClusterId() != m.cluster:
		return errCluster
	case resp.Header.GetRevision() < m.revision:
		return errReplaced
	case resp.Count != m.total || len(resp.Kvs) > 0 && resp.Kvs[0].ModRevision > m.applied:
		return errMissed
	}
	m.heardAt, m.mute = now, true
	return nil
}

// snapshot returns the content, nil while nothing is known.
func (m *machine[T]) snapshot() *Snapshot[T] {
	if !m.known {
		return nil
	}
	return &Snapshot[T]{Items: m.set.commit(), Revision: m.applied, Provisional: m.provisional}
}
