package discovery

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/resolver"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig/grpccheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// Options configure the resolver of one connection.
type Options struct {
	// Client has what our policy needs to know of the connection. It is nil for
	// a bare resolver, whose connection may have another policy.
	Client *model.Client

	// Default is the default service config that gRPC was given. The live
	// config is merged into it. A bare resolver does not know gRPC's default
	// config, and uses only the live config.
	Default serviceconfig.Wrapped

	// Disabled is set if gRPC ignores service configs of resolvers.
	Disabled bool

	// Given is the last config given to gRPC. It outlives the resolver, which
	// ends when the connection becomes idle.
	Given *Given

	// Router routes the calls of Client.Routed. It is nil if there are none.
	Router Router

	// Away is the service's key in the fallback cluster. It is nil if the
	// connection has no fallback.
	Away *Key
}

// Router finds the instance that serves routed methods, such as the leader. Its
// methods are safe for concurrent use.
type Router interface {
	// Route returns the present route. It has no instance while the router has
	// no readers. Route, Known and Err must not block.
	Route() model.Route

	// Known reports whether the route's instance is known, or etcd refuses to
	// show it.
	Known() bool

	// Err returns why the route cannot be followed now.
	Err() error

	// Read calls notify at once, and after each change, until stop is called.
	// notify must not block.
	Read(notify func()) (stop func())
}

// Given is the last service config that was given to a connection; nil for
// gRPC's default one.
type Given = atomic.Pointer[effectiveConfig]

// conn is the resolver of one gRPC connection to a key: it passes the key's
// state to gRPC.
type conn struct {
	key  *Key
	cc   resolver.ClientConn
	opts Options
	ends []func() // functions that stop reading the key, the router and Away

	mu      sync.Mutex
	running bool // deliver is running, or the pause after it
	missed  bool // notify was called since the last call of deliver began
	closed  bool

	// Only deliver, and rested after it, use the fields below.
	list *grpcList // the key's last list; nil unless the resolver is bare

	begun bool        // a state was sent
	sent  uint64      // the sequence number of the last state sent
	route model.Route // the route sent with the last state

	// the fallback's state sent with the last state; nil without a fallback
	away *State

	updated bool   // gRPC has got an update
	bad     string // the last unusable live config, "" if there is none
}

// Resolve starts the resolver of a connection. It does no I/O and returns at
// once.
func Resolve(key *Key, cc resolver.ClientConn, opts Options) resolver.Resolver {
	c := &conn{key: key, cc: cc, opts: opts}
	key.connections.Add(1)
	c.ends = append(c.ends, key.Read(c.notify))

	if opts.Client != nil {
		// Calls that wait for etcd need the timeouts of the default config. The
		// live config may have other timeouts, so etcd gets silentGrace to
		// answer first.
		timer := time.AfterFunc(silentGrace, c.notify)
		c.ends = append(c.ends, func() { timer.Stop() })
	}

	if opts.Router != nil {
		c.ends = append(c.ends, opts.Router.Read(c.notify))
	}

	if opts.Away != nil {
		c.ends = append(c.ends, opts.Away.Read(c.notify))
	}

	return c
}

// ResolveNow implements resolver.Resolver. It does nothing: the watch of the
// key is current, or is being reopened.
func (c *conn) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver. It does not wait.
func (c *conn) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()

	c.key.connections.Add(-1)

	for _, end := range c.ends {
		end()
	}
}

// notify delivers the current state in a goroutine, which ends when gRPC has
// the latest state. So a slow connection skips states, and does not delay other
// connections.
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

// deliver gives gRPC the current state, if it is new. Then it begins a pause as
// long as the delivery took. A bare resolver gives gRPC the state of the key's
// last list, and its pause lasts until the key may make the next list. One
// goroutine at a time calls deliver.
func (c *conn) deliver() {
	began := time.Now()

	to := model.Route{}
	if c.opts.Router != nil {
		to = c.opts.Router.Route()
	}

	s := c.key.State()
	away := c.opts.Away.offered()
	var until time.Time

	if c.opts.Client == nil {
		c.list = c.key.latestList()
		s = c.list.State
		until = c.list.until
	}

	if !c.begun || s.Sequence != c.sent || to != c.route || away != c.away {
		c.begun = true
		c.sent = s.Sequence
		c.route = to
		c.away = away
		c.send(s)
	}

	time.AfterFunc(max(listwatch.Pause(time.Since(began), 1), time.Until(until)),
		c.rested)
}

