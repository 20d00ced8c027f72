package lease

import (
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// holding says whose key etcd has, as far as known.
type holding int

const (
	unknown holding = iota
	absent
	ours    // on a lease of ours
	foreign // another process's, put after ours
)

// keyValue is what etcd has under a key.
type keyValue struct {
	value   string
	lease   clientv3.LeaseID
	rev     int64 // the mod revision
	created int64 // the create revision
}

// slot is one key of an entry: what is wanted there, what etcd has there, and when to read or write it.
type slot struct {
	key     string
	value   string
	leaving string // the value with the mark that the key is about to go; "": there is no room for one
	retired bool   // named by a retired lease, so that it goes with that
	marked  bool   // a mark was tried since the key is to go
	markRev int64  // the mod revision that a mark expects which may yet arrive; 0: there is none

	elect     func(Candidacy) // of the entry's candidate, as in Item; nil: this is another key
	election  string          // of the candidate, as in Item
	candidacy Candidacy       // that elect was last told

	stored
	ourRev  int64 // of our last put, as far as known: an older put of another process did not follow it
	yielded bool  // to another process that put the key after us

	pending   *step              // a write whose outcome is not known
	ambiguous []clientv3.LeaseID // those on which a write may have arrived, or may yet
	deletions []clientv3.LeaseID // those of them that a deletion is guarded by which may have arrived, or may yet

	// Reads and writes are refused key by key.
	readAccess
	writeAccess
	pacing
}

// stored is what etcd has under a key, as far as known.
type stored struct {
	has     holding
	lease   clientv3.LeaseID // that the key hangs on, where it is ours
	written string           // its value, where it is ours
	rev     int64            // its mod revision; 0: absent, or not known
	created int64            // its create revision, where it is ours; 0: not known
}

func newSlot(item Item, lease clientv3.LeaseID) *slot {
	return &slot{
		key: item.Key(lease), value: item.Value, leaving: item.Leaving, elect: item.Elect, election: item.Election,
		readAccess: newReadAccess(), writeAccess: newWriteAccess(),
	}
}

// adopt gives the key to a new entry, which takes over whoever holds it. Calls for the old one may be
// under way, so the key is read before anything is built on what is known.
func (s *slot) adopt(value, leaving string) {
	s.value, s.leaving, s.retired, s.marked = value, leaving, false, false
	s.ourRev, s.yielded = 0, false
	s.retry()
	s.readFrom(time.Time{})
}

// placed reports whether the key is in etcd as ours, as far as known.
func (s *stored) placed() bool { return s.has == ours }

// on reports whether the key is ours and hangs on a lease.
func (s *stored) on(id clientv3.LeaseID) bool { return s.has == ours && s.lease == id }

// markable reports whether the key can be marked and has not been.
func (s *slot) markable() bool {
	return s.has == ours && s.leaving != "" && !s.marked && !s.retired && !s.blind && s.pending == nil
}

// settled reports whether there is nothing left to find out about the key.
func (s *slot) settled() bool { return s.pending == nil && len(s.ambiguous) == 0 && !s.mustRead }

// asWanted reports whether the key has its value and keeps it. While the key is as a mark expects that was not
// answered, the mark may arrive: putting the value once more ends that.
func (s *slot) asWanted() bool { return s.has == ours && s.written == s.value && s.rev != s.markRev }

// needsRead reports whether the key is to be read before it is put. The right to read one that could not be
// read may be back, and the key another process's by now.
func (s *slot) needsRead(now time.Time) bool {
	return s.mustRead || s.pending != nil || s.blind && s.ourRev != 0 && now.Sub(s.lastRead) > readFresh
}

// readTells takes in that a guarded put was denied, and reports whether the key is to be read to tell why. It is
// not if it was read since the put before was denied.
func (s *slot) readTells(now time.Time) bool {
	if !s.deniedAt.IsZero() && !s.lastRead.Before(s.deniedAt) {
		s.deniedAt = time.Time{}
		return false
	}
	s.deniedAt = now
	s.readFrom(now)
	return true
}

// readDue reports whether the key is to be read now, whether or not it is to be put.
func (s *slot) readDue(now time.Time) bool {
	return s.pending != nil || s.mustRead && !now.Before(s.readAt)
}

// conflictDue reports whether to find out if another process still has the key.
func (s *slot) conflictDue(now time.Time) bool {
	return s.has == foreign && !now.Before(s.notBefore) && !now.Before(s.readAt)
}

// mayBeBack has the key read that is to go and is thought to have gone, or to be another process's: an etcd that was
// restored may have it as ours again.
func (s *slot) mayBeBack() {
	if s.ourRev != 0 {
		s.readFrom(time.Time{})
	}
}

// setAbsent takes in that etcd does not have the key.
func (s *slot) setAbsent() { s.stored = stored{has: absent} }

// forget gives up all that is known of the key, which is to be read.
func (s *slot) forget() {
	if s.has == foreign {
		s.notBefore = time.Time{}
	}
	s.has, s.ourRev = unknown, 0
	s.readFrom(time.Time{})
}

// leaseGone takes in that a lease does not exist any more.
func (s *slot) leaseGone(now time.Time, id clientv3.LeaseID) {
	if slices.Contains(s.ambiguous, id) {
		s.resolve(id)
		// The write may have arrived before the lease went, and have taken the key along.
		if s.blind {
			s.written = "" // so that it is put again, if it is to be there
		} else {
			s.readFrom(now)
		}
	}
	if s.on(id) {
		s.setAbsent()
	}
	s.excuse(id)
}

// resolve takes in that no write on a lease is ambiguous any more.
func (s *slot) resolve(id clientv3.LeaseID) {
	is := func(l clientv3.LeaseID) bool { return l == id }
	s.ambiguous = slices.DeleteFunc(s.ambiguous, is)
	s.deletions = slices.DeleteFunc(s.deletions, is)
}

// mayGo reports whether a deletion of the key was sent that may have arrived, or may yet. It misses a key that has
// moved to another lease meanwhile.
func (s *slot) mayGo() bool {
	return s.pending != nil && s.pending.kind == remove || slices.Contains(s.deletions, s.lease)
}

// found takes in what etcd has under a key; nil: nothing.
func (c *core) found(now time.Time, e *entry, s *slot, kv *keyValue) {
	s.readable(now)
	c.settle(now, s, kv)
	switch {
	case kv == nil:
		if s.has == ours && e.want == present && !s.retired {
			c.doubt(now, s)
			s.deleted(now, s.lease)
			e.err = fmt.Errorf("key %q was deleted", s.key)
		}
		s.setAbsent()
	case kv.rev < s.ourRev:
		c.restored(now)
	case c.isOwn(kv.lease):
		if s.has == ours && s.rev != kv.rev && kv.value != s.value {
			s.disturbed(now)
			e.err = fmt.Errorf("key %q was overwritten", s.key)
		}
		c.dropTombstone(s.key)
		s.stored, s.ourRev = stored{ours, kv.lease, kv.value, kv.rev, kv.created}, kv.rev
	case s.ourRev == 0 && !s.yielded: // the newer process takes over
		s.has, s.rev = unknown, kv.rev
	default:
		s.stored, s.yielded = stored{has: foreign}, true
		s.foreignAt, s.notBefore = now, now.Add(conflictEvery)
		e.err = conflictError{s.key, kv.lease}
	}
}

// settle decides whether a pending write arrived, now that its key was read. One that did not may do so
// for as long as its lease lives, so the lease is replaced.
func (c *core) settle(now time.Time, s *slot, kv *keyValue) {
	st := s.pending
	if st == nil {
		return
	}
	s.pending = nil
	if st.arrived(kv) {
		s.resolve(st.lease)
		return
	}
	c.replaceLease(now, st.lease, fmt.Errorf("key %q: a write that etcd did not answer may arrive late", s.key))
}

// conflictError says that another process holds a key.
type conflictError struct {
	key   string
	lease clientv3.LeaseID
}

func (e conflictError) Error() string {
	if e.lease == 0 {
		return fmt.Sprintf("key %q was put by someone else, on no lease: delete it, or register under another instance id", e.key)
	}
	return fmt.Sprintf("key %q is held by another process, on lease %x: give each its own instance id", e.key, int64(e.lease))
}
