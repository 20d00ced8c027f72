package etcdtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Op is a kind of request, named as in etcd.
type Op string

// These requests are recorded. A request within a transaction is also recorded
// by itself.
const (
	Range           Op = "Range"
	Put             Op = "Put"
	DeleteRange     Op = "DeleteRange"
	Txn             Op = "Txn"
	Watch           Op = "Watch" // one for each watch, also if several share a stream
	LeaseGrant      Op = "LeaseGrant"
	LeaseRevoke     Op = "LeaseRevoke"
	LeaseKeepAlive  Op = "LeaseKeepAlive" // one for each renewal
	LeaseTimeToLive Op = "LeaseTimeToLive"
	Authenticate    Op = "Authenticate"
)

// Call is one request that reached a member.
type Call struct {
	Op       Op
	Member   int    // the index of the member, from 0
	Key, End string // the range of Range, DeleteRange and Watch; Put has only Key
	Lease    int64  // the lease id in Put and in the lease requests

	// the revision of a Range, or the start of a Watch; 0 means the current
	// revision
	Revision int64

	Serializable bool // for Range: the response may be stale
}

// Calls has the requests that have reached the members of a cluster since the
// last Reset, except those of [Cluster.Admin]. It is safe for concurrent use.
type Calls struct {
	mu      sync.Mutex
	calls   []Call
	changed chan struct{} // closed and replaced at each request
}

// Count returns the number of requests of the kind op whose key begins with
// prefix. Requests without a key, such as those for leases, count if prefix is
// "".
func (c *Calls) Count(op Op, prefix string) int {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.count(op, prefix)
}

// Wait returns once Count(op, prefix) is at least n, or with an error if ctx
// ends first.
func (c *Calls) Wait(ctx context.Context, op Op, prefix string, n int) error {
	for {
		c.mu.Lock()
		got := c.count(op, prefix)
		changed := c.changed
		c.mu.Unlock()

		if got >= n {
			return nil
		}

		select {
		case <-ctx.Done():
			return fmt.Errorf("etcdtest: got %d of %d %s requests for %q: %w", got, n,
				op, prefix, ctx.Err())
		case <-changed:
		}
	}
}

// All returns every request since the start or the last Reset, in the order of
// arrival.
func (c *Calls) All() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()

	return slices.Clone(c.calls)
}

// Reset removes all recorded requests.
func (c *Calls) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.calls = nil
}

func (c *Calls) count(op Op, prefix string) (n int) {
	for _, call := range c.calls {
		if call.Op == op && strings.HasPrefix(call.Key, prefix) {
			n++
		}
	}

	return n
}

func (c *Calls) add(member int, request any) {
	c.mu.Lock()
	defer c.mu.Unlock()

	for _, call := range callsOf(request) {
		call.Member = member
		c.calls = append(c.calls, call)
	}

	close(c.changed)
	c.changed = make(chan struct{})
}

// callsOf returns the calls in a request. A transaction is a call, and each
// request in the transaction is a further call.
func callsOf(request any) []Call {
	switch r := request.(type) {
	case *pb.RangeRequest:
		return []Call{{
			Op:           Range,
			Key:          string(r.Key),
			End:          string(r.RangeEnd),
			Revision:     r.Revision,
			Serializable: r.Serializable,
		}}

	case *pb.PutRequest:
		return []Call{{Op: Put, Key: string(r.Key), Lease: r.Lease}}
	case *pb.DeleteRangeRequest:
		return []Call{{Op: DeleteRange, Key: string(r.Key), End: string(r.RangeEnd)}}

	case *pb.TxnRequest:
		calls := []Call{{Op: Txn}}
		for _, op := range slices.Concat(r.Success, r.Failure) {
			calls = append(calls, callsOfOp(op)...)
		}

		return calls

	case *pb.WatchRequest:
		create := r.GetCreateRequest()
		if create == nil {
			return nil
		}

		return []Call{{
			Op:       Watch,
			Key:      string(create.Key),
			End:      string(create.RangeEnd),
			Revision: create.StartRevision,
		}}

	case *pb.LeaseGrantRequest:
		return []Call{{Op: LeaseGrant, Lease: r.ID}}
	case *pb.LeaseRevokeRequest:
		return []Call{{Op: LeaseRevoke, Lease: r.ID}}
	case *pb.LeaseKeepAliveRequest:
		return []Call{{Op: LeaseKeepAlive, Lease: r.ID}}
	case *pb.LeaseTimeToLiveRequest:
		return []Call{{Op: LeaseTimeToLive, Lease: r.ID}}
	case *pb.AuthenticateRequest:
		return []Call{{Op: Authenticate}}
	}

	return nil
}

func callsOfOp(op *pb.RequestOp) []Call {
	switch op := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return callsOf(op.RequestRange)
	case *pb.RequestOp_RequestPut:
		return callsOf(op.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return callsOf(op.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn: // a nested transaction is not recorded by itself
		return callsOf(op.RequestTxn)[1:]
	}

	return nil
}

// serverOptions returns interceptors that record the requests to a member.
func (c *Calls) serverOptions(member int) []grpc.ServerOption {
	unary := func(
		ctx context.Context,
		req any,
		_ *grpc.UnaryServerInfo,
		handle grpc.UnaryHandler,
	) (any, error) {
		if !fromAdmin(ctx) {
			c.add(member, req)
		}

		return handle(ctx, req)
	}

	stream := func(
		srv any,
		ss grpc.ServerStream,
		_ *grpc.StreamServerInfo,
		handle grpc.StreamHandler,
	) error {
		if !fromAdmin(ss.Context()) {
			ss = countingStream{ServerStream: ss, calls: c, member: member}
		}

		return handle(srv, ss)
	}

	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(unary),
		grpc.ChainStreamInterceptor(stream),
	}
}

// countingStream records the requests of a stream: of Watch, LeaseKeepAlive or
// RangeStream.
type countingStream struct {
	grpc.ServerStream
	calls  *Calls
	member int
}

func (s countingStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}

	s.calls.add(s.member, m)

	return nil
}

// adminHeader is a header of the requests of [Cluster.Admin], which are not
// recorded.
const adminHeader = "etcdtest-admin"

func fromAdmin(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, adminHeader)) > 0
}

// adminCredentials adds adminHeader to the requests of a client.
type adminCredentials struct{}

func (adminCredentials) GetRequestMetadata(
	context.Context,
	...string,
) (map[string]string, error) {
	return map[string]string{adminHeader: "1"}, nil
}

func (adminCredentials) RequireTransportSecurity() bool {
	return false
}
