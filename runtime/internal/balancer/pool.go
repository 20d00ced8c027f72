package balancer

import (
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/descriptors"
)

// linger is how long an unused connection is kept while the resolver still has its address: another
// plan, or a policy that connects lazily, may be about to use it.
const linger = 5 * time.Second

// pool owns the SubConns of one gRPC connection: one for each address, however many policies below use
// it. Each of these has a wrapper, which behaves like a SubConn of its own.
//
// A SubConn connects when it has a place in the budget of the service. One that has to wait for it is in
// TRANSIENT_FAILURE for those above, and connects when the budget says so: see dialing.go.
//
// Locks are taken in this order: policy.calls, a policy's own, the pool's, then gRPC's or the budget's and the
// queue's. Listeners are not called here but put into the queue, because a caller of the pool may hold a lock
// that they take.
type pool struct {
	cc      balancer.ClientConn
	deliver func(event func()) // puts an event into the policy's queue

	mu     sync.Mutex
	budget *descriptors.Budget // nil: no bound
	share  *descriptors.Share  // of budget
	shared map[poolKey]*entry
	all    map[*entry]struct{}
	unused map[*entry]time.Time // entries without wrappers, and until when to keep each; zero: not swept yet
	due    bool                 // the next sweep must look at unused
	next   time.Time            // when a sweep must look at it again; zero: never
	after  []func()             // to be called with no lock held
	closed bool
}

func newPool(cc balancer.ClientConn, deliver func(func())) *pool {
	return &pool{cc: cc, deliver: deliver,
		shared: make(map[poolKey]*entry), all: make(map[*entry]struct{}), unused: make(map[*entry]time.Time)}
}

// poolKey is what requests for a SubConn must have in common to share one.
type poolKey struct {
	addr, serverName string
	healthCheck      bool
}

// keyOf returns the key of a SubConn. ok is false if it cannot be shared: it has several addresses,
// attributes, or credentials of its own.
func keyOf(addrs []resolver.Address, opts balancer.NewSubConnOptions) (key poolKey, ok bool) {
	if len(addrs) != 1 || addrs[0].Attributes != nil || addrs[0].Metadata != nil || opts.CredsBundle != nil { //nolint:staticcheck // deprecated, but set by somebody
		return poolKey{}, false
	}
	return poolKey{addrs[0].Addr, addrs[0].ServerName, opts.HealthCheckEnabled}, true
}

// entry is one SubConn of gRPC's. Its fields but the first four are guarded by pool.mu.
type entry struct {
	conn    balancer.SubConn
	pool    *pool
	addr    string                  // the first, if there are several
	station atomic.Pointer[station] // of addr; nil: nobody asked for it yet
	place   *descriptors.Place
	waits   bool    // for its place; state says why
	paced   bool    // there is room, and it waits for its turn alone
	failed  error   // why the last connection failed or ended; nil: there was none
	checks  bool    // its state is also the server's health, as gRPC did it of old
	key     poolKey // zero: private
	state   balancer.SubConnState
	users   []*subConn
	health  health
}

// health is the health of a SubConn that is ready. One registration with gRPC serves all wrappers.
type health struct {
	registered bool
	known      bool
	state      balancer.SubConnState
}

// subConn is the SubConn that a policy below sees. It starts idle, and hears nothing before it is told
// to connect.
type subConn struct {
	balancer.SubConn // gRPC's, to be a SubConn at all
	pool             *pool
	owner            *child // nil: a target's
	addr             string // the first, if there are several
	listener         func(balancer.SubConnState)
	at               atomic.Pointer[entry] // changes when its addresses do

	// Guarded by pool.mu.
	connected bool // since it was last idle
	failed    bool // since it was last ready
	withheld  bool // its owner was not told that it failed, see failing.go
	shut      bool
	stands    standing // as its owner's tally has it
	health    func(balancer.SubConnState)
	healthOf  int // which registration health is of
	producers []func()
}

// real returns gRPC's SubConn.
func (w *subConn) real() balancer.SubConn { return w.at.Load().conn }

var errClosed = errors.New("etcd: the policy is closed or the address is not its own: no new SubConns")

