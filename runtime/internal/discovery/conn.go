package discovery

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listwatch"
)

// unseen is what the clock does not see of an update's cost to a connection: its goroutine is woken, and what was in use
// becomes garbage.
const unseen = 5 * time.Microsecond

// Options are the parts of a resolver that differ between connections.
type Options struct {
	// Config returns the service config to use, as JSON, given the live one ("" once it is deleted).
	// Before a live one is seen gRPC's default one is in force, which is Config("") if Ours.
	Config func(live string) string
	// Client describes the connection to our policy. nil: the policy is not ours.
	Client *attr.Client
	// Select returns the endpoints for a policy that is not ours. nil: all of them.
	Select func(*attr.State) []resolver.Endpoint
	// Ours says that the policy under the default service config is ours. It is then given a state
	// before anything is known of the key, so that calls wait under their own timeouts.
	Ours bool
	// Candidates are those for the leadership of the key. nil: no call is for a leader.
	Candidates *Candidates
	// Handed is called after gRPC has taken each state, or error. nil: not called.
	Handed func()
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
	usual      listwatch.Usual // costs of sending
	begun      bool            // a state was sent
	sent       uint64          // the sequence of the last state sent
	leader     Leader          // sent with it
	served     bool            // gRPC was given a state in which the endpoints were known
	configJSON string
	health     string                     // the healthCheckConfig in force
	config     *serviceconfig.ParseResult // configJSON, parsed
}

// Resolve starts the resolver of a connection. It does no I/O and returns at once.
func Resolve(key *Key, cc resolver.ClientConn, opts Options) resolver.Resolver {
	c := &conn{key: key, cc: cc, opts: opts}
	if opts.Ours {
		c.health = healthOf(opts.Config(""))
	}
	key.connections.Add(1)
	c.stop = key.Read(c.notify)
	if opts.Ours {
		c.notify()
	}
	if opts.Candidates != nil {
		stopKey, stopCandidates := c.stop, opts.Candidates.Read(c.notify)
		c.stop = func() { stopKey(); stopCandidates() }
	}
	return c
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
		if s, l := c.key.State(), c.opts.Candidates.Leader(); !c.begun || s.Sequence != c.sent || l != c.leader {
			stop := c.key.keys.cpu.start()
			c.begun, c.sent, c.leader = true, s.Sequence, l
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
		Client: c.opts.Client, Sequence: s.Sequence, Pending: !s.Known && !s.Refused,
		Err: c.emptyErr(s), Endpoints: s.Endpoints, Held: s.Held, Summary: s.summary,
	}
	config := c.serviceConfig(s)
	told.Health = c.health
	told.Leader = attr.Leader{Instance: c.leader.Instance, Token: c.leader.Created}
	state := resolver.State{Endpoints: s.Endpoints}
	if c.opts.Select != nil && !c.opts.Ours {
		state.Endpoints = c.opts.Select(told)
	}
	switch {
	case c.opts.Ours:
		// Our policy takes them from told. gRPC before 1.84 formats each state for a log line, printed or not: some
		// 3 KB an endpoint.
		state.Endpoints = []resolver.Endpoint{}
	case !s.Known && !s.Refused:
		return // gRPC has calls wait for a first state, whatever the policy
	case len(state.Endpoints) == 0 && !c.served:
		// Few of gRPC's policies have a text of ours for an empty set, but an error that comes before
		// the first state reaches the caller under any.
		c.cc.ReportError(c.noneErr(s, told))
		c.handed()
		return
	default:
		// Policies that were written before there were endpoints know addresses alone.
		state.Addresses = c.addresses(s, state.Endpoints)
	}
	if c.opts.Client != nil {
		state = attr.SetState(state, told)
	}
	state.ServiceConfig = config
	c.served = c.served || s.Known
	// The error is a request to resolve again, which the watch makes needless.
	_ = c.cc.UpdateState(state)
	c.handed()
}

func (c *conn) handed() {
	if c.opts.Handed != nil {
		c.opts.Handed()
	}
}

// emptyErr returns why a state has no endpoints, nil if it has some or if that is not known yet.
func (c *conn) emptyErr(s *State) error {
	switch {
	case s.Known && len(s.Backends) == 0:
		return s.emptyErr(c.key.Name)
	case !s.Known && s.Refused:
		return s.Err
	}
	return nil
}

// noneErr returns why there is no endpoint for this connection.
func (c *conn) noneErr(s *State, told *attr.State) error {
	if told.Err != nil {
		return told.Err
	}
	return fmt.Errorf("etcd: none of the %d endpoints of %q is selected for this connection", len(s.Backends), c.key.Name)
}

// addresses returns as addresses the endpoints that this connection uses of a state.
func (c *conn) addresses(s *State, endpoints []resolver.Endpoint) []resolver.Address {
	if len(endpoints) == len(s.Endpoints) {
		if s.addresses == nil {
			return nil
		}
		return s.addresses.get()
	}
	return attr.Addresses(endpoints)
}

// serviceConfig returns the config to hand over with a state. nil leaves the present one in force.
func (c *conn) serviceConfig(s *State) *serviceconfig.ParseResult {
	if !s.LiveSeen || !s.LiveKnown {
		return c.config // none, or the last one
	}
	if json := c.opts.Config(s.Live); c.config == nil || json != c.configJSON {
		c.configJSON, c.config, c.health = json, c.parse(json), healthOf(json)
	}
	return c.config
}

// healthOf returns the healthCheckConfig of a service config.
func healthOf(config string) string {
	var fields struct {
		Health json.RawMessage `json:"healthCheckConfig"`
	}
	_ = json.Unmarshal([]byte(config), &fields) // gRPC says what is wrong with it
	return string(fields.Health)
}

// parse has gRPC read a config. If a policy panics on it, the config counts as bad.
func (c *conn) parse(json string) (result *serviceconfig.ParseResult) {
	defer func() {
		if p := recover(); p != nil {
			result = &serviceconfig.ParseResult{Err: fmt.Errorf("etcd: service config of %q: a load balancing policy panicked: %s", c.key.Name, printable.Short(fmt.Sprint(p), 200))}
		}
	}()
	return c.cc.ParseServiceConfig(json)
}
