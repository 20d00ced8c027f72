package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// State is how a registration stands.
type State int

// The states of a registration.
const (
	StateRegistering State = State(lease.Registering) // not in etcd yet
	StateRegistered  State = State(lease.Registered)  // in etcd, on a lease that is being renewed
	StateLost        State = State(lease.Lost)        // was in etcd and, as far as known, is not; it is being put back
	StateConflict    State = State(lease.Conflict)    // another process holds the key; it is taken again when they let go
	StatePaused      State = State(lease.Paused)      // out of etcd on demand, or while the service is not healthy
	StateClosed      State = State(lease.Closed)      // out of etcd for good
)

// String returns "registering", "registered", "lost", "conflict", "paused" or "closed".
func (s State) String() string { return lease.State(s).String() }

// Status is how a registration stands at one moment.
type Status struct {
	State   State
	Key     string           // the service key
	LeaseID clientv3.LeaseID // what the entry hangs on; 0: nothing now
	Err     error            // what keeps it from being registered; nil in StateRegistered
	Since   time.Time        // when State was entered
}

// undoTimeout bounds what a registration that failed waits for its removal.
const undoTimeout = time.Second

// Registration is one endpoint that this process keeps in etcd: put back when it is deleted, moved
// to a new lease when the old one is lost, until Close. Its methods are safe for concurrent use.
type Registration struct {
	registry *Registry
	key      string
	layouts  []*endpoint.Layout
	handle   *lease.Handle
	release  func(context.Context) error // gives back what Close leaves

	mu sync.Mutex
	ep endpoint.Endpoint
}

// Register keeps ep in etcd under the service key, and returns when it is there. When it cannot get
// there before ctx ends, the error says why and nothing is left behind.
//
// The options add to ep. Without an instance id, its address is the id. An entry of the same id is
// taken over, whoever's it is: the newer process wins, and the older one's registration turns to
// StateConflict.
func (r *Registry) Register(ctx context.Context, key string, ep Endpoint, opts ...RegisterOption) (*Registration, error) {
	if err := r.start(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("etcd: register %q: %w", key, err)
	}
	spec := entrySpec{key: key, ep: endpoint.Endpoint(ep), ttl: r.opts.leaseTTL, opts: opts}
	g, err := r.announce(spec, false)
	if err != nil {
		return nil, fmt.Errorf("etcd: register %q: %w", key, err)
	}
	if err := g.handle.Sync(ctx); err != nil {
		return nil, fmt.Errorf("etcd: register %q: %w", key, errors.Join(err, g.undo(ctx)))
	}
	return g, nil
}

// undo takes a registration back that failed with the end of ctx, or nearly so.
func (g *Registration) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return g.close(ctx)
}

// Status tells how the registration stands now. It does no I/O.
func (g *Registration) Status() Status {
	st := g.handle.Status()
	return Status{State: State(st.State), Key: g.key, LeaseID: st.Lease, Err: st.Err, Since: st.Since}
}

// Update changes what the entry says, under the same key and on the same lease: options given
// replace what was, the others keep it. It returns when that is in etcd; when ctx ends before, it
// is written once etcd can be reached. An update that changes nothing writes nothing. The instance
// id and the layouts cannot change.
func (g *Registration) Update(ctx context.Context, opts ...RegisterOption) error {
	if err := g.update(opts); err != nil {
		return fmt.Errorf("etcd: update %q: %w", g.key, err)
	}
	return g.sync(ctx, "update")
}