// newSubConn returns a new wrapper, for owner or for a target.
func (p *pool) newSubConn(owner *child, addrs []resolver.Address, opts balancer.NewSubConnOptions) (*subConn, error) {
	key, shareable := keyOf(addrs, opts)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || owner != nil && owner.released {
		return nil, errClosed
	}
	e := p.shared[key]
	if e == nil || !shareable {
		var err error
		if e, err = p.open(addrs, opts); err != nil {
			return nil, err
		}
		if shareable {
			e.key = key
			p.shared[key] = e
		}
	}
	w := &subConn{SubConn: e.conn, pool: p, owner: owner, listener: opts.StateListener}
	if w.listener == nil {
		w.listener = func(s balancer.SubConnState) { owner.balancer.UpdateSubConnState(w, s) } //nolint:staticcheck // deprecated, but counted on by somebody
	}
	p.file(w, addrs)
	p.use(w, e)
	return w, nil
}

// file adds a wrapper to its owner's, under its address, and unfile removes it. They must be called with
// mu held.
func (p *pool) file(w *subConn, addrs []resolver.Address) {
	if len(addrs) > 0 {
		w.addr = addrs[0].Addr
	}
	if o := w.owner; o != nil {
		o.subConns[w.addr] = append(o.subConns[w.addr], w)
	}
}

func (p *pool) unfile(w *subConn) {
	o := w.owner
	if o == nil {
		return
	}
	left := slices.DeleteFunc(o.subConns[w.addr], func(u *subConn) bool { return u == w })
	if o.subConns[w.addr] = left; len(left) == 0 {
		delete(o.subConns, w.addr)
	}
}

// open has gRPC make a SubConn. It must be called with mu held.
func (p *pool) open(addrs []resolver.Address, opts balancer.NewSubConnOptions) (*entry, error) {
	e := &entry{pool: p, state: notConnected, checks: opts.HealthCheckEnabled}
	if len(addrs) > 0 {
		e.addr = addrs[0].Addr
	}
	opts.StateListener = func(s balancer.SubConnState) { p.changed(e, s) }
	conn, err := p.cc.NewSubConn(addrs, opts)
	if err != nil {
		return nil, err
	}
	e.conn, e.place = conn, p.share.NewPlace(e, costOf(addrs))
	p.all[e] = struct{}{}
	return e, nil
}

// use and unuse count the wrappers of an entry. They must be called with mu held.
func (p *pool) use(w *subConn, e *entry) {
	e.users = append(e.users, w)
	if _, ok := p.unused[e]; ok {
		delete(p.unused, e)
		e.place.Join(time.Now())
	}
	w.at.Store(e)
	p.count(w)
}

func (p *pool) unuse(w *subConn) {
	e := w.at.Load()
	e.users = slices.DeleteFunc(e.users, func(u *subConn) bool { return u == w })
	if len(e.users) == 0 {
		p.unused[e] = time.Time{}
		p.due = true
		e.place.Leave(time.Now())
		e.stopWaiting()
	}
}

// changed takes the state of a SubConn from gRPC.
func (p *pool) changed(e *entry, s balancer.SubConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.ConnectivityState == connectivity.Shutdown {
		return // by ourselves
	}
	e.noteState(s)
	e.state, e.health = s, health{}
	for _, w := range e.users {
		w.health = nil
		w.healthOf++
		if !w.connected {
			continue
		}
		w.connected = s.ConnectivityState != connectivity.Idle
		p.count(w)
		p.tell(w, s)
	}
}

// tell has the listener of a wrapper called. It must be called with mu held, to keep the states in
// order.
func (p *pool) tell(w *subConn, s balancer.SubConnState) {
	switch s.ConnectivityState {
	case connectivity.TransientFailure:
		w.failed = true
	case connectivity.Ready:
		w.failed, w.withheld = false, false
	}
	if p.withhold(w, s) {
		return
	}
	p.send(w, func() { w.call(func() { w.listener(s) }) })
}

// send puts an event for a wrapper where its owner will hear of it. It must be called with mu held.
func (p *pool) send(w *subConn, event func()) {
	if o := w.owner; o != nil && o.replaying {
		o.replay = append(o.replay, event)
		return
	}
	p.deliver(event)
}

// setReplaying has what happens to the wrappers of owner kept for takeReplay, or no longer: what is
// still kept then goes into the queue.
func (p *pool) setReplaying(owner *child, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	owner.replaying = on
	if !on {
		for _, event := range owner.replay {
			p.deliver(event)
		}
		owner.replay = nil
	}
}

