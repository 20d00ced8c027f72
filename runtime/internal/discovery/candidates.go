package discovery

import (
	"slices"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
)

// CandidatePrefix returns the prefix of the etcd keys of the candidates for a service key. The value of each key is
// the candidate's instance id.
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
	known bool  // etcd has shown the candidates, or has refused to
	err   error // why the candidates cannot be followed now
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
	epoch   int    // counts subscriptions: updates of older ones are dropped
	stop    func() // ends the subscription; nil while nothing is followed
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
			c.seen.Store(&seen{}) // the next reader must not see an old state
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

// Standing is a candidate's view of all candidates, and of the drain in its service's live config.
type Standing struct {
	*Candidates
	instance, addr string
	reader         endpoint.Reader
	live           atomic.Pointer[livePolicy] // nil if the live config has no policy of ours
}

// livePolicy is our policy in a live config.
type livePolicy struct {
	*serviceconfig.Etcd
	key *Key // the key whose endpoints decide whether Drain is in force; nil if Drain is always in force
}

// Standing returns an instance's view of the candidates for a service key. layouts has the layouts of the instance's entry.
func (ks *Keys) Standing(name, instance, addr string, layouts []endpoint.Layout) *Standing {
	reader, _ := endpoint.NewReader(layouts...) // with two JSON layouts there is no reader, and no instance counts as drained
	return &Standing{Candidates: ks.Candidates(name), instance: instance, addr: addr, reader: reader}
}

// Read implements [election.Candidates].
func (s *Standing) Read(notify func()) (stop func()) {
	stopCandidates := s.Candidates.Read(notify)
	var mu sync.Mutex
	stopKey, stopped := func() {}, false
	take := func(policy *serviceconfig.Etcd) {
		mu.Lock()
		defer mu.Unlock()
		stopKey()
		stopKey = func() {}
		if policy == nil || stopped {
			s.live.Store(nil)
			return
		}
		live := &livePolicy{Etcd: policy}
		if len(policy.Drain) > 0 && (policy.MinHealthyPercent > 0 || len(policy.Route) > 0) {
			live.key = s.keys.Key(s.name, s.reader)
			stopKey = live.key.Read(notify)
		}
		s.live.Store(live)
	}
	stopConfig := s.keys.followConfig(s.name, func(u listwatch.Update[liveConfig]) {
		if u.Snapshot == nil {
			return
		}
		var policy *serviceconfig.Etcd
		if len(u.Snapshot.Items) > 0 {
			// Callers must link the policies of the config, but this process need not.
			config, err := s.keys.cfg.parse(u.Snapshot.Items[0].Value, serviceconfig.ParseLive)
			if err != nil {
				return // the last valid one stays in force
			}
			if list := config.LoadBalancing; len(list) > 0 {
				policy = list[0].Etcd()
			}
		}
		take(policy)
		notify()
	})
	return func() {
		stopConfig()
		mu.Lock()
		stopped = true
		mu.Unlock()
		take(nil)
		stopCandidates()
	}
}

// View implements [election.Candidates].
func (s *Standing) View() election.View {
	seen := s.seen.Load()
	return election.View{Known: seen.known, First: seen.First, Blind: refused(seen.err), Yields: s.yields(seen.all)}
}

// yields reports whether the instance is drained and another candidate is not. Before the endpoints are known, none is.
func (s *Standing) yields(all []*listwatch.Item[string]) bool {
	live := s.live.Load()
	if live == nil || !slices.Contains(live.Drain, s.instance) && !slices.Contains(live.Drain, s.addr) {
		return false
	}
	drained := func(instance string) bool { return instance == s.instance || slices.Contains(live.Drain, instance) }
	if live.key != nil {
		state := live.key.State()
		drainedEndpoints := state.Drained(live.Etcd)
		drained = func(instance string) bool {
			id := state.NameOf(instance)
			i := slices.IndexFunc(state.Backends, func(b *Backend) bool { return b.Endpoint.Instance == id })
			return i >= 0 && drainedEndpoints[&state.Backends[i].Endpoint]
		}
	}
	return drained(s.instance) && slices.ContainsFunc(all, func(other *listwatch.Item[string]) bool { return !drained(other.Value) })
}
