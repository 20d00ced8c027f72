package lease

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/backoff"
)

const (
	// conflictEvery spaces the reads of a key that someone else holds, which find out whether they still do.
	conflictEvery = 2 * time.Second
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
	// suspectMin and suspectMax space the times that one key's denial is taken for the lease's fault.
	suspectMin = time.Minute
	suspectMax = time.Hour
)

// pacing spaces the puts of a key that others keep changing.
type pacing struct {
	putAt     time.Time        // of the last put
	spacing   time.Duration    // between putAt and the next restoration
	notBefore time.Time        // no put before
	foreignAt time.Time        // when the key was last found to be someone else's
	doubted   bool             // the lease was doubted since the last put
	deletedOn clientv3.LeaseID // that the key was on when it was last found deleted
}

// paused reports whether the key, if someone deletes it now, is put again only after a pause.
func (p *pacing) paused(now time.Time) bool {
	return now.Before(p.putAt.Add(p.spacing))
}

// put takes in that the key was put.
func (p *pacing) put(now time.Time) { p.putAt, p.doubted, p.deletedOn = now, false, 0 }

// deleted takes in that the key was found deleted, and spaces its restoration.
func (p *pacing) deleted(now time.Time, on clientv3.LeaseID) {
	p.disturbed(now)
	p.deletedOn = on
}

// excuse takes in that a lease does not exist any more. A key that went with it was deleted by nobody, and need not wait.
func (p *pacing) excuse(gone clientv3.LeaseID) {
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
	mustRead  bool      // before anything else is done with the key
	readAt    time.Time // no read before
	lastRead  time.Time // or when a read was denied last
	blind     bool      // etcd does not let us read the key
	blindness backoff.Backoff
}

func newReadAccess() readAccess {
	return readAccess{blindness: backoff.Backoff{Base: refusedMin, Max: refusedMax}}
}

// readFrom has the key read at an instant, or after it.
func (a *readAccess) readFrom(at time.Time) { a.mustRead, a.readAt = true, at }

// readable takes in that the key was read.
func (a *readAccess) readable(now time.Time) {
	a.mustRead, a.readAt, a.lastRead, a.blind = false, time.Time{}, now, false
	a.blindness.Reset()
}

// unreadable takes in that the key cannot be read. It is tried again, less and less often.
func (a *readAccess) unreadable(now time.Time, jitter func(time.Duration) time.Duration) {
	a.mustRead, a.lastRead, a.blind = false, now, true
	a.readAt = now.Add(jitter(a.blindness.Bound()))
}

// writeAccess says when to write a key that etcd refuses.
type writeAccess struct {
	refused    error     // etcd's answer to the last write, where it refused that
	retryAt    time.Time // no write before
	deniedAt   time.Time // when a guarded put was denied, and the key had to be read to tell why; zero: told
	refusals   backoff.Backoff
	suspectAt  time.Time // a denial is not taken for the lease's fault before
	suspicions backoff.Backoff
}

func newWriteAccess() writeAccess {
	return writeAccess{
		refusals:   backoff.Backoff{Base: refusedMin, Max: refusedMax},
		suspicions: backoff.Backoff{Base: suspectMin, Max: suspectMax},
	}
}

// refuse takes in that etcd does not take the key. It is tried again, less and less often.
func (a *writeAccess) refuse(now time.Time, err error, jitter func(time.Duration) time.Duration) {
	a.refused, a.retryAt = err, now.Add(jitter(a.refusals.Bound()))
}

// retry forgets a refusal, so that the key is tried at once.
func (a *writeAccess) retry() { a.refused, a.retryAt = nil, time.Time{} }

// accepted takes in that etcd took the key.
func (a *writeAccess) accepted() {
	a.refused, a.deniedAt, a.suspectAt = nil, time.Time{}, time.Time{}
	a.refusals.Reset()
	a.suspicions.Reset()
}