// takeReplay returns the events kept for owner.
func (p *pool) takeReplay(owner *child) []func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	events := owner.replay
	owner.replay = nil
	return events
}

// call calls a listener, unless the owner has ended meanwhile.
func (w *subConn) call(listener func()) {
	if w.owner == nil {
		listener()
		return
	}
	w.owner.call(listener)
}

// Connect implements [balancer.SubConn].
func (w *subConn) Connect() {
	p := w.pool
	p.mu.Lock()
	if w.shut || w.connected {
		p.mu.Unlock()
		return
	}
	e := w.at.Load()
	dial := false
	if idle := e.state.ConnectivityState == connectivity.Idle; idle || e.waits && w.isTarget() {
		dial = p.mayDial(e, w.isTarget())
	}
	w.connected = true
	p.count(w)
	p.catchUp(w, e)
	p.mu.Unlock()
	if dial {
		e.conn.Connect()
	}
}

// isTarget reports whether calls that name the instance use w.
func (w *subConn) isTarget() bool { return w.owner == nil }

// catchUp tells a wrapper that begins to connect how far its SubConn has come. It must be called with mu held.
func (p *pool) catchUp(w *subConn, e *entry) {
	state := e.state.ConnectivityState
	if state == connectivity.Idle || e.knownToWait(w) {
		return
	}
	p.tell(w, balancer.SubConnState{ConnectivityState: connectivity.Connecting})
	if state != connectivity.Connecting {
		p.tell(w, e.state)
	}
}

// Shutdown implements [balancer.SubConn]. The wrapper hears that it is shut down though gRPC's SubConn
// may live on: some policies free their memory of it only then.
func (w *subConn) Shutdown() {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	w.pool.shut(w)
}

// shut must be called with mu held.
func (p *pool) shut(w *subConn) {
	if w.shut {
		return
	}
	w.shut, w.health = true, nil
	p.count(w)
	p.unuse(w)
	p.after = append(p.after, w.producers...)
	w.producers = nil
	p.unfile(w)
	p.tell(w, balancer.SubConnState{ConnectivityState: connectivity.Shutdown})
}

// UpdateAddresses implements [balancer.SubConn]. It makes a shared SubConn private.
func (w *subConn) UpdateAddresses(addrs []resolver.Address) {
	p := w.pool
	p.mu.Lock()
	e := w.at.Load()
	if w.shut {
		p.mu.Unlock()
		return
	}
	if e.key == (poolKey{}) {
		p.unfile(w)
		p.file(w, addrs)
		p.mu.Unlock()
		e.conn.UpdateAddresses(addrs) //nolint:staticcheck // deprecated, but called by somebody
		return
	}
	private, err := p.open(addrs, balancer.NewSubConnOptions{HealthCheckEnabled: e.key.healthCheck})
	if err != nil {
		p.tell(w, balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: err})
		p.mu.Unlock()
		return
	}
	p.unuse(w)
	p.use(w, private)
	p.unfile(w)
	p.file(w, addrs)
	dial := w.connected && p.mayDial(private, w.isTarget())
	p.mu.Unlock()
	if dial {
		private.conn.Connect()
	}
}

// RegisterHealthListener implements [balancer.SubConn].
func (w *subConn) RegisterHealthListener(listener func(balancer.SubConnState)) {
	p := w.pool
	p.mu.Lock()
	e := w.at.Load()
	w.healthOf++
	w.health = listener
	if listener == nil || w.shut || e.state.ConnectivityState != connectivity.Ready {
		w.health = nil
		p.mu.Unlock()
		return
	}
	if e.health.known {
		p.tellHealth(w, e.health.state)
	}
	register := !e.health.registered
	e.health.registered = true
	p.mu.Unlock()
	if register {
		e.conn.RegisterHealthListener(func(s balancer.SubConnState) { p.healthChanged(e, s) })
	}
}

// healthChanged takes the health of a SubConn from gRPC, which holds a lock that registering takes.
func (p *pool) healthChanged(e *entry, s balancer.SubConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.health = health{registered: true, known: true, state: s}
	p.countAll(e)
	for _, w := range e.users {
		if w.health != nil {
			p.tellHealth(w, s)
		}
	}
}

