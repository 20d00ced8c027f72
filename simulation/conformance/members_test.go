package conformance

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// TestScriptsOnFollower plays random scripts to a member that does not lead.
func TestScriptsOnFollower(t *testing.T) {
	long(t)
	model := etcd.New(3)
	t.Cleanup(model.Close)
	for _, member := range []int{0, 2} {
		serveModel(t, model, member)
	}
	real := newRealCluster(t, startEtcd(t, etcdtest.WithMembers(3)))
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

// lasting is a side whose streams outlast an election. On a busy machine one of etcd's may take longer than the three
// election timeouts, short as they are here, that a stream which requires a leader waits.
func (c *cluster) lasting(s *side) *side {
	if c.late > 0 {
		return s
	}
	return s.requiringLeader()
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

	timeout := c.timeout()
	deadline := status.FromContextError(context.DeadlineExceeded).Err()
	key := []byte("a")
	stale := &pb.RangeRequest{Key: key, Serializable: true}
	staleTxn := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: stale}}}}
	c.askAll([]question{
		{s, &pb.RangeRequest{Key: key}, []error{rpctypes.ErrGRPCTimeout}, timeout, c.election},
		{s, &pb.PutRequest{Key: key}, []error{deadline}, timeout, c.election},
		{s, &pb.LeaseGrantRequest{TTL: 10}, []error{deadline}, timeout, c.election},
		{s, &pb.LeaseRevokeRequest{ID: lease}, []error{deadline}, timeout, c.election},
		{s, &pb.LeaseTimeToLiveRequest{ID: lease}, []error{rpctypes.ErrGRPCNoLeader}, timeout, c.election},
		{s, &pb.LeaseKeepAliveRequest{ID: lease}, []error{rpctypes.ErrGRPCNoLeader}, timeout, c.election},
		{s, stale, nil, 0, 0},
		{s, staleTxn, nil, 0, 0},
		{s, &pb.LeaseLeasesRequest{}, nil, 0, 0},
		{strict, &pb.RangeRequest{Key: key}, []error{rpctypes.ErrGRPCNoLeader}, 0, 0},
		{strict, stale, []error{rpctypes.ErrGRPCNoLeader}, 0, 0},
		{strict, &pb.PutRequest{Key: key}, []error{rpctypes.ErrGRPCNoLeader}, 0, 0},
		{strict, &pb.LeaseKeepAliveRequest{ID: lease}, []error{rpctypes.ErrGRPCNoLeader}, 0, 0},
	})
	plain.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{}})
	plain.await("progress without a leader", func() bool { return len(plain.events[-1]) > 0 })
}

// TestLeaderFails asks a follower whose leader has just stopped. What it forwards to the leader that it does not know
// dead is lost; the rest is answered by the next leader.
func TestLeaderFails(t *testing.T) {
	onBoth(t, 3, func(t *testing.T, c *cluster) {
		s := c.dial(c.follower())
		lease := s.grant(60)
		watch := c.lasting(s).watchAll()
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			c.stop(c.leader())
		}()
		time.Sleep(c.election / 4)
		key, elected := []byte("a"), 4*c.election
		lost, after := []error{rpctypes.ErrGRPCTimeoutDueToLeaderFail, rpctypes.ErrGRPCTimeout}, c.timeout()
		if c.late > 0 { // the election may be over on a busy machine
			lost, after = append(lost, nil), 0
		}
		c.askAll([]question{
			{s, &pb.PutRequest{Key: key}, lost, after, c.timeout() + c.election},
			{s, &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{
				RequestPut: &pb.PutRequest{Key: key},
			}}}}, lost, after, c.timeout() + c.election},
			{s, &pb.LeaseGrantRequest{TTL: 10}, lost, after, c.timeout() + c.election},
			{s, &pb.RangeRequest{Key: key}, []error{nil, rpctypes.ErrGRPCLeaderChanged}, 0, elected},
			{s, &pb.LeaseTimeToLiveRequest{ID: lease}, nil, 0, elected},
			{s, &pb.LeaseKeepAliveRequest{ID: lease}, nil, 0, elected},
			{s, &pb.RangeRequest{Key: key, Serializable: true}, nil, 0, 0},
			{s, &pb.LeaseLeasesRequest{}, nil, 0, 0},
		})
		<-stopped
		if kvs := c.mustLead(s, &pb.RangeRequest{Key: key}).(*pb.RangeResponse).Kvs; len(kvs) > 0 && c.late == 0 {
			t.Errorf("what was lost has taken effect: %v", kvs)
		}
		revision := s.put("b", lease)
		watch.await("event after the election", func() bool {
			events := watch.events[0]
			return len(events) > 0 && revisionOf(events[len(events)-1]) >= revision
		})
	})
}

