package election

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/extension"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

// repeatMin and repeatMax bound the pause between attempts of a call that the
// supposed leader refuses.
const (
	repeatMin = 20 * time.Millisecond
	repeatMax = 500 * time.Millisecond
)

// Leader is the candidate that precedes all others.
type Leader struct {
	First
	Instance string
}

// seen is the last state of the candidates for a key.
type seen struct {
	Leader
	all   []*listwatch.Item[string]
	known bool  // etcd has shown the candidates since following began, or has refused to
	err   error // why the candidates cannot be followed now
}

// Candidates follows the candidates for one service key. All of its readers
// share one watch. It is safe for concurrent use.
type Candidates struct {
	Prefix string // of their etcd keys, whose values are their instance ids
	keys   *discovery.Keys
	name   string
	seen   atomic.Pointer[seen]

	mu      sync.Mutex
	readers map[*func()]struct{}
	epoch   int    // counts subscriptions: updates of older ones are dropped
	stop    func() // ends the subscription; nil while nothing is followed
}

// candidatesKey is the key of a Candidates in a host's State: the service key.
type candidatesKey string

// CandidatesOf returns a registry's candidates for a service key, which are not
// followed before Read is called.
func CandidatesOf(h *extension.Host, name string) *Candidates {
	c := &Candidates{
		keys:    h.Keys,
		name:    name,
		Prefix:  h.Keys.Full(candidate.Prefix(name)),
		readers: make(map[*func()]struct{}),
	}

	c.seen.Store(&seen{})
	one, _ := h.State.LoadOrStore(candidatesKey(name), c)

	return one.(*Candidates)
}

// Leader returns the first candidate, the zero value if none is known or
// nothing is followed. While the candidates cannot be read, it returns the last
// known one.
func (c *Candidates) Leader() Leader {
	if s := c.seen.Load(); s.known || s.err != nil {
		return s.Leader
	}

	return Leader{}
}

// Known reports whether etcd has shown the candidates, or refused to.
func (c *Candidates) Known() bool {
	return c.seen.Load().known
}

// Err returns why the candidates cannot be followed now, nil while they are
// followed or have no readers.
func (c *Candidates) Err() error {
	return c.seen.Load().err
}

// Read calls notify at once, and after each change of the candidates or of Err,
// until stop is called. notify must not block, nor call Read or stop.
func (c *Candidates) Read(notify func()) (stop func()) {
	r := &notify
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
			c.stop = nil
			c.epoch++
			c.seen.Store(&seen{Leader: c.seen.Load().Leader})
		}
	})
}

// Await waits between a refusal by the leader with token and the call's next
// attempt: until another candidate leads, ctx ends, or a pause is over. last is the
// result of the call's last Await, 0 at first. The result is the pause, or 0 if
// another candidate leads: that one may refuse the call, too, until it knows that
// it leads.
func (c *Candidates) Await(
	ctx context.Context,
	token int64,
	last time.Duration,
) (pause time.Duration) {
	pause = min(max(2*last, repeatMin), repeatMax)
	changed := make(chan struct{}, 1)
	stop := c.Read(func() {
		if c.Leader().Created != token {
			listwatch.Signal(changed)
		}
	})
	defer stop()

	timer := time.NewTimer(pause)
	defer timer.Stop()

	select {
	case <-changed:
		return 0
	case <-timer.C:
	case <-ctx.Done():
	}

	return pause
}

// follow starts to follow the candidates. It must be called with mu held.
func (c *Candidates) follow() {
	epoch := c.epoch
	decode := func(entry *mvccpb.KeyValue) (string, bool, error) {
		instance, err := candidate.InstanceOf(c.Prefix, entry)
		return instance, true, err
	}

	c.stop = c.keys.Ranges.Follow(listwatch.Prefix(c.Prefix), decode,
		func(u listwatch.Update[string]) {
			c.mu.Lock()
			defer c.mu.Unlock()

			if epoch == c.epoch {
				c.see(u)
			}
		})
}

// see handles an update of the candidates. It must be called with mu held.
func (c *Candidates) see(u listwatch.Update[string]) {
	next := *c.seen.Load()
	next.known = next.known || u.Snapshot != nil || discovery.Refused(u.Err)
	next.err = u.Err

	if u.Snapshot != nil {
		next.Leader = first(u.Snapshot.Items)
		next.all = slices.Clone(u.Snapshot.Items)

		if u.Snapshot.Truncated {
			next.Leader = Leader{} // the leader may have been left out
		}
	}

	c.seen.Store(&next)

	for r := range c.readers {
		(*r)()
	}
}

