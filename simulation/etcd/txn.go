package etcd

import (
	"bytes"
	"cmp"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// readOnly reports whether a transaction is answered without the other members: it has ranges alone.
func readOnly(r *pb.TxnRequest) bool {
	return every(r, func(op *pb.RequestOp) bool { return op.GetRequestRange() != nil })
}

// serializable reports whether a transaction is answered by what a member knows.
func serializable(r *pb.TxnRequest) bool {
	return every(r, func(op *pb.RequestOp) bool { return op.GetRequestRange().GetSerializable() })
}

// puts reports whether a transaction may put a key.
func puts(r *pb.TxnRequest) bool {
	return !every(r, func(op *pb.RequestOp) bool { return op.GetRequestPut() == nil })
}

func every(r *pb.TxnRequest, is func(*pb.RequestOp) bool) bool {
	for _, ops := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			if !is(op) {
				return false
			}
		}
	}
	return true
}

// choose returns the branch that a transaction's comparisons take. All of them are made before anything is carried out.
func choose(v view, r *pb.TxnRequest) (succeeded bool, ops []*pb.RequestOp) {
	for _, cmp := range r.GetCompare() {
		if !compare(v, cmp) {
			return false, r.GetFailure()
		}
	}
	return true, r.GetSuccess()
}

// compare reports whether a comparison holds for all keys of its range.
func compare(v view, c *pb.Compare) bool {
	some := false
	for _, it := range v.within(spanOf(c.Key, c.RangeEnd)) {
		if kv := it.at(v.rev); kv != nil {
			some = true
			if !holds(c, kv) {
				return false
			}
		}
	}
	if some {
		return true
	}
	return c.Target != pb.Compare_VALUE && holds(c, &mvccpb.KeyValue{})
}

func holds(c *pb.Compare, kv *mvccpb.KeyValue) bool {
	var result int
	switch c.Target {
	case pb.Compare_VALUE:
		result = bytes.Compare(kv.Value, c.GetValue())
	case pb.Compare_CREATE:
		result = cmp.Compare(kv.CreateRevision, c.GetCreateRevision())
	case pb.Compare_MOD:
		result = cmp.Compare(kv.ModRevision, c.GetModRevision())
	case pb.Compare_VERSION:
		result = cmp.Compare(kv.Version, c.GetVersion())
	case pb.Compare_LEASE:
		result = cmp.Compare(kv.Lease, c.GetLease())
	}
	switch c.Result {
	case pb.Compare_EQUAL:
		return result == 0
	case pb.Compare_NOT_EQUAL:
		return result != 0
	case pb.Compare_GREATER:
		return result > 0
	case pb.Compare_LESS:
		return result < 0
	}
	return true
}

// check reports why the branch that is taken cannot be carried out.
func (s *state) check(v view, ops []*pb.RequestOp) error {
	for _, op := range ops {
		var err error
		switch r := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			if r.RequestRange.Revision < 0 && r.RequestRange.Revision < v.compacted {
				return errCompacted
			}
			err = v.revisionErr(r.RequestRange.Revision)
		case *pb.RequestOp_RequestPut:
			err = s.checkPut(r.RequestPut)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// txn applies a transaction that writes.
func (s *state) txn(who requester, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if s.nospace() && puts(r) {
		return nil, errNoSpace
	}
	if err := s.mayTxn(who, r); err != nil {
		return nil, err
	}
	succeeded, ops := choose(s.whole(), r)
	if err := s.check(s.whole(), ops); err != nil {
		return nil, err
	}
	var resp *pb.TxnResponse
	s.write(who, false, func(w *writer) {
		resp = &pb.TxnResponse{Succeeded: succeeded, Responses: s.carryOut(w, ops)}
		resp.Header = &pb.ResponseHeader{Revision: w.rev()}
	})
	return resp, nil
}

// query answers a transaction that only reads, from a member's view.
func (s *state) query(v view, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	succeeded, ops := choose(v, r)
	if err := s.check(v, ops); err != nil {
		return nil, err
	}
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: v.rev}, Succeeded: succeeded}
	for _, op := range ops {
		ranged, err := v.list(op.GetRequestRange())
		if err != nil {
			return nil, err
		}
		resp.Responses = append(resp.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: ranged}})
	}
	return resp, nil
}

// carryOut carries out the branch that is taken. What is in it was checked, so nothing fails.
func (s *state) carryOut(w *writer, ops []*pb.RequestOp) (all []*pb.ResponseOp) {
	for _, op := range ops {
		out := &pb.ResponseOp{}
		switch r := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			ranged, err := view{w.s, w.rev(), w.s.compacted}.list(r.RequestRange)
			if err != nil {
				panic("etcd: a range that was checked fails: " + err.Error())
			}
			out.Response = &pb.ResponseOp_ResponseRange{ResponseRange: ranged}
		case *pb.RequestOp_RequestPut:
			out.Response = &pb.ResponseOp_ResponsePut{ResponsePut: s.doPut(w, r.RequestPut)}
		case *pb.RequestOp_RequestDeleteRange:
			out.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: s.doDelete(w, r.RequestDeleteRange)}
		}
		all = append(all, out)
	}
	return all
}