func (g *Registration) update(opts []RegisterOption) error {
	o := newRegisterOptions(opts)
	if o.layouts != nil && !slices.Equal(o.layouts, g.layouts) {
		return errors.New("WithLayouts: an update cannot change the layouts")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	ep, err := o.apply(g.ep)
	if err != nil {
		return err
	}
	items, err := g.registry.items(g.key, ep, g.layouts)
	if err != nil {
		return err
	}
	if err := g.handle.Set(items); err != nil {
		return err
	}
	g.ep = ep
	return nil
}

// Pause takes the entry out of etcd and remembers it. It returns when the entry is gone; when ctx
// ends before, it is removed once etcd can be reached.
func (g *Registration) Pause(ctx context.Context) error {
	if err := g.handle.SetPaused(true); err != nil {
		return fmt.Errorf("etcd: pause %q: %w", g.key, err)
	}
	return g.sync(ctx, "pause")
}

// Resume ends a Pause, and returns when the entry is in etcd again.
func (g *Registration) Resume(ctx context.Context) error {
	if err := g.handle.SetPaused(false); err != nil {
		return fmt.Errorf("etcd: resume %q: %w", g.key, err)
	}
	return g.sync(ctx, "resume")
}

func (g *Registration) sync(ctx context.Context, what string) error {
	if err := g.handle.Sync(ctx); err != nil {
		return fmt.Errorf("etcd: %s %q: %w", what, g.key, err)
	}
	return nil
}

// Close takes the entry out of etcd for good, unless another process has taken it over. It returns
// when the entry is gone; when ctx ends or 5 s have passed before, the error says so, and the
// registry goes on trying. Closing twice is harmless.
func (g *Registration) Close(ctx context.Context) error {
	if err := g.close(ctx); err != nil {
		return fmt.Errorf("etcd: close the registration of %q: %w", g.key, err)
	}
	return nil
}

func (g *Registration) close(ctx context.Context) error {
	return errors.Join(g.handle.Close(ctx), g.release(ctx))
}

// entrySpec is what is to be announced.
type entrySpec struct {
	key     string
	ep      endpoint.Endpoint
	layouts []*endpoint.Layout // unless the options say otherwise; nil: EndpointJSON
	ttl     time.Duration
	opts    []RegisterOption
}

// announce starts to keep an entry in etcd. It does no I/O.
func (r *Registry) announce(spec entrySpec, paused bool) (*Registration, error) {
	if err := endpoint.CheckKey(spec.key); err != nil {
		return nil, err
	}
	if err := checkTTL(spec.ttl); err != nil {
		return nil, err
	}
	ep, layouts, err := r.resolve(spec)
	if err != nil {
		return nil, err
	}
	items, err := r.items(spec.key, ep, layouts)
	if err != nil {
		return nil, err
	}
	g := &Registration{registry: r, key: spec.key, layouts: layouts, ep: ep}
	if g.handle, g.release, err = r.regs.start(r, g, items, spec.ttl, paused); err != nil {
		return nil, err
	}
	return g, nil
}

// resolve applies the options and the defaults.
func (r *Registry) resolve(spec entrySpec) (endpoint.Endpoint, []*endpoint.Layout, error) {
	o := newRegisterOptions(spec.opts)
	ep, err := o.apply(spec.ep)
	if err != nil {
		return ep, nil, err
	}
	if ep.Zone == "" && o.zone == nil {
		ep.Zone = r.opts.zone
	}
	if ep.Instance == "" {
		ep.Instance = ep.Addr
	}
	layouts := slices.Clone(spec.layouts)
	if o.layouts != nil {
		layouts = o.layouts
	}
	if len(layouts) == 0 {
		layouts = []*endpoint.Layout{endpoint.EndpointJSON}
	}
	bare := slices.IndexFunc(layouts, func(l *endpoint.Layout) bool { return !l.JSON() })
	if bare >= 0 && slices.Contains(layouts, endpoint.Kratos) {
		r.opts.logger.Warn("kratos' own readers fail on a list that holds a value which is not JSON",
			"key", spec.key, "leave out", layouts[bare].String())
	}
	return ep, layouts, nil
}

// items are the keys and values of an endpoint, one a layout.
func (r *Registry) items(key string, ep endpoint.Endpoint, layouts []*endpoint.Layout) ([]lease.Item, error) {
	if err := checkAdvertised(ep.Addr); err != nil {
		return nil, err
	}
	if err := endpoint.CheckInstance(ep.Instance); err != nil {
		return nil, err
	}
	items := make([]lease.Item, len(layouts))
	for i, layout := range layouts {
		value, err := layout.Encode(key, ep)
		if err != nil {
			return nil, fmt.Errorf("layout %s: %w", layout, err)
		}
		for _, other := range layouts[:i] {
			if layout.Key(key, ep, 1) == other.Key(key, ep, 1) {
				return nil, fmt.Errorf("layouts %s and %s would write one key, %q: leave one out, or set another instance id",
					other, layout, layout.Key(key, ep, 1))
			}
		}
		items[i] = lease.Item{
			Key:   func(id clientv3.LeaseID) string { return r.opts.namespace + layout.Key(key, ep, int64(id)) },
			Value: string(value),
		}
	}
	return items, nil
}

// checkAdvertised refuses what no other host could dial.
func checkAdvertised(addr string) error {
	if addr == "" {
		return errors.New("the endpoint has no address")
	}
	if ip, err := netip.ParseAddrPort(addr); err == nil && ip.Addr().IsUnspecified() {
		return fmt.Errorf("address %q: nobody can dial %s: name an address of this host", addr, ip.Addr())
	}
	return nil
}

func checkTTL(ttl time.Duration) error {
	if ttl < time.Second || ttl > 24*time.Hour || ttl%time.Second != 0 {
		return fmt.Errorf("the lease TTL is %v: want whole seconds from 1 s to 24 h", ttl)
	}
	return nil
}

// RegisterOption says more of an endpoint that is registered.
type RegisterOption func(*registerOptions)

type registerOptions struct {
	instance, version, zone *string
	weight                  *uint32
	metadata                map[string]string
	layouts                 []*endpoint.Layout
	err                     error
}

func newRegisterOptions(opts []RegisterOption) registerOptions {
	var o registerOptions
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	return o
}

// apply returns what the options make of ep, which stays as it is.
func (o *registerOptions) apply(ep endpoint.Endpoint) (endpoint.Endpoint, error) {
	if o.err != nil {
		return ep, o.err
	}
	if o.instance != nil {
		ep.Instance = *o.instance
	}
	if o.version != nil {
		ep.Version = *o.version
	}
	if o.zone != nil {
		ep.Zone = *o.zone
	}
	if o.weight != nil {
		ep.Weight = *o.weight
	}
	metadata := make(map[string]string, len(ep.Metadata)+len(o.metadata))
	maps.Copy(metadata, ep.Metadata)
	maps.Copy(metadata, o.metadata)
	for name := range metadata {
		if err := endpoint.CheckMetadataName(name); err != nil {
			return ep, err
		}
	}
	ep.Metadata = metadata
	return ep, nil
}

// WithInstance sets the instance id: unique under the service key, and the same after a restart, so
// that the process takes its own entry over. Default: the advertised address.
func WithInstance(id string) RegisterOption {
	return func(o *registerOptions) { o.instance = &id }
}

// WithVersion sets the version, free text such as "v2". Default: none.
func WithVersion(version string) RegisterOption {
	return func(o *registerOptions) { o.version = &version }
}

// WithZoneTag sets the zone of the endpoint. Default: the registry's, see [WithZone].
func WithZoneTag(zone string) RegisterOption {
	return func(o *registerOptions) { o.zone = &zone }
}

// WithWeight sets the share of calls beside others' under the weighted policy. Default: 0, which
// counts as 1.
func WithWeight(weight uint32) RegisterOption {
	return func(o *registerOptions) { o.weight = &weight }
}

// WithMetadata adds a value under a name of the caller's; "version", "zone" and "weight" are taken.
// May be given many times.
func WithMetadata(name, value string) RegisterOption {
	return func(o *registerOptions) {
		if o.metadata == nil {
			o.metadata = make(map[string]string)
		}
		o.metadata[name] = value
	}
}

// WithLayouts writes the entry in these layouts, all of them, for a fleet whose readers differ. It
// is an error when two of them would write one key. Default: the service's layout.
func WithLayouts(layouts ...Layout) RegisterOption {
	return func(o *registerOptions) {
		o.layouts = nil
		for _, l := range layouts {
			if l == nil {
				o.err = errors.New("WithLayouts was given a nil layout")
				return
			}
			o.layouts = append(o.layouts, l.layout())
		}
		if len(layouts) == 0 {
			o.err = errors.New("WithLayouts was given no layout")
		}
	}
}

// registrations are the sessions of a registry, and the keys that the process has published.
type registrations struct {
	mu       sync.Mutex
	closed   bool
	shared   map[time.Duration]*lease.Session // by TTL
	sessions map[*lease.Session]struct{}      // all of them
	claims   map[*Registration]claim
}

// claim is what a registration holds of the process's key space.
type claim struct {
	serviceKey
	leaseKeys bool // written with a layout whose key is the lease id
	session   *lease.Session
}

// start puts a registration on the session that it belongs on. release gives up what it holds
// apart from the handle.
func (s *registrations) start(r *Registry, g *Registration, items []lease.Item, ttl time.Duration, paused bool) (*lease.Handle, func(context.Context) error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, errClosed
	}
	c := claim{
		serviceKey: serviceKey{g.key, slices.Contains(g.layouts, endpoint.LeaseSuffix)},
		leaseKeys:  slices.ContainsFunc(g.layouts, (*endpoint.Layout).LeaseInKey),
	}
	if err := s.neighbours(c); err != nil {
		return nil, nil, err
	}
	var own bool
	c.session, own = s.session(r, ttl, c)
	handle, err := c.session.Start(items, paused)
	if err != nil {
		return nil, nil, err
	}
	s.claims[g] = c
	return handle, func(ctx context.Context) error {
		s.mu.Lock()
		delete(s.claims, g)
		if own {
			delete(s.sessions, c.session)
		}
		s.mu.Unlock()
		if own {
			return c.session.Close(ctx)
		}
		return nil
	}, nil
}

