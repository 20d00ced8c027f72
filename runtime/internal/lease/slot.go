package lease

import (
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
)

// holder says whose key etcd has, as far as known.
type holder int

const (
	unknown holder = iota
	absent
	self  // on a lease of ours
	older // another process, which put it before us
	other // another process, which put it after us
)

// keyValue is what etcd has under a key.
type keyValue struct {
	value string
	lease clientv3.LeaseID
	rev   int64 // the mod revision
}

type kind int

const (
	put      kind = iota // if the key is as known
	putBlind             // whatever the key is, because etcd does not let us read it
	mark                 // put the value that says that the key is about to go, if the key is as known
	remove               // if the key still hangs on the lease
)

// String names the kind for errors.
func (k kind) String() string { return [...]string{"put", "put", "mark", "delete"}[k] }

// write is a write to one key.
type write struct {
	kind  kind
	value string           // the put's
	lease clientv3.LeaseID // the put's, or the one that a removal is guarded by
	rev   int64            // the mod revision that a guarded put or a mark expects
}

// arrived reports whether the write was made, given what is under its key now. It may arrive later if not.
func (w *write) arrived(kv *keyValue) bool {
	if w.kind == remove {
		return kv == nil || kv.lease != w.lease
	}
	return kv != nil && kv.lease == w.lease && kv.value == w.value && kv.rev > w.rev
}

// slot is one key of an entry: what is wanted there, what etcd has there, and when to read or write it.
type slot struct {
	key     string
	value   string
	leaving string // the value with the mark that the key is about to go; "": there is no room for one
	retired bool   // named by a retired lease, so that it goes with that
	marked  bool   // a mark was tried since the key is to go
	lateRev int64  // the mod revision that a mark or a put expects which may yet arrive; 0: there is none

	stored
	ownRev   int64 // of our last put, as far as known: an older put of another process did not follow it
	conceded bool  // to another process that put the key after us

	pending   *write             // its outcome is not known
	ambiguous []clientv3.LeaseID // leases of writes that etcd has not answered: they may have arrived, or may still

	// Reads and writes are refused key by key.
	readAccess
	writeAccess
	pacing
}

// stored is what etcd has under a key, as far as known.
type stored struct {
	has     holder
	lease   clientv3.LeaseID // that the key hangs on, where somebody has it
	written string           // its value, where it is ours
	rev     int64            // its mod revision; 0: absent, or not known
}

func newSlot(item Item, lease clientv3.LeaseID) *slot {
	s := &slot{key: item.Key(lease), value: item.Value, leaving: item.Leaving}
	s.denials = backoff.Backoff{Base: refusedMin, Max: refusedMax}
	s.refusals = s.denials
	s.faults = backoff.Backoff{Base: leaseFaultMin, Max: leaseFaultMax}
	return s
}

// renamed returns the slot of the name that the item has on another lease. Its first denial is as little the lease's
// fault as the last one was.
func (s *slot) renamed(item Item, lease clientv3.LeaseID) *slot {
	next := newSlot(item, lease)
	next.leaseFault = s.leaseFault
	return next
}

// adopt gives the key to a new entry, which takes over whoever holds it. Calls for the old one may be
// under way, so the key is read before anything is built on what is known.
func (s *slot) adopt(value, leaving string) {
	s.value, s.leaving, s.retired, s.marked = value, leaving, false, false
	s.ownRev, s.conceded = 0, false
	s.retry()
	s.readFrom(time.Time{})
}

// placed reports whether the key is in etcd as ours, as far as known.
func (s *stored) placed() bool { return s.has == self }

// on reports whether the key is ours and hangs on a lease.
func (s *stored) on(id clientv3.LeaseID) bool { return s.has == self && s.lease == id }

// settled reports whether there is nothing left to find out about the key.
func (s *slot) settled() bool { return s.pending == nil && len(s.ambiguous) == 0 && !s.mustRead }

// asWanted reports whether the key has its value and keeps it. While the key is as a write expects that was not
// answered, the write may arrive: putting the value once more ends that.
func (s *slot) asWanted() bool { return s.has == self && s.written == s.value && s.rev != s.lateRev }

// upToDate reports whether etcd has the key as wanted, and nothing is under way that may change it.
func (s *slot) upToDate() bool {
	return s.asWanted() && s.pending == nil && !s.mustRead && !slices.Contains(s.ambiguous, s.lease)
}

// needsRead reports whether the key is to be read before it is put. The right to read one that could not be
// read may be back, and the key another process's by now.
func (s *slot) needsRead(now time.Time) bool {
	return s.mustRead || s.pending != nil || s.unreadable && s.ownRev != 0 && now.Sub(s.lastRead) > readFresh
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
	return s.has == other && !now.Before(s.notBefore) && !now.Before(s.readAt)
}

// look has it found out soon if another process still has the key.
func (s *slot) look(now time.Time) {
	if s.has == other {
		s.notBefore = latest(now, s.otherAt.Add(checkMin))
	}
}

