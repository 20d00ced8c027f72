package lease

import (
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
)

const (
	// restoreEvery spaces the puts of a key that someone keeps deleting or overwriting.
	restoreEvery = time.Second
	// conflictEvery spaces the reads of a key that another process has, which find out whether it still does.
	conflictEvery = 2 * time.Second
	// refusedMin and refusedMax space the attempts at a key that etcd refuses to write or to read.
	refusedMin = 2 * time.Second
	refusedMax = time.Minute
	// noDoubt is the unansweredRev of a key that is as observed.
	noDoubt = -1
)

// keyValue is what etcd has under a key.
type keyValue struct {
	value string
	lease clientv3.LeaseID
	rev   int64 // the mod revision
}

// revOf returns the mod revision that a key has for etcd's guards: 0 if it is absent.
func revOf(kv *keyValue) int64 {
	if kv == nil {
		return 0
	}
	return kv.rev
}

type kind int

const (
	put    kind = iota
	mark        // put the value that says that the key is about to go
	remove      // delete the key
)

// String names the kind for errors.
func (k kind) String() string { return [...]string{"put", "mark", "delete"}[k] }

// write is a write to one key, made only while the key has the mod revision rev. That is why none does harm that arrives late:
//   - rev > 0: etcd gives each revision once, so after any other write of the key it fails.
//   - rev = 0, a create: the key may be absent again. It succeeds then, while its lease lives. So etcd is asked what hangs on
//     that lease, see [heldLease.strays], and a lease that is revoked takes its late creates along.
//   - A restored etcd gives revisions again. It is noticed by a lower one, or by a key that is older than our last put of it:
//     then all keys are in doubt, and move to another lease.
type write struct {
	kind  kind
	value string
	lease clientv3.LeaseID // the put's, or the one that the key hangs on
	rev   int64
}

// record is one key of an entry, with its last known value in etcd.
type record struct {
	e       *entry
	key     string
	item    int
	retired bool // named by an earlier lease than the current one

	observed      *keyValue // nil: nothing, as far as known
	lastPutRev    int64     // the mod revision of our last put; 0: there was none
	claimed       bool      // we have put it, so another process that has it is the newer one
	putAt         time.Time // of our last put
	busy          bool      // a write of it is under way
	unansweredRev int64     // the highest that an unanswered write expects; 0 for other doubts, and noDoubt for none
	marked        bool      // the mark was tried since the entry was withdrawn

	notBefore time.Time // no read or write before
	refused   error     // etcd's answer to the last write or read, where it refused that
	refusals  backoff.Backoff
	unbatched bool // a transaction with it was refused: the next one has no other key
}

func newRecord(e *entry, item int, key string) *record {
	return &record{e: e, key: key, item: item, unansweredRev: noDoubt, refusals: backoff.Backoff{Base: refusedMin, Max: refusedMax}}
}

// adopt gives the key to a new entry, which takes it over from whoever has it.
func (r *record) adopt(e *entry, item int) {
	r.e, r.item, r.retired, r.claimed, r.marked, r.lastPutRev = e, item, false, false, false, 0
	r.retry()
}

// value and leaving are the desired value, and the one that marks the key as about to go.
func (r *record) value() string   { return r.e.items[r.item].Value }
func (r *record) leaving() string { return r.e.items[r.item].Leaving }

// on reports whether the key hangs on a lease.
func (r *record) on(id clientv3.LeaseID) bool { return r.observed != nil && r.observed.lease == id }

// retry forgets a refusal, so that the key is tried at once.
func (r *record) retry() {
	r.refused, r.notBefore, r.unbatched = nil, time.Time{}, false
	r.refusals.Reset()
}

// doubt has the key read or written next.
func (r *record) doubt() { r.unansweredRev = max(r.unansweredRev, 0) }

// doubted reports whether the key may be other than as observed.
func (r *record) doubted() bool { return r.unansweredRev != noDoubt }

// sure reports whether nothing is under way or in doubt.
func (r *record) sure() bool { return !r.busy && !r.doubted() }

// asWanted reports whether etcd has the key with its value, and nothing is under way that may change it.
func (r *record) asWanted() bool {
	return r.sure() && r.observed != nil && r.observed.value == r.value()
}

// unanswered records that a write may have arrived, or may still.
func (r *record) unanswered(w write) {
	r.unansweredRev = max(r.unansweredRev, w.rev)
	if w.kind == remove {
		r.observed = nil // or not: see reads
	}
}

// made records that a write was made, at a revision.
func (r *record) made(now time.Time, w write, revision int64) {
	r.unansweredRev = noDoubt
	if w.kind == remove {
		r.observed, r.refused = nil, nil
		return
	}
	r.observed, r.lastPutRev, r.claimed = &keyValue{w.value, w.lease, revision}, revision, true
	if r.marked = w.kind == mark; !r.marked {
		r.putAt, r.refused, r.unbatched = now, nil, false
		r.refusals.Reset()
	}
}

// refuse records that etcd does not take the key. It is tried again, less and less often.
func (r *record) refuse(now time.Time, err error, jitter func(time.Duration) time.Duration) {
	r.refused, r.notBefore = err, now.Add(jitter(r.refusals.Bound()))
}

// tampered records that somebody has overwritten or deleted the key. It is put back, once a second at most.
func (r *record) tampered(kv *keyValue) {
	r.notBefore = r.putAt.Add(restoreEvery)
	r.e.err = fmt.Errorf("key %q was deleted", r.key)
	if kv != nil {
		r.e.err = fmt.Errorf("key %q was overwritten", r.key)
	}
}

// conflict says which process has the key.
func (r *record) conflict() error {
	if r.observed.lease == 0 {
		return fmt.Errorf("key %q was put by someone else, on no lease: delete it, or register under another instance id", r.key)
	}
	return fmt.Errorf("key %q is held by another process, on lease %x: give each its own instance id", r.key, int64(r.observed.lease))
}
