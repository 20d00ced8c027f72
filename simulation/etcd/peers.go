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

// Isolate cuts a member off from its peers but not from its clients, or
// reconnects it.
func (c *Cluster) Isolate(member int, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.members[member].isolated = on
}

// Lag sets the delay of messages and requests that peers send to a member.
func (c *Cluster) Lag(member int, delay time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.members[member].lag = delay
}

// peer returns the process for which match returns true, and the delay of
// messages to it. The process is nil if sender cannot reach it.
func (c *Cluster) peer(sender int, match func(*process) bool) (*process, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()

	for _, m := range c.members {
		connected := !m.isolated && !c.members[sender].isolated
		if connected && m.process.runs() && match(m.process) {
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

// receive passes the messages of peers to etcd, in the order in which they were
// sent. It passes a proposal in a goroutine, as rafthttp does, because the
// proposal may wait in etcd for a leader.
func (p *process) receive() {
	for {
		select {
		case l := <-p.inbox:
			if sleep(p.ctx, time.Until(l.arrives)) != nil {
				return
			}

			// the error means that the server stops
			process := func() { _ = p.etcd.Process(p.ctx, l.message) }
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

// transport connects a member with its peers. It implements
// rafthttp.Transporter and http.RoundTripper. Messages take no time unless a
// member lags.
type transport struct {
	// Transporter is nil: its methods that transport does not define panic.
	// etcd calls them only if the membership changes or a member is thousands
	// of entries behind.
	rafthttp.Transporter

	c      *Cluster
	member int
	etcd   *etcdserver.EtcdServer
}

// Send sends raft messages. It drops a message to a full inbox, and raft sends
// the message again.
func (t *transport) Send(ms []*raftpb.Message) {
	for _, m := range ms {
		if m.GetTo() == 0 {
			continue // etcd does not want the message sent
		}

		to, lag := t.c.peer(t.member, func(p *process) bool {
			return p.etcd.MemberID() == types.ID(m.GetTo())
		})
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

// retryPause is the duration of a failing request to a peer. etcd retries at
// once, so virtual time would stop without a pause.
const retryPause = 100 * time.Millisecond

// RoundTrip sends a request to a peer. Followers ask the leader about leases,
// and the leader asks all peers for their versions.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	to, lag := t.c.peer(t.member, func(p *process) bool {
		return name(p.member) == r.URL.Host
	})
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

// ActivePeers returns the number of all peers. Because of this number, etcd
// waits less for its first election.
func (t *transport) ActivePeers() int {
	return len(t.c.members) - 1
}

// ActiveSince reports that no peer is reached. etcd only uses the answer to
// explain the timeout of a request.
func (t *transport) ActiveSince(types.ID) time.Time {
	return time.Time{}
}

func (t *transport) Stop()                      {}
func (t *transport) AddPeer(types.ID, []string) {}
func (t *transport) Handler() http.Handler {
	return http.NotFoundHandler()
}
