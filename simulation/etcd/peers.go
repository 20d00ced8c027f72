package etcd

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Isolate cuts a member off from its peers, though not from its clients, or reconnects it. Isolating a majority loses the quorum.
func (c *Cluster) Isolate(member int, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[member].isolated = on
}

// Lag sets the delay with which messages and requests of its peers reach a member.
func (c *Cluster) Lag(member int, by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[member].lag = by
}

// peer returns the process for which is holds and the delay of messages to it, nil if the member from does not reach it.
func (c *Cluster) peer(from int, is func(*process) bool) (*process, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		if m.process.runs() && is(m.process) && !m.isolated && !c.members[from].isolated {
			return m.process, m.lag
		}
	}
	return nil, 0
}

// letter is a raft message on its way.
type letter struct {
	arrives time.Time
	message *raftpb.Message
}

// receive passes the messages of its peers to etcd, in the order in which they were sent. A proposal waits in etcd while the member
// knows no leader; as in rafthttp, it must not delay the other messages.
func (p *process) receive() {
	for {
		select {
		case l := <-p.inbox:
			if sleep(p.ctx, time.Until(l.arrives)) != nil {
				return
			}
			process := func() { _ = p.etcd.Process(p.ctx, l.message) } // it fails if the server stops
			if l.message.GetType() == raftpb.MsgProp {
				p.tasks.Go(process)
			} else {
				process()
			}
		case <-p.ctx.Done():
			return
		}
	}
}

// transport connects one member with its peers. It implements rafthttp.Transporter and http.RoundTripper. Nothing takes time unless
// a member lags.
type transport struct {
	// Transporter is nil: its other methods panic. etcd calls them when the membership changes, or for a member that has fallen
	// behind by thousands of entries.
	rafthttp.Transporter

	c      *Cluster
	member int
	etcd   *etcdserver.EtcdServer
}

// Send sends raft messages. It drops those for which an inbox has no room: raft copes with the loss.
func (t *transport) Send(ms []*raftpb.Message) {
	for _, m := range ms {
		if m.GetTo() == 0 {
			continue // etcd has withdrawn it
		}
		to, lag := t.c.peer(t.member, func(p *process) bool { return p.etcd.MemberID() == types.ID(m.GetTo()) })
		if to == nil {
			t.etcd.ReportUnreachable(m.GetTo())
			continue
		}
		select {
		case to.inbox <- letter{time.Now().Add(lag), proto.Clone(m).(*raftpb.Message)}:
		default:
		}
	}
}

// retryPause is the duration of a failing request to a peer. etcd retries some at once, forever: virtual time would stand still.
const retryPause = 100 * time.Millisecond

// RoundTrip carries a request to a peer: followers ask the leader about leases, the leader asks all for their version.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	to, lag := t.c.peer(t.member, func(p *process) bool { return name(p.member) == r.URL.Host })
	w := httptest.NewRecorder()
	err := sleep(r.Context(), lag)
	switch {
	case err != nil:
	case to == nil:
		err = fmt.Errorf("etcd: peer %s is unreachable", r.URL.Host)
	default:
		err = to.use(r.Context(), func(ctx context.Context) error {
			to.handler.ServeHTTP(w, r.WithContext(ctx))
			return nil
		})
	}
	if err != nil || w.Code >= http.StatusInternalServerError {
		_ = sleep(r.Context(), retryPause)
	}
	if err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// ActivePeers reports that all peers are reached. etcd shortens the wait for its first election then.
func (t *transport) ActivePeers() int { return len(t.c.members) - 1 }

// ActiveSince reports that no peer is reached. etcd uses it only to explain why a request has timed out.
func (t *transport) ActiveSince(types.ID) time.Time { return time.Time{} }

func (t *transport) Stop()                      {}
func (t *transport) AddPeer(types.ID, []string) {}
func (t *transport) Handler() http.Handler      { return http.NotFoundHandler() }