// rested ends the pause after a delivery. It delivers again if there is a newer
// state.
func (c *conn) rested() {
	c.mu.Lock()
	// a bare resolver may have sent an older list
	again := (c.missed || c.sent != c.key.State().Sequence) && !c.closed
	c.running = again
	c.missed = false
	c.mu.Unlock()

	if again {
		c.deliver()
	}
}

// send gives a state to gRPC.
func (c *conn) send(s *State) {
	state := &model.State{
		KeyState: s.KeyState,
		Client:   c.opts.Client,
		Name:     c.key.Full(),
		Err:      s.emptyErr(c.key.Full()),
		Route:    c.route,
	}

	state.Route.Instance = s.NameOf(c.route.Instance)

	// If etcd fails before the endpoints are known, calls use the fallback and
	// do not wait. But if there are provisional endpoints, calls use these
	// soon.
	away := c.away
	if away != nil && (s.Known || s.Err != nil && !s.Provisional) {
		state.Away = &model.State{KeyState: away.KeyState, Err: away.Err}
	}

	config := c.chooseConfig(s)
	var update resolver.State

	ok := true

	if c.opts.Client != nil {
		update = c.update(state, config)
	} else {
		update, ok = c.bare(state)
	}

	if !ok {
		return
	}

	if config != nil {
		update.ServiceConfig = config.parsed
	}

	c.updated = true
	c.opts.Given.Store(config)

	// An error of UpdateState requests another resolution, which would find
	// nothing new: the watch is current.
	_ = c.cc.UpdateState(update)
}

// update returns the update for our policy under a config, and sets the fields
// of s that depend on the config.
func (c *conn) update(s *model.State, config *effectiveConfig) resolver.State {
	w := &c.opts.Default
	if config != nil {
		w = &config.Wrapped
	}

	s.Health = w.Health
	s.InState = w.Top == serviceconfig.OutlierDetectionName

	// The policy reads the endpoints from the attribute. gRPC before 1.84
	// formats each state for a log line, even if it does not print the line:
	// some 3 KB for each endpoint. So Endpoints is empty, unless outlier
	// detection reads it.
	update := resolver.State{Endpoints: []resolver.Endpoint{}}
	if s.InState {
		update.Endpoints = model.GRPC(s.All())
	}

	return model.SetState(update, s)
}

// chooseConfig returns the service config to give to gRPC, nil for gRPC's
// default one. While the live config is unknown or unusable, chooseConfig
// returns the last config that gRPC was given. It logs an unusable live config.
func (c *conn) chooseConfig(s *State) *effectiveConfig {
	if c.opts.Disabled {
		return nil
	}

	last := c.opts.Given.Load()
	live := ""
	if last != nil {
		live = last.live
	}

	if !s.LiveKnown || s.Live == live || s.Live != "" && s.Live == c.bad {
		return last
	}

	next, err := c.merge(s.Live)
	if err == nil {
		return next
	}

	// Each of the two configs is valid, and so should be their merge.
	c.bad = s.Live
	c.key.keys.cfg.Logger.Error(
		"the merged service config is invalid; the last valid one stays in force", "key",
		c.key.Full(), "error", err)

	return last
}

// effectiveConfig is the service config of a connection: its default config
// with the live config merged into it.
type effectiveConfig struct {
	serviceconfig.Wrapped
	live   string
	parsed *grpcserviceconfig.ParseResult
}

// merge merges a live config into the default config, and lets gRPC parse the
// result. live is "" if the live config was deleted. A bare resolver does not
// know gRPC's default config: its default is round_robin, not gRPC's
// pick_first.
func (c *conn) merge(live string) (next *effectiveConfig, err error) {
	next = &effectiveConfig{live: live}
	if c.opts.Default.JSON != "" {
		next.Wrapped, err = serviceconfig.Wrap(grpccheck.Registered,
			c.opts.Default.JSON, live)
	} else { // gRPC's own policies pick, for a bare resolver
		next.JSON, err = serviceconfig.Merge(grpccheck.Registered,
			`{"loadBalancingConfig":[{"round_robin":{}}]}`, live)
	}

	if err != nil {
		return nil, err
	}

	next.parsed = c.cc.ParseServiceConfig(next.JSON)

	return next, next.parsed.Err
}
