package leader

import (
	"context"
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// Servers of one registry share a lease, and their candidates come back at the same time when it is lost. Whoever leads
// next has a token of its own.
func TestE1_OneRegistry(t *testing.T) {
	g := newGroup(t)
	registry := g.registry(&wire{})
	a, b := g.start("a", on(registry)), g.start("b", on(registry))
	lost := clientv3.LeaseID(g.candidates()[0].Lease)
	_, err := etcd.Admin().Revoke(kit.Bounded(t, soon), lost)
	must(t, err)
	kit.Eventually(t, soon, "both to stand again", func() bool { return len(g.candidates()) == 2 })
	if all := g.candidates(); all[0].CreateRevision == all[1].CreateRevision {
		t.Errorf("both are created at %d", all[0].CreateRevision)
	}
	kit.Eventually(t, soon, "one to lead", func() bool { return a.leads.Holds() || b.leads.Holds() })
	first, next := a, b
	if b.leads.Holds() {
		first, next = b, a
	}
	was, _ := first.leads.Token()
	must(t, first.server.Withdraw(kit.Bounded(t, soon)))
	kit.Eventually(t, soon, "the other to lead", next.leads.Holds)
	is, _ := next.leads.Token()
	if _, err := g.store.add(is, 1); err != nil {
		t.Error(err)
	}
	if _, err := g.store.add(was, 1); err == nil {
		t.Errorf("the store takes the token %d of the leader before, after %d", was, is)
	}
}

// Of candidates that one transaction has created, as an earlier version did, all name the same one, however many they are.
func TestE2_OneOrder(t *testing.T) {
	g := newGroup(t)
	prefix := g.namespace + candidates
	among := grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		put := candidateIn(req, prefix)
		if put == nil {
			return invoke(ctx, method, req, reply, cc, opts...)
		}
		txn := req.(*pb.TxnRequest)
		tied := &pb.TxnRequest{Compare: txn.Compare, Success: txn.Success, Failure: txn.Failure}
		for i := range 30 {
			other := &pb.PutRequest{Key: fmt.Appendf(nil, "%s~%02d", prefix, i), Value: []byte("x"), Lease: put.Lease}
			tied.Success = append(tied.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: other}})
		}
		err := invoke(ctx, method, tied, reply, cc, opts...)
		if err == nil { // one that was created later, and comes first in etcd's order of keys
			_, err = etcd.Admin().Put(ctx, prefix+"!", "x", clientv3.WithLease(clientv3.LeaseID(put.Lease)))
		}
		return err
	})
	a := g.start("a", on(g.registry(&wire{}, among)))
	kit.Eventually(t, soon, "all candidates to be there", func() bool { return len(g.candidates()) == 32 })
	kit.Eventually(t, soon, "the first to lead", a.leads.Holds)
}

// candidateIn returns the put of a candidate in a call to etcd, nil if there is none.
func candidateIn(req any, prefix string) *pb.PutRequest {
	txn, _ := req.(*pb.TxnRequest)
	for _, op := range txn.GetSuccess() {
		if put := op.GetRequestPut(); put != nil && strings.HasPrefix(string(put.Key), prefix) {
			return put
		}
	}
	return nil
}
