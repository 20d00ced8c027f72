package discovery

import (
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// Key is one service key, with a state that all of its readers share. It passes
// events to its core and applies the core's effects. It is safe for concurrent
// use.
type Key struct {
	Name string // the service key without the namespace

	keys        *Keys
	place       place
	connections atomic.Int64
	state       atomic.Pointer[State] // the core's current state

	// when Keys.Key last returned this key; guarded by Keys.mu
	asked time.Time

	failover failover // counts connections that use the fallback

	mu      sync.Mutex
	core    *core
	list    *grpcList // the last one; nil before latestList is called
	readers map[*reader]struct{}
	timer   *time.Timer
	epoch   int    // counts subscriptions: events of older ones are dropped
	stop    func() // ends the current subscription
}

// reader is a caller of Read.
type reader struct{ notify func() }

// Full returns the key in etcd, with the namespace.
func (k *Key) Full() string {
	return k.keys.Full(k.Name)
}

// State returns the current state.
func (k *Key) State() *State {
	return k.state.Load()
}

// listPause is the minimum pause after a list of a key, for each endpoint of
// the list. A list of 1,000 endpoints has 96 KB, and gRPC's policies read all
// of it.
const listPause = 20 * time.Microsecond

// grpcList is a state with its endpoints in gRPC's forms. All bare resolvers of
// a key give gRPC the same lists, which policies do not modify.
type grpcList struct {
	*State
	lists resolver.State
	until time.Time // when the next list may be made
}

// latestList returns a list of the current state. During the pause after the
// last list, it returns the last list.
func (k *Key) latestList() *grpcList {
	k.mu.Lock()
	defer k.mu.Unlock()

	s := k.State()
	if k.list == nil || k.list.State != s && !time.Now().Before(k.list.until) {
		k.list = &grpcList{s, model.Lists(s.Endpoints),
			time.Now().Add(listPause * time.Duration(len(s.Endpoints)))}
	}

	return k.list
}

// offered returns the state for connections that fall back on the key. It
// returns nil for a nil key, and once the registry is closed, since the state
// no longer changes.
func (k *Key) offered() *State {
	if k == nil || k.keys.closed.Load() {
		return nil
	}

	return k.State()
}

// Connections returns the number of gRPC connections to the key that are not
// idle.
func (k *Key) Connections() int {
	return int(k.connections.Load())
}

// Read calls notify after each change of the state until stop is called, and at
// once if the endpoints are known or there is an error. One call may stand for
// several changes. notify must not block, nor call methods of the key. The key
// is followed while it has readers, and for the duration linger after the last
// one has left.
func (k *Key) Read(notify func()) (stop func()) {
	r := &reader{notify}
	k.mu.Lock()
	k.readers[r] = struct{}{}
	k.apply(k.core.onReaderAdded(time.Now()))

	if s := k.core.state; s.Known || s.Err != nil {
		notify()
	}

	k.mu.Unlock()

	return sync.OnceFunc(func() {
		k.mu.Lock()
		defer k.mu.Unlock()

		delete(k.readers, r)
		k.apply(k.core.onReaderClosed(time.Now()))
	})
}

// Changes reads the key for a goroutine that waits: changed has a value after
// one or several changes, until stop is called.
func (k *Key) Changes() (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	return c, k.Read(func() { listwatch.Signal(c) })
}

// followed reports whether the key is followed.
func (k *Key) followed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()

	return k.core.followed()
}

// apply applies the effects of an event. It must be called with mu held.
func (k *Key) apply(e effects) {
	k.state.Store(k.core.state)

	switch {
	case e.follow:
		k.follow()
	case e.unfollow:
		k.epoch++
		k.stop()
	}

	if e.save != nil {
		k.keys.disk.save(k.place, e.save)
	}

	if e.changed {
		for r := range k.readers {
			r.notify()
		}
	}

	k.wake(e.wake)
}

// follow starts to follow the key in etcd.
func (k *Key) follow() {
	k.epoch++
	epoch := k.epoch
	decode := func(entry *mvccpb.KeyValue) (*Backend, bool, error) {
		return k.keys.decode(k.Name, k.place.reader, entry)
	}
	stopEndpoints := k.keys.endpoints.Follow(
		k.place.Range,
		decode,
		func(u listwatch.Update[*Backend]) {
			k.event(epoch, func(now time.Time) effects { return k.core.onEntries(u, now) })
		},
	)

	stopConfig := k.keys.followConfig(k.Name, func(u listwatch.Update[liveConfig]) {
		k.event(epoch, func(now time.Time) effects { return k.core.onConfig(u, now) })
	})
	k.stop = func() {
		stopEndpoints()
		stopConfig()
	}
}

// event passes an event to the core, unless its subscription has ended, and
// applies the effects.
func (k *Key) event(epoch int, event func(now time.Time) effects) {
	var e effects

	k.mu.Lock()
	if epoch == k.epoch {
		e = event(time.Now())
		k.apply(e)
	}

	k.mu.Unlock()

	if e.load { // without mu, so that only the caller, list-watch, waits for the disk
		s := k.keys.disk.load(k.place)
		k.event(epoch, func(now time.Time) effects { return k.core.onLoaded(s, now) })
	}

	if w := e.warn; w.err != nil {
		k.keys.cfg.Logger.Warn(
			"bad live service config in etcd; the config in force does not change",
			loglimit.Attrs(w.missed, "key", ConfigKey(k.keys.cfg.Namespace, k.Name),
				"error", w.err)...,
		)
	}
}

// wake sets the timer for the core's next tick. A closed registry sets no
// timer, which would keep the key in memory.
func (k *Key) wake(at time.Time) {
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}

	if !at.IsZero() && !k.keys.closed.Load() {
		epoch := k.epoch
		k.timer = time.AfterFunc(time.Until(at), func() { k.event(epoch, k.core.tick) })
	}
}

// close stops the timer and notifies the readers. The subscriptions have ended.
func (k *Key) close() {
	k.mu.Lock()
	defer k.mu.Unlock()

	k.epoch++
	k.wake(time.Time{})

	for r := range k.readers {
		r.notify()
	}
}

// failover counts a key's connections that send calls to the fallback.
type failover struct {
	connections atomic.Int64 // written with mu held

	mu     sync.Mutex
	logged bool // the last log line says that calls go to the fallback
	limit  loglimit.Limiter
}

// SetFailover records whether the calls of a connection go to the fallback. It
// logs when the first connection starts to use the fallback and when the last
// one stops, unless that happens too often.
func (k *Key) SetFailover(failsOver bool) {
	f := &k.failover
	f.mu.Lock()
	defer f.mu.Unlock()

	switch {
	case failsOver:
		if f.connections.Add(1) == 1 {
			var missed int
			f.logged, missed = f.limit.Allow(time.Now())
			if f.logged {
				k.keys.cfg.Logger.Warn("calls go to the cluster to fall back on: the primary cluster has too few ready endpoints",
					loglimit.Attrs(missed, "key", k.Full())...)
			}
		}

	case f.connections.Add(-1) == 0 && f.logged:
		f.logged = false
		k.keys.cfg.Logger.Info("calls are back from the cluster to fall back on", "key",
			k.Full())
	}
}

// Away returns the number of connections whose calls go to the fallback.
func (k *Key) Away() int {
	return int(k.failover.connections.Load())
}
