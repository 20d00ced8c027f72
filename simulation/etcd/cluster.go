package etcd

import (
	"net"
	"sync"
	"time"
)

// Cluster is a model of an etcd cluster, behind the gRPC services that a clientv3 client calls.
type Cluster struct {
	mu        sync.Mutex
	state     state
	members   members
	nodes     []*node
	changed   chan struct{} // closed when links between members change, or one has applied more; nil when nobody waits
	intercept func(Call) Verdict
	observers []func(Change)

	rearm chan struct{} // the clock is to look at next again
	armed time.Time     // when the clock wakes; zero for never
	stop  chan struct{}
	tasks sync.WaitGroup
}

// Option configures a Cluster.
type Option func(*Cluster)

// WithTokenTTL sets how long a token lives that is not used. The default is etcd's, 5 minutes.
func WithTokenTTL(ttl time.Duration) Option { return func(c *Cluster) { c.state.auth.ttl = ttl } }

// New returns a cluster of one or three members.
func New(members int, opts ...Option) *Cluster {
	now := time.Now()
	c := &Cluster{
		state: newState(now),
		rearm: make(chan struct{}, 1),
		stop:  make(chan struct{}),
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
	n := &node{c: c, i: member, stop: make(chan struct{})}
	n.conns = &listener{Listener: lis}
	n.server = n.newServer()
	c.mu.Lock()
	if !c.members.all[member].running {
		n.forgets = c.state.auth.given
	}
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
		n.conns.drop() // first, for clients hear nothing from a process that ends
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
