package etcd

import (
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// maxTxnOps is the most operations, or comparisons, that a transaction may have.
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
	if max(len(r.GetCompare()), len(r.GetSuccess()), len(r.GetFailure())) > maxTxnOps {
		return rpctypes.ErrGRPCTooManyOps
	}
	for _, c := range r.GetCompare() {
		if len(c.Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	branches := [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()}
	for _, ops := range branches {
		for _, op := range ops {
			if err := checkOp(op); err != nil {
				return err
			}
		}
	}
	for _, ops := range branches {
		if err := checkWritten(ops); err != nil {
			return err
		}
	}
	return nil
}

func checkOp(op *pb.RequestOp) error {
	switch r := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return checkRange(r.RequestRange)
	case *pb.RequestOp_RequestPut:
		return checkPut(r.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return checkDelete(r.RequestDeleteRange)
	}
	return rpctypes.ErrGRPCKeyNotFound
}

// checkWritten refuses operations that write a key twice. Here, and here alone, etcd does not take an end of "\x00" for no end.
func checkWritten(ops []*pb.RequestOp) error {
	written := make(map[string]bool)
	for _, op := range ops {
		put := op.GetRequestPut()
		if put == nil {
			continue
		}
		key := string(put.Key)
		deleted := slices.ContainsFunc(ops, func(op *pb.RequestOp) bool {
			d := op.GetRequestDeleteRange()
			return d != nil && (key == string(d.Key) && len(d.RangeEnd) == 0 || key >= string(d.Key) && key < string(d.RangeEnd))
		})
		if written[key] || deleted {
			return rpctypes.ErrGRPCDuplicateKey
		}
		written[key] = true
	}
	return nil
}
