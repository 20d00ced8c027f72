package lease

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
)

const (
	// conflictEvery spaces the reads of a key that someone else holds, which find out whether they still do. Whatever
	// the watches tell, checkMin lies between two of them, and between two checks.
	conflictEvery = 2 * time.Second
	checkMin      = 200 * time.Millisecond
	// restoreMin and restoreMax space the puts of a key that someone keeps deleting or overwriting. The
	// first is not delayed, and after calm it is the first again.
	restoreMin = time.Second
	restoreMax = 2 * time.Second
	calm       = time.Minute
	// refusedMin and refusedMax space the attempts at a key that etcd refuses to write or to read, for want
	// of a permission say.
	refusedMin = 2 * time.Second
	refusedMax = time.Minute
	// readFresh is how long a denied read counts when the key is put.
	readFresh = time.Second
	// leaseFaultMin and leaseFaultMax space the times that one key's denial is taken for the lease's fault.
	leaseFaultMin = time.Minute
	leaseFaultMax = time.Hour
)

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// pacing spaces the puts of a key that others keep changing.
type pacing struct {
	putAt     time.Time        // of the last put
	spacing   time.Duration    // between putAt and the next restoration
	notBefore time.Time        // no put before
	otherAt   time.Time        // when the key was last found to be someone else's
	suspected bool             // the lease was suspected since the last put
	deletedOn clientv3.LeaseID // that the key was on when it was last found deleted
}

// putWaits reports whether the key, if someone deletes it now, is put again only after a pause.
func (p *pacing) putWaits(now time.Time) bool {
	return now.Before(p.putAt.Add(p.spacing))
}

// wasPut takes in that the key was put.
func (p *pacing) wasPut(now time.Time) { p.putAt, p.suspected, p.deletedOn = now, false, 0 }

// deleted takes in that the key was found deleted, and spaces its restoration.
func (p *pacing) deleted(now time.Time, on clientv3.LeaseID) {
	p.disturbed(now)
	p.deletedOn = on
}

// forgive takes in that a lease does not exist any more. A key that went with it was deleted by nobody, and need not wait.
func (p *pacing) forgive(gone clientv3.LeaseID) {
	if p.deletedOn == gone {
		p.deletedOn, p.notBefore = 0, time.Time{}
	}
}

// disturbed takes in that someone deleted the key or wrote over it, and spaces its restoration.
func (p *pacing) disturbed(now time.Time) {
	if now.Sub(p.putAt) > calm {
		p.spacing = 0
	}
	p.notBefore = p.putAt.Add(p.spacing)
	p.spacing = min(max(2*p.spacing, restoreMin), restoreMax)
}

// readAccess says when to read a key, and whether etcd lets us.
type readAccess struct {
	mustRead   bool      // before anything else is done with the key
	readAt     time.Time // no read before
	lastRead   time.Time // or when a read was denied last
	unreadable bool      // etcd does not let us read the key
	denial     error     // its last answer to a read that it refused
	denials    backoff.Backoff
}

// readFrom has the key read at an instant, or after it.
func (a *readAccess) readFrom(at time.Time) { a.mustRead, a.readAt = true, at }

// wasRead takes in that the key was read.
func (a *readAccess) wasRead(now time.Time) {
	a.mustRead, a.readAt, a.lastRead, a.unreadable = false, time.Time{}, now, false
	a.denials.Reset()
}

// asKnown takes in that the key was compared with what is known of it, and is the same.
func (a *readAccess) asKnown(now time.Time) { a.lastRead = now }

// readDenied takes in that the key cannot be read. It is tried again, less and less often.
func (a *readAccess) readDenied(now time.Time, err error, jitter func(time.Duration) time.Duration) {
	a.mustRead, a.lastRead, a.unreadable, a.denial = false, now, true, err
	a.readAt = now.Add(jitter(a.denials.Bound()))
}

// writeAccess says when to write a key that etcd refuses.
type writeAccess struct {
	refused  error     // etcd's answer to the last write, where it refused that
	retryAt  time.Time // no write before
	deniedAt time.Time // when a guarded put was denied, and the key had to be read to tell why; zero: told
	refusals backoff.Backoff
	leaseFault
}

// leaseFault says when a denial is taken for the lease's fault: another user's key may hang on it, and etcd then
// denies our puts.
type leaseFault struct {
	faultAt time.Time // not before
	faults  backoff.Backoff
}

// leaseAtFault reports whether a denial is taken for the lease's fault. If so, the next ones are not for a while.
func (f *leaseFault) leaseAtFault(now time.Time) bool {
	if now.Before(f.faultAt) {
		return false
	}
	f.faultAt = now.Add(f.faults.Bound())
	return true
}

// refuse takes in that etcd does not take the key. It is tried again, less and less often.
func (a *writeAccess) refuse(now time.Time, err error, jitter func(time.Duration) time.Duration) {
	a.refused, a.retryAt = err, now.Add(jitter(a.refusals.Bound()))
}

// wait has the key written no earlier than after a while.
func (a *writeAccess) wait(now time.Time, d time.Duration) { a.retryAt = now.Add(d) }

// retry forgets a refusal, so that the key is tried at once.
func (a *writeAccess) retry() { a.refused, a.retryAt = nil, time.Time{} }

// accepted takes in that etcd took the key.
func (a *writeAccess) accepted() {
	a.refused, a.deniedAt, a.faultAt = nil, time.Time{}, time.Time{}
	a.refusals.Reset()
	a.faults.Reset()
}

// batchSize is the number of keys that a transaction may have. It is halved when etcd refuses a transaction,
// down to the key at fault, and doubled when etcd takes a full one.
type batchSize int

// MaxOps is the most. etcd takes 128.
const MaxOps = 100

func (n *batchSize) shrink(used int) { *n = batchSize(max(1, min(int(*n), used)/2)) }

func (n *batchSize) grow(used int) {
	if used >= int(*n) {
		*n = min(2**n, MaxOps)
	}
}
