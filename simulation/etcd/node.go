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
	streams map[*stream]struct{}
	forgets int // so many tokens were given before the process began, which does not know them
}

// view is what the member sees of the store.
func (n *node) view() view {
	a := n.c.members.all[n.i].applied
	return view{&n.c.state.store, a.rev, a.compacted}
}

// notify tells the member's streams of the revision that it has just applied.
func (n *node) notify(v view) {
	var events []*mvccpb.Event
	for s := range n.streams {
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
	index, err := n.reach(ctx, false, f)
	if err != nil {
		return err
	}
	return n.applied(ctx, index)
}

// agree waits until the member knows all that is committed now.
func (n *node) agree(ctx context.Context) error {
	index, err := n.reach(ctx, true, func(time.Time) error { return nil })
	if err != nil {
		return err
	}
	return n.applied(ctx, index)
}

// reach calls f once the member reaches a leader that can commit, and returns how far things were committed then. A
// reading, unlike a writing, does not outlive a change of leaders.
func (n *node) reach(ctx context.Context, reading bool, f func(now time.Time) error) (int64, error) {
	var timeout <-chan time.Time
	var term uint64
	tooLate := errTimeout
	for {
		now := time.Now()
		n.c.mu.Lock()
		if n.c.members.commits(n.i) && !(reading && timeout != nil && n.c.members.term != term) {
			err := f(now)
			index := n.c.members.last.index
			n.c.unlock()
			return index, err
		}
		changed := n.c.wait()
		if timeout == nil {
			term = n.c.members.term
			if !reading && !n.c.members.seesLeader(n.i, now) {
				tooLate = context.DeadlineExceeded // it is not even proposed
			}
			t := time.NewTimer(requestTimeout)
			defer t.Stop()
			timeout = t.C
		}
		over := n.c.members.term != term
		n.c.mu.Unlock()
		if reading && over {
			return 0, errLeaderChanged
		}
		if err := n.pause(ctx, changed, timeout, tooLate); err != nil {
			return 0, err
		}
	}
}

// applied waits until the member has applied so much of what is committed.
func (n *node) applied(ctx context.Context, index int64) error {
	var timeout <-chan time.Time
	for {
		n.c.mu.Lock()
		if n.c.members.all[n.i].applied.index >= index {
			n.c.mu.Unlock()
			return nil
		}
		changed := n.c.wait()
		n.c.mu.Unlock()
		if timeout == nil {
			t := time.NewTimer(requestTimeout)
			defer t.Stop()
			timeout = t.C
		}
		if err := n.pause(ctx, changed, timeout, errTimeout); err != nil {
			return err
		}
	}
}

// pause waits for a change, and returns an error when a request has no more time to wait for one.
func (n *node) pause(ctx context.Context, changed <-chan struct{}, timeout <-chan time.Time, tooLate error) error {
	select {
	case <-changed:
		return nil
	case <-timeout:
		return tooLate
	case <-ctx.Done():
		return ctx.Err()
	case <-n.stop:
		return errStopped
	}
}