// session finds or makes the session for a claim: the one for its TTL, unless a lease would have to
// be the key of two entries.
func (s *registrations) session(r *Registry, ttl time.Duration, c claim) (session *lease.Session, own bool) {
	if s.sessions == nil {
		s.shared = make(map[time.Duration]*lease.Session)
		s.sessions = make(map[*lease.Session]struct{})
		s.claims = make(map[*Registration]claim)
	}
	shared := s.shared[ttl]
	for _, other := range s.claims {
		own = own || shared != nil && other.session == shared && other.key == c.key && other.leaseKeys && c.leaseKeys
	}
	if shared != nil && !own {
		return shared, false
	}
	session = lease.New(r.client, lease.Options{TTL: ttl, Logger: r.opts.logger, Changed: r.metrics.registrationChanged})
	s.sessions[session] = struct{}{}
	if !own {
		s.shared[ttl] = session
	}
	return session, own
}

// neighbours refuses a key whose entries could be taken for another's of this process.
func (s *registrations) neighbours(c claim) error {
	for _, other := range s.claims {
		if err := keysApart(c.serviceKey, other.serviceKey); err != nil {
			return err
		}
	}
	return nil
}

// serviceKey is a key with what its entries look like.
type serviceKey struct {
	key    string
	suffix bool // written with the lease suffix
}

// keysApart tells whether the entries of two service keys can be told apart in etcd.
func keysApart(a, b serviceKey) error {
	outer, inner := a, b
	if len(a.key) > len(b.key) {
		outer, inner = b, a
	}
	rest, ok := strings.CutPrefix(inner.key, outer.key)
	if !ok || rest == "" {
		return nil
	}
	if rest[0] == '/' {
		return fmt.Errorf("the key %q is nested under the key %q: readers of the outer one would see its entries",
			inner.key, outer.key)
	}
	if outer.suffix && '0' <= rest[0] && rest[0] <= '9' {
		return fmt.Errorf("the key %q continues the key %q, of layout %s, with a digit: its entries would look like lease ids",
			inner.key, outer.key, endpoint.LeaseSuffix)
	}
	return nil
}

// close revokes all leases at once.
func (s *registrations) close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	sessions := slices.Collect(maps.Keys(s.sessions))
	s.sessions = nil
	s.mu.Unlock()
	errs := make([]error, len(sessions))
	var wg sync.WaitGroup
	for i, session := range sessions {
		wg.Go(func() {
			if err := session.Close(ctx); err != nil {
				errs[i] = fmt.Errorf("etcd: %w", err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