// mustLead is must after an election. On a busy machine another one may follow it.
func (c *cluster) mustLead(s *side, req proto.Message) proto.Message {
	s.t.Helper()
	changed := status.Convert(rpctypes.ErrGRPCLeaderChanged).Message()
	for until := time.Now().Add(c.late); time.Now().Before(until); {
		if a := s.call(req); a.err == nil || status.Convert(a.err).Message() != changed {
			break
		}
	}
	return s.must(req)
}

// TestLeaderAlone asks a leader whose followers have just stopped: it proposes to nobody.
func TestLeaderAlone(t *testing.T) {
	onBoth(t, 3, func(_ *testing.T, c *cluster) {
		leader := c.leader()
		s := c.dial(leader)
		lease := s.grant(60)
		c.stop((leader + 1) % 3)
		c.stop((leader + 2) % 3)
		timedOut := []error{rpctypes.ErrGRPCTimeout}
		if c.late > 0 { // on a busy machine it may lead no more by then
			timedOut = append(timedOut, status.FromContextError(context.DeadlineExceeded).Err())
		}
		c.askAll([]question{
			{s, &pb.PutRequest{Key: []byte("a")}, timedOut, c.timeout(), c.election},
			{s, &pb.LeaseGrantRequest{TTL: 10}, timedOut, c.timeout(), c.election},
			{s, &pb.LeaseRevokeRequest{ID: lease}, timedOut, c.timeout(), c.election},
		})
	})
}

// TestRestartedAlone restarts a member whose peers are down: it serves nobody before one of them is back.
func TestRestartedAlone(t *testing.T) {
	onBoth(t, 3, func(t *testing.T, c *cluster) {
		for i := range 3 {
			c.stop(i)
		}
		c.restart(0)
		s, stale := c.dial(0), &pb.RangeRequest{Key: []byte("a"), Serializable: true}
		ctx, cancel := context.WithTimeout(s.ctx, 5*c.election)
		defer cancel()
		if _, err := s.send(ctx, stale); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a member without a quorum since its start answers %v", err)
		}
		c.restart(1)
		s.must(stale)
	})
}

// timeout is how long etcd tries to carry out a request.
func (c *cluster) timeout() time.Duration { return 5*time.Second + 2*c.election }

// question is asked of one side.
type question struct {
	side         *side
	req          proto.Message
	permitted    []error // nil for no error at all
	after, slack time.Duration
}

// askAll asks all at once, keepalives each on a stream of its own.
func (c *cluster) askAll(questions []question) {
	c.t.Helper()
	var wg sync.WaitGroup
	for _, q := range questions {
		wg.Go(func() {
			begun := time.Now()
			a := q.side.fork().call(q.req)
			alike := func(err error) bool {
				return err == nil && a.err == nil || err != nil && a.err != nil && err.Error() == a.err.Error()
			}
			if len(q.permitted) == 0 && a.err != nil || len(q.permitted) > 0 && !slices.ContainsFunc(q.permitted, alike) {
				c.t.Errorf("%s: %v, want one of %v", words(q.req), a, q.permitted)
			}
			c.within("the answer to "+words(q.req), time.Since(begun), q.after, q.slack)
		})
	}
	wg.Wait()
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