// tellHealth has the health listener of a wrapper called, unless it is replaced before. It must be called
// with mu held.
func (p *pool) tellHealth(w *subConn, s balancer.SubConnState) {
	listener, of := w.health, w.healthOf
	p.send(w, func() {
		p.mu.Lock()
		current := w.healthOf == of && !w.shut
		p.mu.Unlock()
		if current {
			w.call(func() { listener(s) })
		}
	})
}

// recheck asks gRPC anew for the health of what is ready: it goes by the service config that was in
// force when it was asked.
func (p *pool) recheck() {
	p.mu.Lock()
	var asked []*entry
	for e := range p.all {
		if e.health.registered {
			e.health = health{registered: true}
			p.countAll(e)
			asked = append(asked, e)
		}
	}
	p.mu.Unlock()
	for _, e := range asked {
		e.conn.RegisterHealthListener(func(s balancer.SubConnState) { p.healthChanged(e, s) })
	}
}

// ownProducer gives each policy below a producer of its own: gRPC tells producers apart by builder.
type ownProducer struct {
	balancer.ProducerBuilder
	owner *child
}

// GetOrBuildProducer implements [balancer.SubConn].
func (w *subConn) GetOrBuildProducer(b balancer.ProducerBuilder) (balancer.Producer, func()) {
	producer, done := w.real().GetOrBuildProducer(ownProducer{b, w.owner})
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	if w.shut {
		w.pool.after = append(w.pool.after, done)
	} else {
		w.producers = append(w.producers, done)
	}
	return producer, done
}

// leave shuts down the wrappers that owner still has for an address.
func (p *pool) leave(owner *child, addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range slices.Clone(owner.subConns[addr]) {
		p.shut(w)
	}
}

// release shuts down all wrappers of owner, and refuses it new ones.
func (p *pool) release(owner *child) {
	p.mu.Lock()
	owner.released = true
	addrs := make([]string, 0, len(owner.subConns))
	for addr := range owner.subConns {
		addrs = append(addrs, addr)
	}
	p.mu.Unlock()
	for _, addr := range addrs {
		p.leave(owner, addr) // one by one: picks may be waiting for the lock
	}
}

// resolved has the next sweep look at all unused entries, because the resolver's addresses changed.
func (p *pool) resolved() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due = true
}

// atOnce bounds how many items are handled before a lock is released for a moment.
const atOnce = 256

// sweep gives up unused SubConns: at once if the resolver no longer has the address, otherwise after
// linger. It returns functions to call once no lock is held, and when to sweep again, unless that is zero.
func (p *pool) sweep(resolved func(addr string) bool, now time.Time) (after []func(), next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.due || !p.next.IsZero() && !now.Before(p.next) {
		p.due, p.next = false, time.Time{}
		for some := range slices.Chunk(slices.Collect(maps.Keys(p.unused)), atOnce) {
			p.mu.Unlock()
			runtime.Gosched()
			p.mu.Lock()
			p.giveUpDue(some, resolved, now)
		}
	}
	after, p.after = p.after, nil
	return after, p.next
}

// giveUpDue gives up the entries whose time has come. It must be called with mu held.
func (p *pool) giveUpDue(some []*entry, resolved func(addr string) bool, now time.Time) {
	for _, e := range some {
		until, ok := p.unused[e]
		if !ok {
			continue // used again
		}
		if until.IsZero() {
			until = now.Add(linger)
		}
		if e.key == (poolKey{}) || !until.After(now) || !resolved(e.key.addr) {
			p.giveUp(e)
			continue
		}
		p.unused[e] = until
		if p.next.IsZero() || until.Before(p.next) {
			p.next = until
		}
	}
}

// giveUp must be called with mu held.
func (p *pool) giveUp(e *entry) {
	delete(p.unused, e)
	delete(p.all, e)
	if p.shared[e.key] == e {
		delete(p.shared, e.key)
	}
	p.after = append(p.after, func() {
		e.conn.Shutdown()
		e.place.Release(time.Now())
	})
}

// close gives up all entries, and returns functions to call once no lock is held.
func (p *pool) close() (after []func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for e := range p.all {
		p.giveUp(e)
	}
	after, p.after = p.after, nil
	return after
}
