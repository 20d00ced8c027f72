package etcd

import (
	"fmt"
	"maps"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Isolate cuts a member from its peers, though not from its clients, or ends that. A majority isolated is quorum lost.
func (c *Cluster) Isolate(member int, on bool) {
	c.mu.Lock()
	defer c.unlock()
	c.members.all[member].isolated = on
	c.settle()
}

// Lag has a member apply what is committed so much later.
func (c *Cluster) Lag(member int, by time.Duration) {
	c.mu.Lock()
	defer c.unlock()
	c.members.all[member].lag = by
	c.settle()
}

// Elect makes a member the leader, which starts the time of all leases anew. One that does not reach a quorum stays what
// it is.
func (c *Cluster) Elect(member int) {
	c.mu.Lock()
	defer c.unlock()
	now := time.Now()
	if c.members.lead(member, now) {
		c.state.lessor.promote(now)
	}
	c.settle()
}

// Backup is the state of a cluster at one time.
type Backup struct{ state state }

// Backup returns the state as it is now.
func (c *Cluster) Backup() *Backup {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &Backup{c.state.clone()}
}

// Restore puts the cluster back to a backup, as a restored snapshot does: the revision goes back, leases live on with
// their full time, connections are closed, watches and tokens end.
func (c *Cluster) Restore(b *Backup) {
	c.mu.Lock()
	c.replace(b.state.clone())
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

// Wipe puts the cluster back to an empty state.
func (c *Cluster) Wipe() {
	fresh := newState(time.Now())
	c.mu.Lock()
	fresh.auth.ttl = c.state.auth.ttl
	c.mu.Unlock()
	c.Restore(&Backup{fresh})
}

// replace puts another state in the place of the present one.
func (c *Cluster) replace(s state) {
	now := time.Now()
	s.nextID = max(s.nextID, c.state.nextID) // nothing that was given is given again
	s.auth.given = max(s.auth.given, c.state.auth.given)
	s.lessor.began = c.state.lessor.began
	c.state = s
	c.state.lessor.demote()
	if c.members.working() {
		c.members.term++
		c.state.lessor.promote(now)
	}
	c.members.jump(now, s.store.rev, s.store.compacted)
	for _, n := range c.nodes {
		for st := range n.streams {
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
		c.state.alarm(&pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: memberID, Alarm: pb.AlarmType_NOSPACE})
	}
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

// Put writes a key at once. Lease -1 keeps the key's lease.
func (c *Cluster) Put(key, value string, lease int64) error {
	r := &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease}
	if lease == -1 {
		r.Lease, r.IgnoreLease = 0, true
	}
	err := c.operate(func(time.Time) error {
		_, err := c.state.put(requester{root: true}, r)
		return err
	})
	if err != nil {
		return fmt.Errorf("etcd: put %s: %w", key, err)
	}
	return nil
}

// Delete removes a key at once, and reports whether it was there.
func (c *Cluster) Delete(key string) bool {
	return c.delete(&pb.DeleteRangeRequest{Key: []byte(key)}) > 0
}

// DeletePrefix removes the keys that begin with prefix at once, in one transaction, and returns how many they were.
func (c *Cluster) DeletePrefix(prefix string) int {
	sp := prefixSpan(prefix)
	return c.delete(&pb.DeleteRangeRequest{Key: []byte(sp.from), RangeEnd: []byte(sp.to)})
}

func (c *Cluster) delete(r *pb.DeleteRangeRequest) (n int) {
	err := c.operate(func(time.Time) error {
		resp, err := c.state.deleteRange(requester{root: true}, r)
		n = int(resp.GetDeleted())
		return err
	})
	if err != nil {
		panic("etcd: the operator may not delete: " + err.Error())
	}
	return n
}

// Grant grants a lease at once and returns its id.
func (c *Cluster) Grant(ttl time.Duration) (id int64) {
	c.mu.Lock()
	defer c.unlock()
	now := time.Now()
	c.state.nextID++
	l, err := c.state.lessor.grant(now, c.state.nextID, int64(ttl/time.Second))
	if err != nil {
		panic("etcd: the operator's lease is refused: " + err.Error())
	}
	c.committed(now)
	return l.id
}

// Revoke ends a lease at once, with its keys.
func (c *Cluster) Revoke(lease int64) error {
	err := c.operate(func(time.Time) error {
		_, err := c.state.revoke(requester{root: true}, lease, false)
		return err
	})
	if err != nil {
		return fmt.Errorf("etcd: revoke lease %x: %w", lease, err)
	}
	return nil
}

// Compact drops the history before the present revision.
func (c *Cluster) Compact() {
	c.mu.Lock()
	defer c.unlock()
	if c.state.store.rev > c.state.store.compacted {
		c.state.store.compacted = c.state.store.rev
		c.committed(time.Now())
	}
}

// operate carries out f on the committed state.
func (c *Cluster) operate(f func(now time.Time) error) error {
	c.mu.Lock()
	defer c.unlock()
	now := time.Now()
	err := f(now)
	c.committed(now)
	return err
}

// Revision returns the revision of what is committed.
func (c *Cluster) Revision() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.store.rev
}

// Entry is a key with what is known of it.
type Entry struct {
	Key, Value                  string
	Lease, Create, Mod, Version int64
}

func entryOf(kv *mvccpb.KeyValue) Entry {
	return Entry{string(kv.Key), string(kv.Value), kv.Lease, kv.CreateRevision, kv.ModRevision, kv.Version}
}

// Get returns a key as it is committed.
func (c *Cluster) Get(key string) (Entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kv := c.state.store.get(key, c.state.store.rev)
	if kv == nil {
		return Entry{}, false
	}
	return entryOf(kv), true
}

// Entries returns the keys that begin with prefix, sorted.
func (c *Cluster) Entries(prefix string) []Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Entry
	for _, it := range c.state.store.within(prefixSpan(prefix)) {
		if kv := it.at(c.state.store.rev); kv != nil {
			out = append(out, entryOf(kv))
		}
	}
	return out
}

