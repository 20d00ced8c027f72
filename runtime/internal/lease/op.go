package lease

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// op is a call to etcd that the core asks for.
type op any

type (
	grantOp  struct{ ttl time.Duration }
	revokeOp struct{ lease clientv3.LeaseID }
	probeOp  struct{ probes []probe }
	writeOp  struct{ steps []step }
)

// probe is a key to be read, or to be compared with what is known of it. All probes of one call do the
// same.
type probe struct {
	e       *entry // nil: the key was deleted, and must be absent
	s       *slot
	compare bool
	rev     int64 // the mod revision to compare with; 0: absent
}

// cmp returns the comparison that holds if the key is as known.
func (p *probe) cmp() clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(p.s.key), "=", p.rev)
}

// step is a write to a key of an entry. A transaction makes all of its steps or, if a guard does not hold, none; it
// returns the keys then.
type step struct {
	e *entry
	s *slot
	write
}

// guard returns the condition of the step. A blind put has none.
func (st *step) guard() clientv3.Cmp {
	if st.kind == remove {
		return clientv3.Compare(clientv3.LeaseValue(st.s.key), "=", st.lease)
	}
	return clientv3.Compare(clientv3.ModRevision(st.s.key), "=", st.rev)
}

// op returns the write.
func (st *step) op() clientv3.Op {
	if st.kind == remove {
		return clientv3.OpDelete(st.s.key)
	}
	return clientv3.OpPut(st.s.key, st.value, clientv3.WithLease(st.lease))
}
