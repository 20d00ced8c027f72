package etcd

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

type kvServer struct {
	pb.UnimplementedKVServer
	n *node
}

// Range answers a range request.
func (s *kvServer) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return serve(ctx, s.n, Call{Method: "Range", Keys: []string{string(r.Key)}}, func() (*pb.RangeResponse, error) {
		if err := checkRange(r); err != nil {
			return nil, err
		}
		return read(ctx, s.n, !r.Serializable, func(who requester, v view) (*pb.RangeResponse, error) {
			if err := s.n.c.state.auth.may(who, spanOf(r.Key, r.RangeEnd), false); err != nil {
				return nil, err
			}
			return v.list(r)
		})
	})
}

// Put answers a put request.
func (s *kvServer) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	return serve(ctx, s.n, Call{Method: "Put", Keys: []string{string(r.Key)}, Write: true}, func() (*pb.PutResponse, error) {
		if err := checkPut(r); err != nil {
			return nil, err
		}
		return write(ctx, s.n, r, func(who requester, _ time.Time) (*pb.PutResponse, error) { return s.n.c.state.put(who, r) })
	})
}

// DeleteRange answers a delete request.
func (s *kvServer) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	call := Call{Method: "DeleteRange", Keys: []string{string(r.Key)}, Write: true}
	return serve(ctx, s.n, call, func() (*pb.DeleteRangeResponse, error) {
		if err := checkDelete(r); err != nil {
			return nil, err
		}
		return write(ctx, s.n, r, func(who requester, _ time.Time) (*pb.DeleteRangeResponse, error) {
			return s.n.c.state.deleteRange(who, r)
		})
	})
}

// Txn answers a transaction.
func (s *kvServer) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	call := Call{Method: "Txn", Keys: txnKeys(r), Write: !readOnly(r)}
	return serve(ctx, s.n, call, func() (*pb.TxnResponse, error) {
		if err := checkTxn(r); err != nil {
			return nil, err
		}
		if !readOnly(r) {
			return write(ctx, s.n, r, func(who requester, _ time.Time) (*pb.TxnResponse, error) { return s.n.c.state.txn(who, r) })
		}
		return read(ctx, s.n, !serializable(r), func(who requester, v view) (*pb.TxnResponse, error) {
			if err := s.n.c.state.mayTxn(who, r); err != nil {
				return nil, err
			}
			return s.n.c.state.query(v, r)
		})
	})
}

// Compact answers a compaction.
func (s *kvServer) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	return serve(ctx, s.n, Call{Method: "Compact", Write: true}, func() (*pb.CompactionResponse, error) {
		if err := s.n.admin(ctx); err != nil {
			return nil, err
		}
		return write(ctx, s.n, r, func(requester, time.Time) (*pb.CompactionResponse, error) {
			return s.n.c.state.compact(r.Revision)
		})
	})
}

// txnKeys returns the keys that a transaction is about.
func txnKeys(r *pb.TxnRequest) []string {
	var keys []string
	for _, c := range r.Compare {
		keys = append(keys, string(c.Key))
	}
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			switch r := op.Request.(type) {
			case *pb.RequestOp_RequestRange:
				keys = append(keys, string(r.RequestRange.GetKey()))
			case *pb.RequestOp_RequestPut:
				keys = append(keys, string(r.RequestPut.GetKey()))
			case *pb.RequestOp_RequestDeleteRange:
				keys = append(keys, string(r.RequestDeleteRange.GetKey()))
			}
		}
	}
	return keys
}

// answer is an answer of etcd's.
type answer interface {
	proto.Message
	GetHeader() *pb.ResponseHeader
}

// write has f carried out by the cluster.
func write[T answer](ctx context.Context, n *node, r proto.Message, f func(requester, time.Time) (T, error)) (T, error) {
	var resp, none T
	who, err := n.identify(ctx)
	if err != nil {
		return none, err
	}
	if proto.Size(r) > maxRequestBytes-requestOverhead {
		return none, errTooLarge
	}
	err = n.propose(ctx, func(now time.Time) (err error) {
		resp, err = f(who, now)
		n.c.committed(now)
		return err
	})
	if err != nil {
		return none, err
	}
	n.fill(resp.GetHeader())
	return resp, nil
}

// requestOverhead is what etcd wraps around a request before it looks at its size.
const requestOverhead = 17

// read has f answer from what the member knows: all that is committed, if the reading is linearizable.
func read[T answer](ctx context.Context, n *node, linearizable bool, f func(requester, view) (T, error)) (T, error) {
	var none T
	if linearizable {
		if err := n.agree(ctx); err != nil {
			return none, err
		}
	}
	who, err := n.identify(ctx)
	if err != nil {
		return none, err
	}
	n.c.mu.Lock()
	resp, err := f(who, n.view())
	n.c.mu.Unlock()
	if err != nil {
		return none, err
	}
	n.fill(resp.GetHeader())
	return resp, nil
}

// admin refuses a request unless an administrator makes it.
func (n *node) admin(ctx context.Context) error {
	who, err := n.identify(ctx)
	if err != nil {
		return err
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.c.state.auth.admin(who)
}

// known refuses a request without credentials while auth is on.
func (n *node) known(ctx context.Context) error {
	who, err := n.identify(ctx)
	if err != nil {
		return err
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.c.state.auth.known(who)
}
