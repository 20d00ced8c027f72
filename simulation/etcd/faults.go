package etcd

import (
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Isolate cuts a member off from its peers, though not from its clients, or ends that. Isolating a majority loses the quorum.
func (c *Cluster) Isolate(member int, on bool) {
	c.mu.Lock()
	defer c.unlock()
	c.members.all[member].isolated = on
	c.settle()
}

// Lag sets how much later a member applies what is committed.
func (c *Cluster) Lag(member int, by time.Duration) {
	c.mu.Lock()
	defer c.unlock()
	c.members.all[member].lag = by
	c.settle()
}

// Elect makes a member the leader, which renews all leases. It does nothing if the member does not reach a quorum.
func (c *Cluster) Elect(member int) {
	c.mu.Lock()
	defer c.unlock()
	now := time.Now()
	if c.members.lead(member, now) {
		c.state.lessor.promote(now)
	}
	c.settle()
}

// Backup is the state of a cluster at one time, and the raft term of that time.
type Backup struct {
	state state
	term  uint64
}

// Backup returns the state as it is now.
func (c *Cluster) Backup() *Backup {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &Backup{c.state.clone(), c.members.term}
}

// Restore puts the cluster back to a backup, as a copy of the members' data does: the revision and the raft term go back,
// leases live on with their full time, connections are closed, watches and tokens end. Observers hear nothing of it.
func (c *Cluster) Restore(b *Backup) { c.restore(b, false) }

// RestoreAsNew puts the cluster back to a backup as a new cluster, as "etcdutl snapshot restore" does with a token of its
// own: the term begins anew, too, and the cluster and its members have other ids.
func (c *Cluster) RestoreAsNew(b *Backup) { c.restore(&Backup{b.state, firstTerm}, true) }

// RestoreBumped is RestoreAsNew with "--bump-revision" and "--mark-compacted": revisions go on from a later one, and all before
// that is compacted.
func (c *Cluster) RestoreBumped(b *Backup, by int64) {
	s := b.state.clone()
	s.store.rev += by
	s.store.compacted = s.store.rev
	c.restore(&Backup{s, firstTerm}, true)
}

func (c *Cluster) restore(b *Backup, asNew bool) {
	c.mu.Lock()
	if asNew {
		c.generation++
	}
	c.replace(b)
	var open []*listener
	for _, n := range c.nodes {
		if n.conns != nil {
			open = append(open, n.conns)
		}
	}
	c.unlock()
	for _, l := range open {
		l.drop()
	}
}

// Wipe puts the cluster back to an empty state, under the ids that it had: they hang on addresses and the token alone.
func (c *Cluster) Wipe() {
	fresh := newState(time.Now())
	c.mu.Lock()
	fresh.auth.ttl = c.state.auth.ttl
	c.mu.Unlock()
	c.Restore(&Backup{fresh, firstTerm})
}

// replace replaces the state.
func (c *Cluster) replace(b *Backup) {
	now, s := time.Now(), b.state.clone()
	s.nextID = max(s.nextID, c.state.nextID) // nothing that was given is given again
	s.auth.given = max(s.auth.given, c.state.auth.given)
	s.lessor.began = c.state.lessor.began
	c.state = s
	c.state.lessor.demote()
	if c.members.jump(now, b.term, s.store.rev, s.store.compacted) {
		c.state.lessor.promote(now)
	}
	for _, n := range c.nodes {
		for _, st := range n.streams {
			st.watches.watchers = nil // their connection is about to be closed
		}
	}
	c.signal()
}

// Alarm raises the alarm that there is no space left, or ends it: what writes bytes is refused, what deletes or renews
// passes.
func (c *Cluster) Alarm(nospace bool) {
	c.mu.Lock()
	defer c.unlock()
	c.state.alarms = nil
	if nospace {
		c.state.alarm(&pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: c.memberID(0), Alarm: pb.AlarmType_NOSPACE})
	}
}

// Full reports whether that alarm is raised.
func (c *Cluster) Full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.nospace()
}

// Protect turns auth on for these users, in the place of those before; without users it turns it off.
func (c *Cluster) Protect(users ...User) {
	c.mu.Lock()
	defer c.unlock()
	c.state.auth.protect(users)
}

// ExpireTokens makes the tokens given so far invalid.
func (c *Cluster) ExpireTokens() {
	c.mu.Lock()
	defer c.unlock()
	clear(c.state.auth.tokens)
}
