package etcd

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// maxTxnOps is the most operations, or comparisons, that a transaction may have; what a nested one may have is what is left.
const maxTxnOps = 128

func checkRange(r *pb.RangeRequest) error {
	if len(r.GetKey()) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	if pb.RangeRequest_SortOrder_name[int32(r.SortOrder)] == "" || pb.RangeRequest_SortTarget_name[int32(r.SortTarget)] == "" {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	return nil
}

func checkPut(r *pb.PutRequest) error {
	switch {
	case len(r.GetKey()) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case r.IgnoreValue && len(r.Value) != 0:
		return rpctypes.ErrGRPCValueProvided
	case r.IgnoreLease && r.Lease != 0:
		return rpctypes.ErrGRPCLeaseProvided
	}
	return nil
}

func checkDelete(r *pb.DeleteRangeRequest) error {
	if len(r.GetKey()) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	return nil
}

// checkTxn checks a transaction's form, then that no key is written twice.
func checkTxn(r *pb.TxnRequest) error {
	if err := checkTxnForm(r, maxTxnOps); err != nil {
		return err
	}
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		if _, err := written(ops); err != nil {
			return err
		}
	}
	return nil
}

func checkTxnForm(r *pb.TxnRequest, room int) error {
	n := max(len(r.GetCompare()), len(r.GetSuccess()), len(r.GetFailure()))
	if n > room {
		return rpctypes.ErrGRPCTooManyOps
	}
	for _, c := range r.GetCompare() {
		if len(c.Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, ops := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			if err := checkOp(op, room-n); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkOp(op *pb.RequestOp, room int) error {
	switch r := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return checkRange(r.RequestRange)
	case *pb.RequestOp_RequestPut:
		return checkPut(r.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return checkDelete(r.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return checkTxnForm(r.RequestTxn, room)
	}
	return rpctypes.ErrGRPCKeyNotFound
}

// writes is what a list of operations puts and deletes.
type writes struct {
	puts    map[string]bool
	deletes []span
}

// deleted reports whether key is among the deletes. Here, and here alone, etcd does not take an end of "\x00" for no end.
func (w *writes) deleted(key string) bool {
	for _, d := range w.deletes {
		if key == d.from && d.to == "" || key >= d.from && key < d.to {
			return true
		}
	}
	return false
}

// put adds a key; a key that is written already is an error.
func (w *writes) put(key string) error {
	if w.puts[key] || w.deleted(key) {
		return rpctypes.ErrGRPCDuplicateKey
	}
	w.puts[key] = true
	return nil
}

// written returns what ops write, in the order in which etcd looks at them: the deletes, the nested transactions, the puts.
// So a nested delete after a nested put of the same key passes.
func written(ops []*pb.RequestOp) (*writes, error) {
	w := &writes{puts: map[string]bool{}}
	for _, op := range ops {
		if r := op.GetRequestDeleteRange(); r != nil {
			w.deletes = append(w.deletes, spanOf(r.Key, r.RangeEnd))
		}
	}
	for _, op := range ops {
		if r := op.GetRequestTxn(); r != nil {
			if err := w.nest(r); err != nil {
				return nil, err
			}
		}
	}
	for _, op := range ops {
		if r := op.GetRequestPut(); r != nil {
			if err := w.put(string(r.Key)); err != nil {
				return nil, err
			}
		}
	}
	return w, nil
}

// nest adds what a nested transaction writes. Its two branches may write the same keys, for only one of them is taken.
func (w *writes) nest(r *pb.TxnRequest) error {
	success, err := written(r.Success)
	if err != nil {
		return err
	}
	failure, err := written(r.Failure)
	if err != nil {
		return err
	}
	for key := range success.puts {
		if err := w.put(key); err != nil {
			return err
		}
	}
	for key := range failure.puts {
		if success.puts[key] {
			continue
		}
		if err := w.put(key); err != nil {
			return err
		}
	}
	w.deletes = append(append(w.deletes, success.deletes...), failure.deletes...)
	return nil
}
