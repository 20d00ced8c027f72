package discovery

import (
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// CandidatePrefix returns the prefix of the etcd keys of the candidates for a service key. The value of each is the
// candidate's instance id.
func CandidatePrefix(namespace, name string) string {
	return namespace + servicekey.LeaderPrefix(name)
}

// maxCandidates bounds the candidates that are kept for a key. If there are more, no instance leads.
const maxCandidates = 20_000

// Leader is the candidate that precedes all others.
type Leader struct {
	candidate.First
	Instance string
}

// seen is the last state of the candidates for a key.
type seen struct {
	Leader
	all   []*listwatch.Item[string]
	known bool  // etcd has shown them, or refused to
	err   error // why they cannot be followed now
}

// Candidates follows the candidates for one service key. All of its readers share one watch. It is safe for
// concurrent use.
type Candidates struct {
	keys   *Keys
	name   string
	prefix string
	seen   atomic.Pointer[seen]

	mu      sync.Mutex
	readers map[*reader]struct{}
	epoch   int    // counts subscriptions: updates of an older one are dropped
	stop    func() // ends the subscription; nil: nothing is followed
}

// Candidates returns the candidates for a service key, which are not followed before Read is called.
func (ks *Keys) Candidates(name string) *Candidates {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	c := ks.candidates[name]
	if c == nil {
		c = &Candidates{keys: ks, name: name, prefix: CandidatePrefix(ks.cfg.Namespace, name), readers: make(map[*reader]struct{})}
		c.seen.Store(&seen{})
		ks.candidates[name] = c
	}
	return c
}

// last returns the last state. For a nil c, the state is known, without candidates.
func (c *Candidates) last() *seen {
	if c == nil {
		return &seen{known: true}
	}
	return c.seen.Load()
}

// Leader returns the first candidate, the zero value if none is known.
func (c *Candidates) Leader() Leader { return c.last().Leader }

// Known reports whether etcd has shown the candidates, or refused to.
func (c *Candidates) Known() bool { return c.last().known }

// Err returns why the candidates cannot be followed now, nil while they are followed or have no readers.
func (c *Candidates) Err() error { return c.last().err }

// Read calls notify at once, and after each change of the candidates or of Err, until stop is called. notify must not block,
// nor call Read or stop.
func (c *Candidates) Read(notify func()) (stop func()) {
	r := &reader{notify}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers[r] = struct{}{}
	if c.stop == nil {
		c.follow()
	}
	r.notify()
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.readers, r)
		if len(c.readers) == 0 {
			c.stop()
			c.stop = nil
			c.epoch++
			c.seen.Store(&seen{}) // it is out of date for the next reader
		}
	})
}

// follow starts to follow the candidates. It must be called with mu held.
func (c *Candidates) follow() {
	epoch := c.epoch
	c.stop = c.keys.elections.Follow(listwatch.Spec[string]{
		Range: listwatch.Prefix(c.prefix), Decode: func(entry *mvccpb.KeyValue) (string, bool, error) {
			instance, err := candidate.InstanceOf(c.prefix, entry)
			return instance, true, err
		},
	}, func(u listwatch.Update[string]) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if epoch != c.epoch {
			return
		}
		next := *c.seen.Load()
		next.known, next.err = next.known || u.Snapshot != nil || refused(u.Err), u.Err
		if u.Snapshot != nil {
			next.Leader, next.all = first(u.Snapshot.Items), u.Snapshot.Items
			if u.Snapshot.Truncated {
				next.Leader = Leader{} // the leader may have been left out
			}
		}
		c.seen.Store(&next)
		for r := range c.readers {
			r.notify()
		}
	})
}

// first returns the candidate that precedes all others.
func first(items []*listwatch.Item[string]) Leader {
	var l Leader
	for _, item := range items {
		if one := (candidate.First{Key: item.Key, Created: item.CreateRevision}); one.Precedes(l.First) {
			l = Leader{one, item.Value}
		}
	}
	return l
}
