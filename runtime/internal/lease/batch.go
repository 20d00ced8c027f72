package lease

import (
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// etcd takes 128 operations and 1.5 MiB a transaction.
	maxSteps = 100
	maxBytes = 1 << 20
)

// step is what a transaction does about one key.
type step struct {
	e     *entry
	s     *slot
	kind  kind
	value string           // the put's
	lease clientv3.LeaseID // the put's, or the one that a removal is guarded by
	// was is what the slot was before the put was sent.
	was slot
}

type kind int

const (
	put        kind = iota // whatever is there
	putGuarded             // if the key is as we know it; else tell what it is
	remove                 // if the key is still ours
	noStep
)

// batch picks what one transaction may do now.
func (c *core) batch(now time.Time) []step {
	var steps []step
	size := 0
	for _, e := range c.entries {
		if e.alone && len(steps) > 0 {
			continue
		}
		for _, s := range e.slots {
			step := c.step(now, e, s)
			if step.kind == noStep {
				continue
			}
			size += 3*len(s.key) + len(s.value) + 64
			if len(steps) == maxSteps || len(steps) > 0 && size > maxBytes {
				return steps
			}
			step.mark()
			steps = append(steps, step)
		}
		if e.alone && len(steps) > 0 {
			return steps
		}
	}
	return steps
}

// step says what is to be done about a slot now.
func (c *core) step(now time.Time, e *entry, s *slot) step {
	st := step{e: e, s: s, kind: noStep, value: s.value, lease: c.lease}
	if now.Before(e.retryAt) {
		return st
	}
	if e.want != present {
		// What hangs on a retired lease goes with that.
		if s.touched && s.lease == c.lease {
			st.kind = remove
		}
		return st
	}
	if c.lease == 0 || now.Before(s.notBefore) || s.place == ours && s.written == s.value {
		return st
	}
	st.kind = putGuarded
	if !e.taken || e.blind {
		st.kind = put
	}
	return st
}

// mark notes, before the call, what its outcome may be.
func (st *step) mark() {
	st.was = *st.s
	if st.kind != remove {
		st.s.touched, st.s.lease = true, st.lease
	}
}

// op is the step as etcd takes it.
func (st *step) op() clientv3.Op {
	key := st.s.key
	switch st.kind {
	case put:
		return clientv3.OpPut(key, st.value, clientv3.WithLease(st.lease))
	case putGuarded:
		return clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", st.s.rev)},
			[]clientv3.Op{clientv3.OpPut(key, st.value, clientv3.WithLease(st.lease))},
			[]clientv3.Op{clientv3.OpGet(key)})
	default:
		return clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.LeaseValue(key), "=", st.lease)},
			[]clientv3.Op{clientv3.OpDelete(key)}, nil)
	}
}

// batched takes in the answer to a transaction of steps.
func (c *core) batched(now time.Time, steps []step, resp *clientv3.TxnResponse) {
	c.succeeded()
	for i := range steps {
		st := &steps[i]
		st.e.alone, st.e.refused = false, nil
		answer := resp.Responses[i]
		switch txn := answer.GetResponseTxn(); {
		case st.kind == put || st.kind == putGuarded && txn.Succeeded:
			c.placed(now, st, resp.Header.Revision)
		case st.kind == putGuarded:
			c.found(now, st, txn.Responses[0].GetResponseRange())
		default:
			st.s.absent()
		}
	}
	c.refresh(now)
}

// placed takes in that a key is in etcd as it was to be. On a lease that was given up meanwhile it is
// still to be moved to the next one, before that lease is revoked.
func (c *core) placed(now time.Time, st *step, rev int64) {
	st.s.place, st.s.written, st.s.rev, st.s.putAt = ours, st.value, rev, now
	if st.lease != c.lease {
		st.s.place = nowhere
	}
}

// found takes in what is under a key that was not as we knew it.
func (c *core) found(now time.Time, st *step, got *pb.RangeResponse) {
	s := st.s
	if len(got.Kvs) == 0 {
		if s.place == ours {
			s.missing(now) // deleted since
			return
		}
		s.absent()
		return
	}
	kv := got.Kvs[0]
	id := clientv3.LeaseID(kv.Lease)
	switch {
	case id == st.lease && string(kv.Value) == st.value:
		c.placed(now, st, kv.ModRevision)
	case c.isOwn(id):
		s.place, s.rev = nowhere, kv.ModRevision
	default:
		s.absent()
		s.place, s.seenAt, s.notBefore = foreign, now, now.Add(conflictEvery)
		st.e.err = conflictError{s.key, id}
	}
}

// refusedBatch takes in that etcd will not do these steps however often it is asked.
func (c *core) refusedBatch(now time.Time, steps []step, err error) {
	c.succeeded()
	for i := range steps {
		steps[i].s.touched, steps[i].s.lease = steps[i].was.touched, steps[i].was.lease
	}
	first := steps[0].e
	for i := range steps {
		if steps[i].e != first { // one entry's fault must not be the others'
			for j := range steps {
				steps[j].e.alone = true
			}
			return
		}
	}
	if isDenied(err) && steps[0].kind == remove {
		// The guard needs a permission to read. To revoke the lease does not, and is as safe.
		c.retire(now, nil)
		return
	}
	if isDenied(err) && steps[0].kind == putGuarded && !first.blind {
		first.blind = true
		return
	}
	first.blind = false
	first.retryAt = now.Add(refusedEvery)
	first.refused, first.err = err, err
	c.refresh(now)
}