// prefixSpan returns the span of the keys that begin with prefix.
func prefixSpan(prefix string) span {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			return span{prefix, prefix[:i] + string([]byte{prefix[i] + 1})}
		}
	}
	if prefix == "" {
		prefix = "\x00"
	}
	return span{prefix, "\x00"}
}

// Lease is a lease with what is known of it.
type Lease struct {
	ID             int64
	TTL, Remaining time.Duration
	Keys           []string
}

// Leases returns the leases, those that end first first.
func (c *Cluster) Leases() []Lease {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	var out []Lease
	for _, l := range c.state.lessor.byExpiry() {
		out = append(out, Lease{l.id, time.Duration(l.ttl) * time.Second, l.remaining(now), l.sortedKeys()})
	}
	return out
}

// Change is a put or a delete that was committed.
type Change struct {
	At              time.Time
	Client          string // host of who asked for it; "" for an operator or an expiry
	Key, Value      string
	Lease, Revision int64
	Delete          bool
	Expired         bool // deleted because its lease expired
}

// OnCommit has f called for each change, in order. It must not call the cluster.
func (c *Cluster) OnCommit(f func(Change)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.observers = append(c.observers, f)
}

// observe tells the observers of a commit.
func (c *Cluster) observe(now time.Time, one commit) {
	for _, f := range c.observers {
		for _, e := range one.events {
			f(Change{
				At: now, Client: one.client, Key: string(e.Kv.Key), Value: string(e.Kv.Value), Lease: e.Kv.Lease,
				Revision: e.Kv.ModRevision, Delete: e.Type == mvccpb.Event_DELETE, Expired: one.expired,
			})
		}
	}
}

// Requests returns how many requests of each method came from a host so far.
func (c *Cluster) Requests(client string) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.requests[client])
}
