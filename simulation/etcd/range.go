package etcd

import (
	"bytes"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// list answers a range request.
func (v view) list(r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := v.revisionErr(r.Revision); err != nil {
		return nil, err
	}
	rev := r.Revision
	if rev <= 0 {
		rev = v.rev
	}
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: v.rev}}
	all := r.Limit <= 0 || !keyOrder(r) || filtered(r)
	for _, it := range v.within(spanOf(r.Key, r.RangeEnd)) {
		kv := it.at(rev)
		if kv == nil {
			continue
		}
		resp.Count++
		if !r.CountOnly && (all || int64(len(resp.Kvs)) <= r.Limit) && passes(r, kv) {
			resp.Kvs = append(resp.Kvs, kv)
		}
	}
	order(r, resp.Kvs)
	if r.Limit > 0 && int64(len(resp.Kvs)) > r.Limit {
		resp.Kvs, resp.More = resp.Kvs[:r.Limit], true
	}
	if r.KeysOnly {
		for i, kv := range resp.Kvs {
			resp.Kvs[i] = bare(r, kv)
		}
	}
	return resp, nil
}

// keyOrder reports whether r wants the order in which the store has its keys.
func keyOrder(r *pb.RangeRequest) bool {
	return r.SortOrder == pb.RangeRequest_NONE ||
		r.SortTarget == pb.RangeRequest_KEY && r.SortOrder == pb.RangeRequest_ASCEND
}

func filtered(r *pb.RangeRequest) bool {
	return r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0
}

// passes reports whether kv is within the revisions that r wants.
func passes(r *pb.RangeRequest, kv *mvccpb.KeyValue) bool {
	return (r.MaxModRevision == 0 || kv.ModRevision <= r.MaxModRevision) &&
		(r.MinModRevision == 0 || kv.ModRevision >= r.MinModRevision) &&
		(r.MaxCreateRevision == 0 || kv.CreateRevision <= r.MaxCreateRevision) &&
		(r.MinCreateRevision == 0 || kv.CreateRevision >= r.MinCreateRevision)
}

// order sorts as etcd does. Its sorting is not stable, so ties come out alike only because the algorithm is the same.
func order(r *pb.RangeRequest, kvs []*mvccpb.KeyValue) {
	descend := r.SortOrder == pb.RangeRequest_DESCEND
	if r.SortTarget == pb.RangeRequest_KEY && !descend {
		return
	}
	less := func(a, b *mvccpb.KeyValue) bool {
		switch r.SortTarget {
		case pb.RangeRequest_VERSION:
			return a.Version < b.Version
		case pb.RangeRequest_CREATE:
			return a.CreateRevision < b.CreateRevision
		case pb.RangeRequest_MOD:
			return a.ModRevision < b.ModRevision
		case pb.RangeRequest_VALUE:
			return bytes.Compare(a.Value, b.Value) < 0
		}
		return bytes.Compare(a.Key, b.Key) < 0
	}
	sort.Slice(kvs, func(i, j int) bool {
		if descend {
			i, j = j, i
		}
		return less(kvs[i], kvs[j])
	})
}

// bare returns kv without its value. etcd answers such a range from its index, which has no leases, unless it has to
// sort by value.
func bare(r *pb.RangeRequest, kv *mvccpb.KeyValue) *mvccpb.KeyValue {
	b := &mvccpb.KeyValue{
		Key: kv.Key, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version,
	}
	if r.SortTarget == pb.RangeRequest_VALUE {
		b.Lease = kv.Lease
	}
	return b
}
