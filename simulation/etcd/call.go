package etcd

import (
	"context"
	"net"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// Call is a request that has arrived.
type Call struct {
	Client string // host of the peer
	Member int
	Method string // "Put", "Txn", "Range", "LeaseGrant", "LeaseKeepAlive", "Watch" and so on
	Keys   []string
	Write  bool
}

// Verdict says what becomes of a call. The zero Verdict lets it pass.
type Verdict struct {
	Before time.Duration // how long it waits before it takes effect, even if the client has gone by then, or is refused
	After  time.Duration // how long it waits between its effect and its answer
	Lose   bool          // it takes effect and is never answered
	Err    error         // it is refused and has no effect
	Busy   bool          // it is refused if it is a write: the member has too many to apply already
}

// Intercept has f consulted for each unary request and for each message of LeaseKeepAlive and Watch; nil ends that.
func (c *Cluster) Intercept(f func(Call) Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.intercept = f
}

// arrive asks for the verdict on a call.
func (c *Cluster) arrive(call Call) Verdict {
	c.mu.Lock()
	f := c.intercept
	c.mu.Unlock()
	if f == nil {
		return Verdict{}
	}
	return f(call)
}

// serve carries a unary request through: the verdict, the request itself, the answer.
func serve[T any](ctx context.Context, n *node, call Call, f func() (T, error)) (T, error) {
	var none T
	call.Client, call.Member = host(ctx), n.i
	v := n.c.arrive(call)
	if err := n.sleep(v.Before); err != nil {
		return none, err
	}
	switch {
	case v.Err != nil:
		return none, v.Err
	case v.Busy && call.Write:
		return none, errTooMany
	}
	resp, err := none, n.checkLeader(ctx)
	if err == nil {
		resp, err = f()
	}
	if v.Lose {
		select {
		case <-ctx.Done():
			return none, ctx.Err()
		case <-n.stop:
			return none, errStopped
		}
	}
	if err := n.sleep(v.After); err != nil {
		return none, err
	}
	return resp, err
}

// sleep waits, unless the member stops first.
func (n *node) sleep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-n.stop:
		return errStopped
	}
}

// host returns the host of the client that asks.
func host(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	if tcp, ok := p.Addr.(*net.TCPAddr); ok {
		return tcp.IP.String()
	}
	return p.Addr.String()
}

// tokenOf returns the token that a request brings along.
func tokenOf(ctx context.Context) string {
	for _, name := range []string{rpctypes.TokenFieldNameGRPC, rpctypes.TokenFieldNameSwagger} {
		if ts := metadata.ValueFromIncomingContext(ctx, name); len(ts) > 0 {
			return ts[0]
		}
	}
	return ""
}

// wantsLeader reports whether a request asks to fail where there is no leader.
func wantsLeader(ctx context.Context) bool {
	ks := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	return len(ks) > 0 && ks[0] == rpctypes.MetadataHasLeader
}

// checkLeader refuses a request that wants a leader where there is none.
func (n *node) checkLeader(ctx context.Context) error {
	if wantsLeader(ctx) && !n.seesLeader() {
		return errNoLeader
	}
	return nil
}

// seesLeader reports whether the member takes anybody for the leader.
func (n *node) seesLeader() bool {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.c.members.seesLeader(n.i, time.Now())
}

// identify returns who asks, by the token of the request.
func (n *node) identify(ctx context.Context) (requester, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	user, err := n.c.state.auth.identify(time.Now(), tokenOf(ctx), n.forgets)
	return requester{client: host(ctx), user: user, rights: n.c.state.auth.revision}, err
}

const (
	firstClusterID = 0xc1a57e12
	firstMemberID  = 0x3e3b3001 // of the first member; the others follow
)

// clusterID returns the id of the cluster. A new one has another.
func (c *Cluster) clusterID() uint64 { return firstClusterID + c.generation<<32 }

// memberID returns the id of a member. In a new cluster it has another.
func (c *Cluster) memberID(i int) uint64 { return firstMemberID + uint64(i) + c.generation<<32 }

// fill completes a header.
func (n *node) fill(h *pb.ResponseHeader) {
	n.c.mu.Lock()
	n.sign(h)
	if h.Revision == 0 {
		h.Revision = n.view().rev
	}
	n.c.mu.Unlock()
}

// sign puts into a header whose answer it heads, and the raft term that the member knows.
func (n *node) sign(h *pb.ResponseHeader) {
	h.ClusterId, h.MemberId, h.RaftTerm = n.c.clusterID(), n.c.memberID(n.i), n.c.members.all[n.i].term
}
