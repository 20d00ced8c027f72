package lease

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// op is a call to etcd that the core requests.
type op any

type (
	grantOp  struct{ ttl time.Duration }
	revokeOp struct{ lease clientv3.LeaseID }
	attachOp struct{ lease clientv3.LeaseID } // reads the keys on a lease
	readOp   struct {
		steps   []step // only key and observed revision are used
		compare bool   // etcd returns values only if a key is not as observed
	}
	writeOp struct{ steps []step }
)

// step is a write to a key. A transaction makes all of its steps or, if a guard does not hold, none; it
// returns the keys then.
type step struct {
	r *record
	write
}

func (st *step) guard() clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(st.r.key), "=", st.rev)
}

func (st *step) op() clientv3.Op {
	if st.kind == remove {
		return clientv3.OpDelete(st.r.key)
	}
	return clientv3.OpPut(st.r.key, st.value, clientv3.WithLease(st.lease))
}
