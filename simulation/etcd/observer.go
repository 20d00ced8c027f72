package etcd

import (
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Revision returns the revision of what is committed.
func (c *Cluster) Revision() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.store.rev
}

// Entry is a key with its value and revisions.
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

// Lease is a lease with its keys.
type Lease struct {
	ID             int64
	TTL, Remaining time.Duration
	Keys           []string
}

// Leases returns the leases, the next to expire first.
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

// Left returns those of some leases that there are.
func (c *Cluster) Left(ids []int64) []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(ids), func(id int64) bool { return c.state.lessor.leases[id] == nil })
}

// Watch is a watch that is open.
type Watch struct {
	Client   string // host of the peer
	From, To string // its range; To is "" for the key From alone
}

// Watches returns the watches of all members.
func (c *Cluster) Watches() []Watch {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Watch
	for _, n := range c.nodes {
		for _, s := range n.streams {
			for _, w := range s.watches.watchers {
				out = append(out, Watch{host(s.ctx), w.keys.from, w.keys.to})
			}
		}
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
