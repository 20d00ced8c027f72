package discovery

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/resolver"
)

// configGrace is how long the first endpoints wait for word of a live service config, so that a
// connection does not start under one policy and change to another at once.
const configGrace = 200 * time.Millisecond

// holdMemory is how long a key without connections remembers its endpoints, for hold to compare with:
// what left since is no news after that.
const holdMemory = time.Minute

// Key is one service key: what its connections share. All of its work is done once, however many
// connections there are; a connection costs an entry in a map, and a goroutine for as long as it
// takes an update.
type Key struct {
	Name string // as users know it, for error texts

	cfg    Config
	source Source
	memory Memory // nil: none

	left time.Time // when the last connection did

	subscription sync.Mutex // taken before mu, and never by what the source calls
	stop         func()     // ends what the source sends; nil while there are no connections

	mu         sync.Mutex
	conns      map[*conn]struct{}
	asked      bool       // memory was
	remembered []*Backend // what it had
	news       Endpoints
	hold       hold
	recheck    *time.Timer // of hold
	live       ServiceConfig
	waiting    *time.Timer           // for live; nil: not begun
	waived     bool                  // live was waited for long enough
	state      atomic.Pointer[State] // written with mu held
}

// State is what a key's connections are told. It is immutable and shared by them.
type State struct {
	Known     bool
	Backends  []*Backend
	Endpoints []resolver.Endpoint // of Backends, in the same order
	addresses *addresses          // of Backends; nil while not known
	Live      string              // live service config, "" none
	LiveKnown bool                // etcd has said whether there is one
	LiveSeen  bool                // there is or was one
	Err       error               // why etcd cannot be followed now
	Definite  bool                // Err is etcd's own answer

	Provisional bool      // the set may be behind etcd
	Held        int       // of Backends, those that etcd no longer has
	Changed     time.Time // when Backends last did
}

// NewKey returns a key that asks source for nothing until it has a connection.
func NewKey(name string, cfg Config, source Source, memory Memory) *Key {
	k := &Key{
		Name: name, cfg: cfg, source: source, memory: memory,
		conns: make(map[*conn]struct{}),
		hold:  hold{grace: cfg.EmptyGrace},
	}
	k.state.Store(&State{})
	return k
}

// State returns what is known now.
func (k *Key) State() *State { return k.state.Load() }

// Connections is how many there are.
func (k *Key) Connections() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.conns)
}

// join has c told all news from now on, beginning with what is known.
func (k *Key) join(c *conn) {
	k.subscription.Lock()
	defer k.subscription.Unlock()
	k.mu.Lock()
	if k.stop == nil && time.Since(k.left) > holdMemory {
		k.hold = hold{grace: k.cfg.EmptyGrace}
	}
	k.conns[c] = struct{}{}
	k.mu.Unlock()
	if k.stop == nil {
		stopEndpoints := k.source.Endpoints(k.endpoints)
		stopConfig := k.source.ServiceConfig(k.serviceConfig)
		k.stop = func() { stopEndpoints(); stopConfig() }
	}
	c.notify()
}

// leave is the end of join. What is known is forgotten with the last connection: the source
// remembers it, and how old it is. What hold knows stays.
func (k *Key) leave(c *conn) {
	k.subscription.Lock()
	defer k.subscription.Unlock()
	k.mu.Lock()
	delete(k.conns, c)
	last := len(k.conns) == 0 && k.stop != nil
	k.mu.Unlock()
	if !last {
		return
	}
	k.stop()
	k.stop = nil
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, timer := range []*time.Timer{k.recheck, k.waiting} {
		if timer != nil {
			timer.Stop()
		}
	}
	k.recheck, k.waiting, k.waived = nil, nil, false
	k.asked, k.remembered = false, nil
	k.news, k.live = Endpoints{}, ServiceConfig{}
	// gRPC keeps the last config that it was given through idleness, so that there was one is remembered.
	k.state.Store(&State{LiveSeen: k.state.Load().LiveSeen})
	k.left = time.Now()
}

// endpoints takes news of the endpoints.
func (k *Key) endpoints(news Endpoints) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !news.Known && news.Err != nil {
		k.remember(&news)
	}
	k.news = news
	if k.waiting == nil && news.Known && !k.live.Known {
		k.waiting = time.AfterFunc(configGrace, k.waive)
	}
	k.update()
}

// remember fills news in from the memory, which is asked once. It must be called with mu held.
func (k *Key) remember(news *Endpoints) {
	if k.memory != nil && !k.asked {
		k.asked = true
		k.remembered, _ = k.memory.Load()
	}
	if len(k.remembered) > 0 {
		news.Backends, news.Known, news.Provisional = k.remembered, true, true
	}
}

func (k *Key) serviceConfig(news ServiceConfig) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.live = news
	k.update()
}

func (k *Key) waive() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waived = true
	k.update()
}

func (k *Key) reconsider() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.update()
}

// update works out the state and tells the connections if it is news. It must be called with mu
// held.
func (k *Key) update() {
	old := k.state.Load()
	next := &State{
		Live: k.live.JSON, LiveKnown: k.live.Known, LiveSeen: old.LiveSeen || k.live.JSON != "",
		Err: k.news.Err, Definite: k.news.Definite, Provisional: k.news.Provisional, Changed: old.Changed,
	}
	if k.news.Known && (k.live.Known || k.waived) {
		next.Known = true
		next.Backends = k.held()
		next.Held = len(k.hold.kept)
	}
	if same := next.Known == old.Known && slices.Equal(next.Backends, old.Backends); same {
		next.Backends, next.Endpoints, next.addresses = old.Backends, old.Endpoints, old.addresses
		if next.Live == old.Live && next.LiveSeen == old.LiveSeen && next.LiveKnown == old.LiveKnown && (next.Known || !newError(old, next)) {
			k.state.Store(next)
			return
		}
	} else {
		next.Endpoints = formsOf(next.Backends, old.Backends, old.Endpoints, (*Backend).endpoint)
		next.addresses = old.addresses.after(next.Backends, old.Backends)
		next.Changed = time.Now()
	}
	k.state.Store(next)
	for c := range k.conns {
		c.notify()
	}
}

// newError tells whether connections without endpoints have another reason to give than before.
func newError(old, next *State) bool {
	return old.Definite != next.Definite || fmt.Sprint(old.Err) != fmt.Sprint(next.Err)
}

// held returns the endpoints after hold had its say, and remembers the true ones.
func (k *Key) held() []*Backend {
	backends, recheck := k.hold.filter(k.news.Backends, time.Now())
	if k.recheck != nil {
		k.recheck.Stop()
		k.recheck = nil
	}
	if !recheck.IsZero() {
		k.recheck = time.AfterFunc(time.Until(recheck), k.reconsider)
	}
	if k.memory != nil && !k.news.Provisional {
		k.memory.Save(backends)
	}
	return backends
}
