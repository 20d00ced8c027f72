package etcd

import (
	"context"
	"net"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
)

// Cluster is a model of an etcd cluster, behind the gRPC services that a clientv3 client calls.
type Cluster struct {
	quota int64

	mu        sync.Mutex
	state     state
	members   members
	nodes     []*node
	changed   chan struct{} // closed when members reach each other otherwise, or have applied more; nil when nobody waits
	intercept func(Call) Verdict
	observers []func(Change)
	requests  map[string]map[string]int

	rearm chan struct{} // the clock is to look at next again
	armed time.Time     // when the clock wakes; zero for never
	stop  chan struct{}
	tasks sync.WaitGroup
}

// node is one run of a member's process: its gRPC server and the streams on it.
type node struct {
	c       *Cluster
	i       int
	server  *grpc.Server
	conns   *listener
	stop    chan struct{} // closed when the process ends
	streams map[*stream]struct{}
}

// Option configures a Cluster.
type Option func(*Cluster)

// WithQuota bounds the bytes of the store; beyond it the alarm is raised. The default is etcd's, 2 GiB.
func WithQuota(bytes int64) Option { return func(c *Cluster) { c.quota = bytes } }

// WithTokenTTL sets how long a token lives that is not used. The default is etcd's, 5 minutes.
func WithTokenTTL(ttl time.Duration) Option { return func(c *Cluster) { c.state.auth.ttl = ttl } }

// New returns a cluster of one or three members.
func New(members int, opts ...Option) *Cluster {
	now := time.Now()
	c := &Cluster{
		quota:    2 << 30,
		state:    newState(now),
		requests: map[string]map[string]int{},
		rearm:    make(chan struct{}, 1),
		stop:     make(chan struct{}),
	}
	c.state.auth.ttl = 5 * time.Minute
	c.members = newMembers(members, now, c.state.store.rev, c.state.store.compacted)
	for i := range members {
		c.nodes = append(c.nodes, &node{c: c, i: i})
	}
	for _, o := range opts {
		o(c)
	}
	c.tasks.Go(c.run)
	return c
}

// Serve starts a member's gRPC server on lis. A member that was stopped starts again and catches up first.
func (c *Cluster) Serve(member int, lis net.Listener) {
	n := &node{c: c, i: member, stop: make(chan struct{}), streams: map[*stream]struct{}{}}
	n.conns = &listener{Listener: lis, open: map[net.Conn]struct{}{}}
	n.server = n.newServer()
	c.mu.Lock()
	c.nodes[member] = n
	c.members.all[member].running = true
	c.settle()
	c.unlock()
	c.tasks.Go(func() {
		// It returns once the server or the listener is closed: there is nobody to tell of anything else.
		_ = n.server.Serve(n.conns)
	})
}

// Stop ends a member's process: its connections and its listener are closed. Serve starts it again.
func (c *Cluster) Stop(member int) {
	c.mu.Lock()
	n := c.nodes[member]
	c.nodes[member] = &node{c: c, i: member}
	c.members.all[member].running = false
	c.settle()
	c.unlock()
	if n.server != nil {
		close(n.stop)
		n.server.Stop()
	}
}

// Close stops all members and waits for what they have under way.
func (c *Cluster) Close() {
	for i := range c.nodes {
		c.Stop(i)
	}
	c.mu.Lock()
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
	c.mu.Unlock()
	c.tasks.Wait()
}

// run is the clock: it wakes when something is to happen by itself.
func (c *Cluster) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-c.rearm:
		case <-timer.C:
		}
		c.mu.Lock()
		c.tick(time.Now())
		c.armed = c.next()
		wait := time.Hour
		if !c.armed.IsZero() {
			wait = time.Until(c.armed)
		}
		timer.Reset(wait)
		c.mu.Unlock()
	}
}

// next returns when something happens by itself; zero for never.
func (c *Cluster) next() time.Time {
	next := c.members.next()
	if c.members.working() {
		next = sooner(next, c.state.lessor.due())
	}
	for _, n := range c.nodes {
		for s := range n.streams {
			if s.watches.behind() {
				next = sooner(next, s.resync)
			}
		}
	}
	return next
}

// tick does what is due.
func (c *Cluster) tick(now time.Time) {
	c.settle()
	if c.members.working() && c.state.expire(now) {
		c.committed(now)
	}
	for _, n := range c.nodes {
		ends := c.members.endDue(n.i, now)
		for s := range n.streams {
			if ends && s.wantsLeader {
				s.end(errNoLeader)
			}
			if s.watches.behind() && !now.Before(s.resync) {
				s.watches.sync(n.view())
				s.wake()
			}
		}
	}
}

// unlock ends what was done under the lock, and has the clock look again if something is due sooner than it thinks.
func (c *Cluster) unlock() {
	next := c.next()
	early := !next.IsZero() && (c.armed.IsZero() || next.Before(c.armed))
	c.mu.Unlock()
	if early {
		select {
		case c.rearm <- struct{}{}:
		default:
		}
	}
}

// wait returns a channel that is closed when members reach each other otherwise, or have applied more.
func (c *Cluster) wait() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

func (c *Cluster) signal() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// settle carries out what follows from members that come, go or reach each other otherwise.
func (c *Cluster) settle() {
	now := time.Now()
	if c.members.settle(now) {
		c.state.lessor.demote()
	}
	if c.members.electDue(now) {
		c.state.lessor.promote(now)
	}
	c.spread(now)
	c.signal()
}

// committed tells observers and members of what the state has just committed.
func (c *Cluster) committed(now time.Time) {
	commits := c.state.commits
	c.state.commits = nil
	for _, one := range commits {
		rev := one.events[0].Kv.ModRevision
		c.members.commit(now, rev, min(c.state.store.compacted, rev))
		c.observe(now, one)
	}
	if len(commits) == 0 {
		c.members.commit(now, c.state.store.rev, c.state.store.compacted)
	}
	c.spread(now)
	c.trim()
}

// spread has the members apply what they may.
func (c *Cluster) spread(now time.Time) {
	advanced := false
	for _, n := range c.nodes {
		for {
			before := n.view()
			if _, ok := c.members.apply(n.i, now); !ok {
				break
			}
			advanced = true
			if v := n.view(); v.rev > before.rev {
				n.notify(v)
			}
		}
	}
	if advanced {
		c.signal()
	}
}

// trim drops the history that no member can be asked for any more.
func (c *Cluster) trim() {
	if oldest := c.members.oldest(); oldest > c.state.store.trimmed {
		c.state.store.trim(oldest)
	}
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

// listener is a listener that knows the connections it has accepted.
type listener struct {
	net.Listener
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// Accept returns the next connection.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &trackedConn{conn, l}
	l.mu.Lock()
	l.open[c] = struct{}{}
	l.mu.Unlock()
	return c, nil
}

// drop closes the connections that are open.
func (l *listener) drop() {
	l.mu.Lock()
	var open []net.Conn
	for c := range l.open {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		// The server reports it as the end of the connection.
		_ = c.Close()
	}
}

type trackedConn struct {
	net.Conn
	l *listener
}

// Close closes the connection.
func (c *trackedConn) Close() error {
	c.l.mu.Lock()
	delete(c.l.open, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}
