package discovery

import (
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
)

// CandidatePrefix returns the prefix of the etcd keys of the candidates for a service key. The value of each is the id
// of the instance that stands.
func CandidatePrefix(namespace, name string) string {
	return namespace + servicekey.LeaderPrefix(name)
}

// Leader is the candidate that precedes all others.
type Leader struct {
	election.First
	Instance string
}

// Candidates follows the candidates for one service key. All of its readers share one watch. It is safe for
// concurrent use.
type Candidates struct {
	keys   *Keys
	prefix string
	leader atomic.Pointer[Leader]

	mu      sync.Mutex
	readers map[*reader]struct{}
	epoch   int    // counts subscriptions: updates of an older one are dropped
	stop    func() // ends the subscription; nil: nothing is followed
	err     error  // what keeps the candidates from being followed now; nil while they are
}

// Candidates returns the candidates for a service key, which are not followed before Read is called.
func (ks *Keys) Candidates(name string) *Candidates {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	c := ks.candidates[name]
	if c == nil {
		c = &Candidates{keys: ks, prefix: CandidatePrefix(ks.cfg.Namespace, name), readers: make(map[*reader]struct{})}
		c.leader.Store(&Leader{})
		ks.candidates[name] = c
	}
	return c
}

// Leader returns the first candidate, the zero value while there is none or nothing is known.
func (c *Candidates) Leader() Leader {
	if c == nil {
		return Leader{}
	}
	return *c.leader.Load()
}

// Err returns what keeps the candidates from being followed now, nil while they are or nobody reads them.
func (c *Candidates) Err() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// First implements [election.Candidates].
func (c *Candidates) First() election.First { return c.leader.Load().First }

// Read has notify called after each change of the leader until stop is called. notify must not block, nor call Read or
// stop. The first call comes at once.
func (c *Candidates) Read(notify func()) (stop func()) {
	r := &reader{notify}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers[r] = struct{}{}
	if c.stop == nil {
		c.follow()
	}
	notify()
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.readers, r)
		if len(c.readers) == 0 {
			c.stop()
			c.stop, c.err = nil, nil
			c.epoch++
			c.leader.Store(&Leader{}) // who reads next must not go by it
		}
	})
}

// follow starts to follow the candidates. It must be called with mu held.
func (c *Candidates) follow() {
	epoch := c.epoch
	c.stop = c.keys.elections.Follow(listwatch.Spec[string]{
		Range: listwatch.Range{From: c.prefix, End: clientv3.GetPrefixRangeEnd(c.prefix)}, Decode: func(entry *mvccpb.KeyValue) (string, bool, error) {
			instance, err := election.InstanceOf(c.prefix, entry)
			return instance, true, err
		},
	}, func(u listwatch.Update[string]) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if epoch != c.epoch {
			return
		}
		c.err = u.Err
		if u.Snapshot == nil {
			return
		}
		if next := first(u.Snapshot.Items); next != *c.leader.Load() {
			c.leader.Store(&next)
			for r := range c.readers {
				r.notify()
			}
		}
	})
}

// first returns the candidate that precedes all others.
func first(items []*listwatch.Item[string]) Leader {
	var l Leader
	for _, item := range items {
		if one := (election.First{Key: item.Key, Created: item.CreateRevision}); one.Precedes(l.First) {
			l = Leader{one, item.Value}
		}
	}
	return l
}
