package discovery

import (
	"fmt"
	"sync"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// Options are what one connection has of its own.
type Options struct {
	// Select narrows the set down for this connection. nil: all of it.
	Select func([]*Backend) []*Backend
	// Config returns the service config to go by, as JSON, for a live one ("" once it is deleted).
	// It is called only once a live one was seen: until then gRPC's default one is in force.
	Config func(live string) string
	// Client is what the policy is to know of the connection. nil: nothing.
	Client *attr.Client
	// Observe is told each state just before gRPC is, with what Select made of it. nil: nobody is.
	Observe func(*State, []*Backend)
}

// conn is gRPC's resolver for one connection to a key.
type conn struct {
	key  *Key
	cc   resolver.ClientConn
	opts Options

	mu      sync.Mutex
	running bool // deliver is
	missed  bool // there was news since deliver last looked
	closed  bool

	// Used by deliver alone.
	sent       *State // last given to cc
	served     bool   // there were endpoints in one of them
	configJSON string
	config     *serviceconfig.ParseResult
}

// Resolve starts a connection's resolver. It does no I/O and returns at once.
func Resolve(key *Key, cc resolver.ClientConn, opts Options) resolver.Resolver {
	c := &conn{key: key, cc: cc, opts: opts}
	key.join(c)
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
	c.key.leave(c)
}

// notify has the current state delivered, in a goroutine that ends when there is no more to tell:
// a connection that is slow to take an update holds up no other, and skips what it missed.
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
		c.send(c.key.State())
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
	if !s.Known {
		c.sendUnknown(s)
		return
	}
	if c.sent != nil && sameEndpoints(c.sent, s) && c.sent.Live == s.Live && c.sent.LiveSeen == s.LiveSeen && c.sent.LiveKnown == s.LiveKnown {
		return
	}
	c.sent = s
	backends, endpoints := s.Backends, s.Endpoints
	if c.opts.Select != nil {
		backends = c.opts.Select(s.Backends)
		endpoints = resolverEndpoints(backends)
	}
	if c.opts.Observe != nil {
		c.opts.Observe(s, backends)
	}
	state := resolver.State{Endpoints: endpoints, ServiceConfig: c.serviceConfig(s)}
	if c.opts.Client != nil {
		state = attr.SetClient(state, c.opts.Client)
	} else {
		state.Addresses = c.addresses(s, backends) // whatever policy there is, it may know no other
	}
	if len(endpoints) > 0 {
		c.update(state)
		return
	}
	// Most of gRPC's policies have no text of ours for an empty set, but an error that comes before
	// the first set reaches the caller under any policy.
	if trouble := c.nothing(s); c.served {
		c.update(attr.SetTrouble(state, trouble))
	} else {
		c.cc.ReportError(trouble)
	}
}

// addresses are what a state has for this connection, whose backends are those given.
func (c *conn) addresses(s *State, backends []*Backend) []resolver.Address {
	if c.opts.Select != nil {
		return formsOf(backends, nil, nil, (*Backend).address)
	}
	return s.addresses.get()
}

// sendUnknown has calls fail with what etcd has answered; while it cannot be reached they wait,
// within their own deadlines.
func (c *conn) sendUnknown(s *State) {
	if !s.Definite {
		return
	}
	if c.opts.Observe != nil {
		c.opts.Observe(s, nil)
	}
	c.cc.ReportError(s.Err)
}

// update hands a state to gRPC. The error it returns is a request to resolve again, which the watch
// makes needless.
func (c *conn) update(state resolver.State) {
	c.served = true
	_ = c.cc.UpdateState(state)
}

func (c *conn) nothing(s *State) error {
	if len(s.Backends) > 0 {
		return fmt.Errorf("etcd: none of the %d endpoints of %q is selected for this connection", len(s.Backends), c.key.Name)
	}
	if s.Err != nil {
		return fmt.Errorf("etcd: no endpoint is registered under %q (as last known: %w)", c.key.Name, s.Err)
	}
	return fmt.Errorf("etcd: no endpoint is registered under %q", c.key.Name)
}

func (c *conn) serviceConfig(s *State) *serviceconfig.ParseResult {
	if !s.LiveSeen || !s.LiveKnown {
		return c.config // nothing, or what there was: gRPC goes on with that
	}
	if json := c.opts.Config(s.Live); c.config == nil || json != c.configJSON {
		c.configJSON, c.config = json, c.cc.ParseServiceConfig(json)
	}
	return c.config
}

// sameEndpoints tells whether two states share their set, which update sees to when it is unchanged.
func sameEndpoints(a, b *State) bool {
	if len(a.Endpoints) != len(b.Endpoints) {
		return false
	}
	return len(a.Endpoints) == 0 || &a.Endpoints[0] == &b.Endpoints[0]
}