// first returns the candidate that precedes all others.
func first(items []*listwatch.Item[string]) Leader {
	var l Leader
	for _, item := range items {
		one := (First{Key: item.Key, Created: item.CreateRevision})
		if one.Precedes(l.First) {
			l = Leader{one, item.Value}
		}
	}

	return l
}

// Candidacy is a candidate's view of all candidates, and of the drain in its
// service's live config.
type Candidacy struct {
	*Candidates
	instance string
	reader   endpoint.Reader
	live     atomic.Pointer[livePolicy] // nil if the live config drains nothing
}

// livePolicy is our policy in a live config.
type livePolicy struct {
	*serviceconfig.Etcd

	// has the endpoints that decide whether Drain is in force
	state func() *discovery.State
}

// Of returns the election of an entry's instance. grace is that of Config.
// changed is called when the term has changed.
func Of(
	h *extension.Host,
	e registrar.Entry,
	grace time.Duration,
	changed func(),
) (registrar.Companion, error) {
	one := e.Layouts[0]
	instance := one.Instance(e.Endpoint)
	if len(instance) > candidate.MaxInstance {
		return nil, fmt.Errorf("the instance id has %d bytes, more than the %d that stand for election: set a shorter one",
			len(instance), candidate.MaxInstance)
	}

	for _, other := range e.Layouts[1:] {
		if other.Instance(e.Endpoint) != instance {
			return nil, fmt.Errorf("layouts %s and %s cannot stand for one election with an instance id: readers of one of them see the address instead; leave out the id or a layout",
				one, other)
		}
	}

	// fails for two JSON layouts: then no instance counts as drained
	reader, _ := endpoint.NewReader(e.Layouts...)
	s := &Candidacy{Candidates: CandidatesOf(h, e.Key), instance: instance, reader: reader}
	return New(Config{
		Host:        h,
		Prefix:      s.Prefix,
		Instance:    instance,
		TTL:         e.TTL,
		Grace:       grace,
		Candidates:  s,
		TermChanged: changed,
	}), nil
}

// Read does what Candidates.Read does, and also notifies of a change of the
// drain.
func (s *Candidacy) Read(notify func()) (stop func()) {
	stopCandidates := s.Candidates.Read(notify)
	var mu sync.Mutex

	// take follows the endpoints while the live config drains any
	stopKey := func() {}
	stopped := false
	take := func(policy *serviceconfig.Etcd) {
		mu.Lock()
		defer mu.Unlock()

		stopKey()
		stopKey = func() {}

		if policy == nil || len(policy.Drain) == 0 || stopped {
			s.live.Store(nil)
			return
		}

		key := s.keys.Key(s.name, s.reader)
		stopRead := key.Read(notify)
		stopEnds := notifyOfEnds(policy, notify)
		stopKey = func() {
			stopRead()
			stopEnds()
		}

		s.live.Store(&livePolicy{policy, key.State})
	}

	stopConfig := s.keys.FollowPolicy(s.name, func(policy *serviceconfig.Etcd) {
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

// notifyOfEnds calls notify after each end of a drain of the policy, when View
// changes, though nothing does in etcd.
func notifyOfEnds(policy *serviceconfig.Etcd, notify func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wait func()
	wait = func() {
		remaining := *policy
		next := remaining.EndDrains(time.Now())
		if next.IsZero() {
			return
		}

		end := time.AfterFunc(time.Until(next), func() {
			notify()
			wait() // also if the clock was set back meanwhile
		})

		context.AfterFunc(ctx, func() { end.Stop() })
	}

	wait()

	return cancel
}

// View returns the state of the candidates as the instance sees it.
func (s *Candidacy) View() View {
	seen := s.seen.Load()

	return View{
		Known:  seen.known,
		First:  seen.First,
		Blind:  discovery.Refused(seen.err),
		Yields: s.yields(seen.all),
	}
}

// yields reports whether the instance is drained and another candidate is not.
// Before the endpoints are known, none is.
func (s *Candidacy) yields(all []*listwatch.Item[string]) bool {
	live := s.live.Load()
	if live == nil {
		return false
	}

	state := live.state()
	policy := *live.Etcd
	policy.EndDrains(time.Now())
	drainedEndpoints := state.Drained(&policy)
	drained := func(instance string) bool {
		id := state.NameOf(instance)
		i := slices.IndexFunc(state.Backends, func(b *discovery.Backend) bool {
			return b.Endpoint.Instance == id
		})

		return i >= 0 && drainedEndpoints[&state.Backends[i].Endpoint]
	}

	return drained(s.instance) && slices.ContainsFunc(all,
		func(other *listwatch.Item[string]) bool { return !drained(other.Value) })
}