// mayBeBack has the key read although it is to go and is thought gone, or another process's: a restored etcd may have it
// as ours again.
func (s *slot) mayBeBack() {
	if s.ownRev != 0 {
		s.readFrom(time.Time{})
	}
}

// setAbsent takes in that etcd does not have the key.
func (s *slot) setAbsent() { s.stored = stored{has: absent} }

// setOwn takes in that etcd has the key on a lease of ours.
func (s *slot) setOwn(kv *keyValue) {
	s.stored, s.ownRev = stored{self, kv.lease, kv.value, kv.rev}, kv.rev
}

// found takes in what another process has put under the key. It returns an error if that process is the newer one, which
// keeps the key. Otherwise this one takes the key over.
func (s *slot) found(now time.Time, kv *keyValue) error {
	if s.ownRev == 0 && !s.conceded {
		s.stored = stored{has: older, lease: kv.lease, rev: kv.rev}
		return nil
	}
	s.stored, s.conceded = stored{has: other, lease: kv.lease}, true
	s.otherAt, s.notBefore = now, now.Add(conflictEvery)
	return s.conflict()
}

// conflict returns an error that says who has the key, nil unless that is another process for good.
func (s *slot) conflict() error {
	switch {
	case s.has != other:
		return nil
	case s.lease == 0:
		return fmt.Errorf("key %q was put by someone else, on no lease: delete it, or register under another instance id", s.key)
	}
	return fmt.Errorf("key %q is held by another process, on lease %x: give each its own instance id", s.key, int64(s.lease))
}

// unverified reports whether etcd may have the key, or may not, because it does not let us read it.
func (s *slot) unverified() bool {
	return s.unreadable && s.has != absent && s.has != other
}

// forget gives up all that is known of the key, which is to be read.
func (s *slot) forget() {
	if s.has == other {
		s.notBefore = time.Time{}
	}
	s.has, s.ownRev = unknown, 0
	s.readFrom(time.Time{})
}

// leaseGone takes in that a lease does not exist any more.
func (s *slot) leaseGone(now time.Time, id clientv3.LeaseID) {
	if slices.Contains(s.ambiguous, id) {
		s.resolve(id)
		// The write may have arrived before the lease went, and have taken the key along.
		if s.unreadable {
			s.written = "" // so that it is put again, if it is to be there
		} else {
			s.readFrom(now)
		}
	}
	switch {
	case s.on(id):
		s.setAbsent()
	case s.has == older && s.lease == id:
		s.forget()
	}
	s.forgive(id)
}

// resolve takes in that no write on a lease is ambiguous any more.
func (s *slot) resolve(id clientv3.LeaseID) {
	s.ambiguous = slices.DeleteFunc(s.ambiguous, func(l clientv3.LeaseID) bool { return l == id })
}

// send notes that a write is under way, and answered that it is not any more.
func (s *slot) send(w write) { s.pending = &w }
func (s *slot) answered()    { s.pending = nil }

// skipMark has the key removed without a mark.
func (s *slot) skipMark() { s.marked = true }

// unanswered takes in that a write may have arrived, or may yet arrive. A mark is tried once: the deletion matters more.
func (s *slot) unanswered(w write) {
	if w.kind == mark || w.kind == put {
		s.lateRev = w.rev
	}
	if w.kind == mark {
		return
	}
	s.pending = &w
	s.ambiguous = append(s.ambiguous, w.lease)
}

// settle decides whether the pending write arrived, now that the key was read; kv is nil if it is absent. It returns
// the write if that did not: it may do so for as long as its lease lives.
func (s *slot) settle(kv *keyValue) (late *write) {
	w := s.pending
	if w == nil {
		return nil
	}
	s.pending = nil
	if !w.arrived(kv) {
		return w
	}
	s.ambiguous = withoutOne(s.ambiguous, w.lease)
	return nil
}

// withoutOne returns the leases of writes without one write. Another on the same lease may still arrive.
func withoutOne(leases []clientv3.LeaseID, id clientv3.LeaseID) []clientv3.LeaseID {
	if i := slices.Index(leases, id); i >= 0 {
		return slices.Delete(leases, i, i+1)
	}
	return leases
}

// done takes in that a write is made, at a revision.
func (s *slot) done(now time.Time, w write, revision int64) {
	switch w.kind {
	case mark:
		s.marked, s.written, s.rev = true, w.value, revision
		if s.has == self {
			s.ownRev = revision
		}
	case remove:
		s.refused = nil
		s.wasRead(now) // the answer tells what a read would
		s.setAbsent()
	default:
		s.stored = stored{self, w.lease, w.value, revision}
		s.ownRev, s.conceded = revision, false
		s.marked = false // by an entry before, whose mark was answered after this one took the key over
		s.wasPut(now)
		s.accepted()
	}
}
