package reconcile

import (
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// restoreEvery is the pause between puts of a key that another process
	// keeps deleting or overwriting.
	restoreEvery = time.Second

	// conflictEvery is the pause between reads of a key that another process
	// holds.
	conflictEvery = 2 * time.Second

	// refusedMin and refusedMax bound the backoff of a key whose write or read
	// etcd refuses.
	refusedMin = 2 * time.Second
	refusedMax = 10 * time.Second
)

// KeyValue is the value of a key in etcd.
type KeyValue struct {
	Value string
	Lease clientv3.LeaseID
	Rev   int64 // the mod revision
}

// revOf returns the mod revision for a guard: 0 if the key is absent.
func revOf(kv *KeyValue) int64 {
	if kv == nil {
		return 0
	}

	return kv.Rev
}

type kind int

const (
	put        kind = iota
	putLeaving      // put the value with the mark of leaving
	remove          // delete the key
)

// String names the kind for errors.
func (k kind) String() string {
	return [...]string{"put", "mark", "delete"}[k]
}

// write is a write to one key, guarded by the key's mod revision rev. The guard
// makes late writes harmless:
//   - rev > 0: etcd assigns each revision once. So the write fails after any
//     other write of the key.
//   - rev = 0, a create: the write succeeds late if the key is absent again and
//     the lease is alive. So the keys on the lease are read, see
//     [heldLease.ask]. The revocation of the lease deletes them, too.
//   - A restored etcd assigns revisions again. The restore shows in a lower
//     revision, or in a key that is older than our last put of it. Then all
//     keys are in doubt, and move to another lease.
type write struct {
	kind  kind
	value string

	// the lease of the put; for a deletion, the lease that the key is on
	lease clientv3.LeaseID

	rev int64
}

// record is one key of an entry, with its last known value in etcd.
type record struct {
	e       *Entry
	key     string
	item    int
	retired bool // the key contains the id of an earlier lease

	observed *KeyValue // the last known value; nil if the key is absent

	// the mod revision of our last put, 0 if there is none; 1 if etcd was
	// restored since
	putRev int64

	busy bool // a write of the key is under way

	// the key may not be as observed, so that a call writes or reads it
	doubted bool

	gate    gate  // of reads and writes
	refused error // etcd's refusal of the last write or read

	// a transaction with the key was refused, so the key is read and written
	// alone
	unbatched bool
}

func newRecord(e *Entry, item int, key string) *record {
	return &record{e: e, key: key, item: item, gate: gateOf(refusedMin, refusedMax)}
}

// value returns the desired value.
func (r *record) value() string {
	return r.e.items[r.item].Value
}

// leaving returns the value with the mark of leaving, "" without one.
func (r *record) leaving() string {
	return r.e.items[r.item].Leaving
}

// claimed reports whether we have put the key: then another process that has it
// now is newer.
func (r *record) claimed() bool {
	return r.putRev > 0
}

// on reports whether the key is on lease id, as observed.
func (r *record) on(id clientv3.LeaseID) bool {
	return r.observed != nil && r.observed.Lease == id
}

// retry forgets a refusal, so that the key is tried at once.
func (r *record) retry() {
	r.refused = nil
	r.unbatched = false
	r.gate.open()
}

func isDoubted(r *record) bool {
	return r.doubted
}

// sure reports whether no write is under way, and the key is as observed.
func (r *record) sure() bool {
	return !r.busy && !r.doubted
}

// asDesired reports whether etcd has the key with the desired value, and no
// pending write may change it.
func (r *record) asDesired() bool {
	return r.sure() && r.observed != nil && r.observed.Value == r.value()
}

// made records that a write was made, at a revision. If another process deletes
// or overwrites the key, it is put back at most once in restoreEvery.
func (r *record) made(now time.Time, w write, revision int64) {
	r.doubted = false

	if w.kind == remove {
		r.observed = nil
		r.refused = nil

		return
	}

	r.observed = &KeyValue{w.value, w.lease, revision}
	r.putRev = max(revision, 1)

	if w.kind == put {
		r.retry()

		// otherwise the caller changed the entry during the put
		if r.asDesired() && r.e.desired == present {
			r.gate.at = now.Add(restoreEvery)
		}
	}
}

// refuse records that etcd refuses a read or write of the key, which is retried
// with backoff.
func (r *record) refuse(now time.Time, err error, jitter jitterFunc) {
	r.refused = err
	r.gate.shut(now, jitter)
}

// conflict returns an error that names the key's holder.
func (r *record) conflict() error {
	if r.observed.Lease == 0 {
		return fmt.Errorf(
			"key %q was put by someone else, on no lease: delete it, or register under another instance id",
			r.key)
	}

	return fmt.Errorf(
		"key %q is held by another process, on lease %x: give each its own instance id",
		r.key, r.observed.Lease)
}
