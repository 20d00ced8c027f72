package discovery

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// Options are the parts of a resolver that differ between connections.
type Options struct {
	// Client describes the connection to our policy. It is nil for a bare resolver, which may have any policy.
	Client *attr.Client
	// Default is the service config under the live one, which gRPC has from the start. A bare resolver does not know it,
	// and uses a live config alone.
	Default serviceconfig.Wrapped
	// Disabled says that gRPC ignores service configs of resolvers.
	Disabled bool
	// Given holds the config that gRPC has. It outlives the resolver, which ends when the connection becomes idle.
	Given *Given
	// Candidates are the candidates for the leadership of the key. nil: no call is for a leader.
	Candidates *Candidates
	// Away is the key in the cluster that the connection falls back on. nil: there is none.
	Away *Key
}

// Given is the last service config that was given to a connection.
type Given struct {
	config atomic.Pointer[effectiveConfig]
}

// conn is the resolver of one gRPC connection to a key: it passes the key's state on.
type conn struct {
	key  *Key
	cc   resolver.ClientConn
	opts Options
	ends []func() // stop reading the key, and what else it reads

	mu      sync.Mutex
	running bool // deliver is running, or rests
	missed  bool // notify was called since deliver last began
	closed  bool

	// Used by deliver alone.
	begun  bool             // a state was sent
	sent   uint64           // the sequence of the last state sent
	leader Leader           // sent with it
	away   *State           // sent with it; nil: none
	served bool             // a state with known endpoints was sent
	bad    string           // the last live config that cannot be used; "": none
	lines  loglimit.Limiter // for bad live configs
}

// Resolve starts the resolver of a connection. It does no I/O and returns at once.
func Resolve(key *Key, cc resolver.ClientConn, opts Options) resolver.Resolver {
	c := &conn{key: key, cc: cc, opts: opts}
	key.connections.Add(1)
	c.ends = append(c.ends, key.Read(c.notify))
	if opts.Client != nil {
		c.notify() // with the config, which has the timeouts of waiting calls
	}
	if opts.Candidates != nil {
		c.ends = append(c.ends, opts.Candidates.Read(c.notify))
	}
	if opts.Away != nil {
		c.ends = append(c.ends, opts.Away.Read(c.notify))
	}
	return c
}

// ResolveNow implements resolver.Resolver. It does nothing: the watch is current, or being restored.
func (c *conn) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver. It waits for nothing.
func (c *conn) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.key.connections.Add(-1)
	for _, end := range c.ends {
		end()
	}
}

// notify delivers the current state in a goroutine, which ends when gRPC has the latest state. So a slow connection does not
// delay others, and skips states.
func (c *conn) notify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.running:
		c.missed = true
	case !c.closed:
		c.running = true
		go c.deliver()
	}
}

// deliver gives gRPC the current state, if it is new, and rests for as long as that took. It is called by one goroutine at a time.
func (c *conn) deliver() {
	began := time.Now()
	if s, l, away := c.key.State(), c.opts.Candidates.Leader(), c.opts.Away.offered(); !c.begun || s.Sequence != c.sent || l != c.leader || away != c.away {
		c.begun, c.sent, c.leader, c.away = true, s.Sequence, l, away
		c.send(s)
	}
	time.AfterFunc(listwatch.Pause(time.Since(began), 1), c.rested)
}

// rested delivers again if notify was called since the last delivery began.
func (c *conn) rested() {
	c.mu.Lock()
	again := c.missed && !c.closed
	c.running, c.missed = again, false
	c.mu.Unlock()
	if again {
		c.deliver()
	}
}

// send gives a state to gRPC.
func (c *conn) send(s *State) {
	state := &attr.State{
		Client: c.opts.Client, Key: c.key.Full(), Sequence: s.Sequence, Pending: !s.Known && !s.Refused(),
		Err: s.emptyErr(c.key.Full()), Endpoints: s.Endpoints, Held: s.Held,
		Leader: attr.Leader{Instance: s.NameOf(c.leader.Instance), Token: c.leader.Created},
	}
	if s.Known && c.away != nil {
		c.fallBack(state)
	}
	var update resolver.State
	config, wrapped, from := c.config(s), c.opts.Default, s
	if config != nil {
		update.ServiceConfig, wrapped = config.parsed, config.Wrapped
	}
	state.Health = wrapped.Health
	if len(s.Endpoints) == 0 && state.Away != nil {
		from = c.away
	}
	switch top := wrapped.Top; {
	case top == serviceconfig.EtcdName:
		// The policy takes them from the attribute. gRPC before 1.84 formats each state for a log line, printed or not:
		// some 3 KB an endpoint.
		update.Endpoints = []resolver.Endpoint{}
	case top == serviceconfig.OutlierDetectionName: // it passes all endpoints on to our policy
		update.Endpoints = state.All()
	case state.Pending || from != s && state.Away.Pending:
		return // calls wait for the first state, under any policy
	case len(from.Endpoints) == 0 && !c.served:
		// It reaches callers under any policy. After the first state, other policies have errors of their own for an empty set.
		c.cc.ReportError(state.Err)
		return
	default:
		update.Endpoints, update.Addresses = from.Endpoints, from.addresses()
	}
	if c.opts.Client != nil {
		state.InState = wrapped.Top != serviceconfig.EtcdName
		update = attr.SetState(update, state)
	}
	c.served = c.served || s.Known
	c.opts.Given.config.Store(config)
	// The error asks for another resolution, and the watch is current.
	_ = c.cc.UpdateState(update)
}

// fallBack adds the state of the key in the other cluster.
func (c *conn) fallBack(state *attr.State) {
	key, s := c.opts.Away.Full(), c.away
	state.Away = &attr.State{
		Key: key, Sequence: s.Sequence, Pending: !s.Known && s.Err == nil, Err: s.emptyErr(key),
		Endpoints: s.Endpoints, Held: s.Held,
	}
}

// config returns the service config for gRPC, nil for its default one. While it is not known whether there is a live one,
// and if the live one cannot be used, gRPC keeps the config that it has.
func (c *conn) config(s *State) *effectiveConfig {
	if c.opts.Disabled {
		return nil
	}
	last, live := c.opts.Given.config.Load(), ""
	if last != nil {
		live = last.live
	}
	if !s.LiveKnown || s.Live == live || s.Live != "" && s.Live == c.bad {
		return last
	}
	next, err := newEffectiveConfig(c.cc, c.opts.Default.JSON, s.Live)
	if err == nil {
		return next
	}
	c.bad = s.Live
	if ok, missed := c.lines.Allow(time.Now()); ok { // each layer is good by itself
		c.key.keys.cfg.Logger.Error("the service configs together are bad; the last good one stays in force",
			loglimit.Attrs(missed, "key", c.key.Full(), "error", err)...)
	}
	return last
}
