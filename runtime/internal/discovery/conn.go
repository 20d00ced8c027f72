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

// unseen is what the clock does not see of an update's cost to a connection: its goroutine is woken, and what was in use
// becomes garbage.
const unseen = 5 * time.Microsecond

// Options are the parts of a resolver that differ between connections.
type Options struct {
	// Client describes the connection to our policy. nil: a bare resolver's, whose policy may be any.
	Client *attr.Client
	// Default is the service config under the live one. gRPC has it in force until it is given another. A bare resolver
	// knows none: there a live config counts as a whole.
	Default serviceconfig.Wrapped
	// Disabled says that gRPC ignores the service configs that it is given.
	Disabled bool
	// Given remembers the config that gRPC has, which outlasts the resolver: a connection that becomes idle ends it.
	Given *Given
	// Candidates are those for the leadership of the key. nil: no call is for a leader.
	Candidates *Candidates
	// Away is the key in the cluster that the connection falls back on. nil: there is none.
	Away *Key
}

// Given is the last service config that a connection was given.
type Given struct {
	config atomic.Pointer[effectiveConfig]
}

// conn is gRPC's resolver for one connection to a key: it hands the key's state over, and decides
// nothing.
type conn struct {
	key  *Key
	cc   resolver.ClientConn
	opts Options
	stop func() // ends reading the key

	mu      sync.Mutex
	running bool // deliver is running
	missed  bool // notify was called since deliver last looked
	closed  bool

	// Used by deliver alone.
	usual  listwatch.Usual  // costs of sending
	begun  bool             // a state was sent
	sent   uint64           // the sequence of the last state sent
	leader Leader           // sent with it
	away   *State           // sent with it; nil: none
	served bool             // gRPC was given a state in which the endpoints were known
	bad    string           // the last live config that cannot be used; "": none
	lines  loglimit.Limiter // of such configs
}

// Resolve starts the resolver of a connection. It does no I/O and returns at once.
func Resolve(key *Key, cc resolver.ClientConn, opts Options) resolver.Resolver {
	c := &conn{key: key, cc: cc, opts: opts}
	key.connections.Add(1)
	c.stop = key.Read(c.notify)
	if opts.Client != nil {
		c.notify() // calls wait under their own timeouts, which the config says
	}
	if opts.Candidates != nil {
		c.reads(opts.Candidates.Read(c.notify))
	}
	if opts.Away != nil {
		c.reads(opts.Away.Read(c.notify))
	}
	return c
}

// reads adds something that the connection reads.
func (c *conn) reads(stop func()) {
	others := c.stop
	c.stop = func() { others(); stop() }
}

// ResolveNow implements resolver.Resolver. The watch is always current, or already being restored,
// so there is nothing to hasten.
func (c *conn) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver. It waits for nothing.
func (c *conn) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.key.connections.Add(-1)
	c.stop()
}

// notify has the current state delivered, in a goroutine that ends when gRPC has the latest: a
// connection that is slow to take an update holds up no other, and skips the states in between.
func (c *conn) notify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		c.missed = true
		return
	}
	if !c.closed {
		c.running = true
		go c.deliver()
	}
}

func (c *conn) deliver() {
	for {
		s, l, away := c.key.State(), c.opts.Candidates.Leader(), c.opts.Away.offered()
		if !c.begun || s.Sequence != c.sent || l != c.leader || away != c.away {
			stop := c.key.keys.cpu.start()
			c.begun, c.sent, c.leader, c.away = true, s.Sequence, l, away
			c.send(s)
			c.key.spent.Add(int64(unseen + c.usual.Believe(stop())))
		}
		c.mu.Lock()
		if !c.missed || c.closed {
			c.running = false
			c.mu.Unlock()
			return
		}
		c.missed = false
		c.mu.Unlock()
	}
}

// send gives a state to gRPC.
func (c *conn) send(s *State) {
	told := &attr.State{
		Client: c.opts.Client, Key: c.key.Full(), Sequence: s.Sequence, Pending: !s.Known && !s.Refused,
		Err: s.emptyErr(c.key.Full()), Endpoints: s.Endpoints, Held: s.Held, Summary: s.summary,
		Leader: attr.Leader{Instance: s.NameOf(c.leader.Instance), Token: c.leader.Created},
	}
	if s.Known {
		c.fallBack(told)
	}
	state := resolver.State{Endpoints: told.All()}
	config, wrapped := c.config(s), c.opts.Default
	if config != nil {
		state.ServiceConfig, wrapped = config.parsed, config.Wrapped
	}
	told.Health = wrapped.Health
	switch top := wrapped.Top; {
	case top == serviceconfig.EtcdName:
		// It takes them from told. gRPC before 1.84 formats each state for a log line, printed or not: some 3 KB an
		// endpoint.
		state.Endpoints = []resolver.Endpoint{}
	case top == serviceconfig.OutlierDetectionName: // it hands all that it is given to ours
	case told.Pending || len(s.Endpoints) == 0 && told.Away != nil && told.Away.Pending:
		return // gRPC has calls wait for a first state, whatever the policy
	case len(state.Endpoints) == 0 && !c.served:
		// Few policies have a text of ours for an empty set, but an error that comes before the first state reaches the
		// caller under any.
		c.cc.ReportError(told.Err)
		return
	default:
		if len(s.Endpoints) > 0 {
			state.Endpoints = s.Endpoints
		}
		state.Addresses = attr.Addresses(state.Endpoints) // for policies older than endpoints
	}
	if c.opts.Client != nil {
		told.InState = wrapped.Top != serviceconfig.EtcdName
		state = attr.SetState(state, told)
	}
	c.served = c.served || s.Known
	c.opts.Given.config.Store(config)
	// The error is a request to resolve again, which the watch makes needless.
	_ = c.cc.UpdateState(state)
}

// fallBack adds what the other cluster knows of the key.
func (c *conn) fallBack(told *attr.State) {
	s := c.away
	if s == nil {
		return
	}
	told.Away = &attr.State{
		Key: c.opts.Away.Full(), Sequence: s.Sequence, Pending: !s.Known && s.Err == nil, Err: s.emptyErr(c.opts.Away.Full()),
		Endpoints: s.Endpoints, Held: s.Held,
	}
}

// config returns the service config for gRPC, nil for its default one. While it is not known whether there is a live one,
// and if the live one cannot be used, gRPC keeps the config that it has.
func (c *conn) config(s *State) *effectiveConfig {
	if c.opts.Disabled {
		return nil
	}
	last := c.opts.Given.config.Load()
	if !s.LiveKnown || last == nil && s.Live == "" || last != nil && last.live == s.Live || c.bad == s.Live && s.Live != "" {
		return last
	}
	next, err := newEffectiveConfig(c.cc, c.opts.Default.JSON, s.Live)
	if err == nil {
		return next
	}
	c.bad = s.Live
	if ok, missed := c.lines.Allow(time.Now()); ok { // each was checked by itself, and the live one when it was read
		c.key.keys.cfg.Logger.Error("the service configs together are bad; the last good one stays in force",
			loglimit.Attrs(missed, "key", c.key.Full(), "error", err)...)
	}
	return last
}
