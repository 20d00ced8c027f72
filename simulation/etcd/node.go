package etcd

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
)

// node is one run of a member's process: its gRPC server and the streams on it.
type node struct {
	c       *Cluster
	i       int
	server  *grpc.Server
	conns   *listener
	stop    chan struct{} // closed when the process ends
	streams []*stream     // in the order in which they began, so that a run can be repeated
	forgets int           // how many tokens were given before the process began, which does not know them
}

// view is what the member sees of the store.
func (n *node) view() view {
	a := n.c.members.all[n.i].applied
	return view{&n.c.state.store, a.rev, a.compacted}
}

// notify tells the member's streams of the revision that it has just applied.
func (n *node) notify(v view) {
	var events []*mvccpb.Event
	for _, s := range n.streams {
		if events == nil {
			events = v.since(v.rev, v.rev)
		}
		before := len(s.watches.queue)
		s.watches.notify(v, events)
		if len(s.watches.queue) > before {
			s.wake()
		}
	}
}

// propose has f carried out by the cluster, as soon as the member reaches a leader and the leader a quorum, and returns
// when the member has applied it.
func (n *node) propose(ctx context.Context, f func(now time.Time) error) error {
	var p *proposal
	var index int64
	var result error // known once the member has applied what was proposed
	err := n.until(ctx, func(now time.Time) (bool, error) {
		if p == nil {
			p = n.c.members.propose(n.i, now)
		}
		if !n.c.members.accepts(p) {
			return false, nil
		}
		result = f(now)
		index = n.c.members.last.index
		return true, nil
	}, func(time.Time) error { return n.c.members.late(p) })
	if err == nil {
		err = n.applied(ctx, index)
	}
	if err == nil {
		err = result
	}
	return err
}

// agree waits until the member knows all that is committed now. It fails when the leader changes meanwhile.
func (n *node) agree(ctx context.Context) error {
	var index int64
	var term uint64
	err := n.until(ctx, func(time.Time) (bool, error) {
		m := &n.c.members
		if term == 0 {
			term = m.term
		}
		if term != m.term {
			return false, errLeaderChanged
		}
		index = m.last.index
		return m.commits(n.i), nil
	}, func(time.Time) error { return errTimeout })
	if err != nil {
		return err
	}
	return n.applied(ctx, index)
}

// applied waits until the member has applied what is committed, up to an index.
func (n *node) applied(ctx context.Context, index int64) error {
	return n.until(ctx, func(time.Time) (bool, error) {
		return n.c.members.all[n.i].applied.index >= index, nil
	}, func(time.Time) error { return errTimeout })
}

// askLeader calls f once the member reaches the leader, and again after each change until f is done.
func (n *node) askLeader(ctx context.Context, f func(now time.Time) (done bool, err error)) error {
	m := &n.c.members
	return n.until(ctx, func(now time.Time) (bool, error) {
		if m.commits(n.i) || m.leads(n.i, now) {
			return f(now)
		}
		return false, nil
	}, func(now time.Time) error {
		if m.seesLeader(n.i, now) {
			return errTimeout
		}
		return errNoLeader
	})
}

// until calls ready under the lock, and again after each change, until it is done. If that takes too long, until returns
// what late does.
func (n *node) until(ctx context.Context, ready func(now time.Time) (bool, error), late func(now time.Time) error) error {
	var timeout <-chan time.Time
	for {
		n.c.mu.Lock()
		done, err := ready(time.Now())
		if done || err != nil {
			n.c.unlock()
			return err
		}
		changed := n.c.wait()
		n.c.mu.Unlock()
		if timeout == nil {
			t := time.NewTimer(requestTimeout)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-changed:
		case now := <-timeout:
			n.c.mu.Lock()
			defer n.c.mu.Unlock()
			return late(now)
		case <-ctx.Done():
			return ctx.Err()
		case <-n.stop:
			return errStopped
		}
	}
}
