package vouch

import (
	"context"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// TestScriptsOnFollower plays random scripts to a member that does not lead.
func TestScriptsOnFollower(t *testing.T) {
	t.Parallel()
	model := etcd.New(3)
	t.Cleanup(model.Close)
	for _, member := range []int{0, 2} {
		serveModel(t, model, member)
	}
	real := newRealCluster(t, etcdtest.Start(t, etcdtest.WithMembers(3)))
	p := newPair(t, real.dial(real.follower()), dialModel(t, model, 1))
	for seed := range seeds(10) {
		p.play(seed, *steps)
	}
}

// requiringLeader is a side that asks only members with a leader.
func (s *side) requiringLeader() *side {
	other := s.fork()
	other.ctx = metadata.AppendToOutgoingContext(s.ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	return other
}

// TestQuorumLost asks a member whose two peers have stopped.
func TestQuorumLost(t *testing.T) {
	onBoth(t, 3, func(t *testing.T, c *cluster) {
		withoutLeader(t, c, func() {
			c.stop(1)
			c.stop(2)
		})
	})
}

// TestIsolated asks a member that is cut from its peers. Only the model can cut it: etcd is to do as above.
func TestIsolated(t *testing.T) {
	onModel(t, 3, func(t *testing.T, c *cluster) {
		withoutLeader(t, c, func() { c.isolate(0) })
	})
}

// withoutLeader asks a member before and after it loses its leader.
func withoutLeader(t *testing.T, c *cluster, lose func()) {
	s := c.dial(0)
	lease := s.grant(60)
	s.put("a", lease)
	strict := s.requiringLeader()
	watch, renewals, plain := strict.open(), strict.fork(), s.watchAll()
	renewals.must(&pb.LeaseKeepAliveRequest{ID: lease})
	begun := time.Now()
	lose()
	if err := watch.end(); err.Error() != rpctypes.ErrGRPCNoLeader.Error() {
		t.Errorf("a watch that requires a leader ends with %v", err)
	}
	if _, err := renewals.keepalive.Recv(); err.Error() != rpctypes.ErrGRPCNoLeader.Error() {
		t.Errorf("keepalives that require a leader end with %v", err)
	}
	c.within("the end of the streams that require a leader", time.Since(begun), 3*c.election, 2*c.election)

	timeout := 5*time.Second + 2*c.election // etcd's own for a request
	deadline := status.FromContextError(context.DeadlineExceeded).Err()
	key := []byte("a")
	stale := &pb.RangeRequest{Key: key, Serializable: true}
	staleTxn := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: stale}}}}
	var wg sync.WaitGroup
	for _, q := range []struct {
		side  *side
		req   proto.Message
		want  error
		after time.Duration
	}{
		{s, &pb.RangeRequest{Key: key}, rpctypes.ErrGRPCTimeout, timeout},
		{s, &pb.PutRequest{Key: key}, deadline, timeout},
		{s, &pb.LeaseGrantRequest{TTL: 10}, deadline, timeout},
		{s, &pb.LeaseRevokeRequest{ID: lease}, deadline, timeout},
		{s, &pb.LeaseTimeToLiveRequest{ID: lease}, rpctypes.ErrGRPCNoLeader, timeout},
		{s.fork(), &pb.LeaseKeepAliveRequest{ID: lease}, rpctypes.ErrGRPCNoLeader, timeout},
		{s, stale, nil, 0},
		{s, staleTxn, nil, 0},
		{s, &pb.LeaseLeasesRequest{}, nil, 0},
		{strict, &pb.RangeRequest{Key: key}, rpctypes.ErrGRPCNoLeader, 0},
		{strict, stale, rpctypes.ErrGRPCNoLeader, 0},
		{strict, &pb.PutRequest{Key: key}, rpctypes.ErrGRPCNoLeader, 0},
		{strict.fork(), &pb.LeaseKeepAliveRequest{ID: lease}, rpctypes.ErrGRPCNoLeader, 0},
	} {
		wg.Go(func() {
			begun := time.Now()
			a := q.side.call(q.req)
			if got := (answer{err: a.err}); a.err == nil != (q.want == nil) || a.err != nil && got.String() != q.want.Error() {
				t.Errorf("%s: %v, want %v", words(q.req), a, q.want)
			}
			c.within("the answer to "+words(q.req), time.Since(begun), q.after, c.election)
		})
	}
	wg.Wait()
	if plain.err != nil {
		t.Errorf("a watch that requires no leader: %v", plain.err)
	}
}

// end waits until the stream ends, and returns with what.
func (st *stream) end() error {
	timeout := time.After(patience)
	for {
		st.mu.Lock()
		err, came := st.err, st.came
		st.mu.Unlock()
		if err != nil {
			return err
		}
		select {
		case <-came:
		case <-timeout:
			st.side.t.Fatalf("%s: the stream did not end within %v", st.side.name, patience)
		}
	}
}
