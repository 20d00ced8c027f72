package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

// State is the state of a registration.
type State int

// The states of a registration.
const (
	StateRegistering State = State(lease.Registering) // not in etcd yet

	// in etcd, on a lease that is being renewed
	StateRegistered State = State(lease.Registered)

	// was in etcd, but may have gone; it is being put back or, if no longer
	// wanted, removed
	StateLost State = State(lease.Lost)

	// another process holds the key; the entry is written again once the key is
	// free
	StateConflict State = State(lease.Conflict)

	// removed from etcd by Pause, or while the service is not healthy
	StatePaused State = State(lease.Paused)

	// ended for good; Err names a key that may be left in etcd, if any
	StateClosed State = State(lease.Closed)
)

// String returns "registering", "registered", "lost", "conflict", "paused" or
// "closed".
func (s State) String() string {
	return lease.State(s).String()
}

// Status is the state of a registration at one moment.
type Status struct {
	State State
	Key   string // the service key

	// LeaseID is the lease of the entry, or 0 if the entry has none. A paused
	// entry keeps its lease. The registry owns the lease, and deletes other
	// keys on it.
	LeaseID clientv3.LeaseID

	// Err says why etcd does not have the desired entry or why a candidate's
	// leadership is unknown, or names a fault of the server's health service.
	// It is nil if nothing is wrong.
	Err error

	Since time.Time // when State was entered
}

// WithOnStatus calls f after each change of the State of a registration,
// including the registrations of servers. f runs on a goroutine of the
// registry, one call at a time, in the order of the changes. f may block and
// may call any method; Close does not wait for f, so calls may come after Close
// has returned. If 65,536 changes wait, the oldest are dropped. A panic in f is
// not recovered. Default: none.
func WithOnStatus(f func(Status)) Option {
	return func(o *options) {
		if f != nil {
			report := queued(f)
			o.onStatus = func(now lease.Status) { report(statusOf(now)) }
		}
	}
}

// maxQueue bounds the changes that wait for the function of WithOnStatus.
const maxQueue = 1 << 16

// queued returns a function that queues its argument for f, and does not wait.
// A goroutine calls f, and ends when the queue is empty.
func queued(f func(Status)) func(Status) {
	var mu sync.Mutex
	var queue []Status

	running := false
	next := func() (s Status, ok bool) {
		mu.Lock()
		defer mu.Unlock()

		if len(queue) == 0 {
			queue = nil
			running = false

			return s, false
		}

		s = queue[0]
		queue = queue[1:]

		return s, true
	}

	report := func() {
		for s, ok := next(); ok; s, ok = next() {
			f(s)
		}
	}

	return func(s Status) {
		mu.Lock()
		defer mu.Unlock()

		queue = append(queue[max(0, len(queue)+1-maxQueue):], s)

		if !running {
			running = true
			go report()
		}
	}
}

// Registration keeps the entry of an endpoint in etcd until Close: it puts the
// entry back when something deletes or changes the entry, and moves it to a new
// lease when the old one is lost. Its methods are safe for concurrent use.
type Registration struct{ registered *registrar.Registration }

// Register keeps ep in etcd under the service key, and returns when the entry
// is there. If ctx ends first, the error says why the entry is not there, and
// anything already written is removed in the background.
//
// The options add to ep. The default instance id is the address. Register takes
// over an entry of another process with the same id: the newer registration
// wins, and the older one turns to StateConflict. If this process has an entry
// with that id, Register returns an error.
func (r *Registry) Register(
	ctx context.Context,
	key string,
	ep Endpoint,
	opts ...RegisterOption,
) (*Registration, error) {
	if err := r.startLeasing(); err != nil {
		return nil, err
	}

	g, err := r.register(ctx, key, ep, opts)
	if err != nil {
		return nil, fmt.Errorf("etcd: register %q: %w", r.full(key), err)
	}

	return g, nil
}

func (r *Registry) register(
	ctx context.Context,
	key string,
	ep Endpoint,
	opts []RegisterOption,
) (*Registration, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}

	o, err := newRegisterOptions(opts)
	if err != nil {
		return nil, err
	}

	entry, err := registrar.NewEntry(key, o.layouts, r.opts.leaseTTL, r.withZone(ep),
		o.Details)
	if err != nil {
		return nil, err
	}

	registered, err := r.published.Register(ctx, entry)
	if err != nil {
		return nil, err
	}

	return &Registration{registered}, nil
}

// withZone returns ep with the zone of this process, unless ep has a zone.
func (r *Registry) withZone(ep Endpoint) endpoint.Endpoint {
	ep.Zone = cmp.Or(ep.Zone, r.opts.zone)
	return endpoint.Endpoint(ep)
}

// Status returns the state of the registration now. It does no I/O.
func (g *Registration) Status() Status {
	return statusOf(g.registered.Status())
}

// statusOf converts a status whose key is the service key.
func statusOf(s lease.Status) Status {
	return Status{
		State:   State(s.State),
		Key:     s.Key,
		LeaseID: s.Lease,
		Err:     s.Err,
		Since:   s.Since,
	}
}

func statusesOf(all []lease.Status) []Status {
	var statuses []Status
	for _, s := range all {
		statuses = append(statuses, statusOf(s))
	}

	return statuses
}

// Update changes the entry under the same key and on the same lease. Values
// without an option stay as they are. Update returns when the change is in
// etcd, or at once while the entry is paused. If ctx ends first, it returns an
// error, and the change is written once etcd can be reached. An update that
// changes nothing writes nothing. The instance id and the layouts cannot
// change.
func (g *Registration) Update(ctx context.Context, opts ...RegisterOption) error {
	o, err := newRegisterOptions(opts)
	if err == nil {
		err = g.registered.Update(ctx, o.layouts, o.Details)
	}

	return g.failed("update", err)
}

// Pause removes the entry from etcd until Resume, and returns when the entry is
// gone. If ctx ends first, Pause returns an error, and the entry is removed
// once etcd can be reached. The later of two calls of Pause and Resume wins:
// the earlier one returns an error if it is still under way.
func (g *Registration) Pause(ctx context.Context) error {
	return g.failed("pause", g.registered.SetPaused(ctx, true))
}

// Resume ends a Pause, and returns when the entry is in etcd again. While etcd
// has no space, Resume returns an error, and the entry comes back once there is
// space.
func (g *Registration) Resume(ctx context.Context) error {
	return g.failed("resume", g.registered.SetPaused(ctx, false))
}

// Close removes the entry from etcd for good, unless another process has taken
// the entry over. It returns when the entry is gone. If ctx ends or 5 s pass
// first, Close returns an error, and the registry goes on trying. Closing twice
// is harmless.
func (g *Registration) Close(ctx context.Context) error {
	return g.failed("close the registration of", g.registered.Close(ctx))
}

// failed wraps err with the operation and the key.
func (g *Registration) failed(operation string, err error) error {
	if err == nil {
		return nil
	}

	return fmt.Errorf("etcd: %s %q: %w", operation, g.registered.Full(), err)
}

// RegisterOption configures an endpoint that is registered.
type RegisterOption func(*registerOptions)

type registerOptions struct {
	registrar.Details
	layouts []endpoint.Layout
	err     error
}

func newRegisterOptions(opts []RegisterOption) (registerOptions, error) {
	var o registerOptions
	apply(&o, opts)

	return o, o.err
}

// WithInstance sets the instance id. It must be unique under the service key,
// and the same after a restart, so that the process takes over its own entry.
// Default: the advertised address.
func WithInstance(id string) RegisterOption {
	return func(o *registerOptions) { o.Instance = &id }
}

// WithVersion sets the version, free text such as "v2". Default: none.
func WithVersion(version string) RegisterOption {
	return func(o *registerOptions) { o.Version = &version }
}

// WithZoneTag sets the zone of the endpoint. Default: the registry's, see
// [WithZone].
func WithZoneTag(zone string) RegisterOption {
	return func(o *registerOptions) { o.Zone = &zone }
}

// WithWeight sets the relative share of the calls under the weighted policy.
// The default, 0, counts as 1.
func WithWeight(weight uint32) RegisterOption {
	return func(o *registerOptions) { o.Weight = &weight }
}

// WithMetadata adds a metadata value. The names "version", "zone", "weight",
// "grpc_methods", "grpc_leaving" and "grpc_started" are reserved. The option
// may be given many times.
func WithMetadata(name, value string) RegisterOption {
	return func(o *registerOptions) {
		if o.Metadata == nil {
			o.Metadata = make(map[string]string)
		}

		o.Metadata[name] = value
	}
}

// WithLayouts writes the entry in all of these layouts, for clients that read
// different layouts. It is an error if two of them write the same key. Default:
// the service's layout.
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

// Add puts ep in etcd under the service key, without a lease. The entry stays
// until [Registry.Remove], whether or not the endpoint is alive. Add is for
// endpoints that cannot register themselves. It is an error if the key of a
// layout contains the lease id, or if a key has the entry of a server, which is
// on a lease. etcd's user needs permission to read and to write the key.
func (r *Registry) Add(
	ctx context.Context,
	key string,
	ep Endpoint,
	opts ...RegisterOption,
) error {
	if err := r.start(); err != nil {
		return err
	}

	if err := r.add(ctx, key, ep, opts); err != nil {
		return fmt.Errorf("etcd: add an endpoint under %q: %w", r.full(key), err)
	}

	return nil
}

func (r *Registry) add(
	ctx context.Context,
	key string,
	ep Endpoint,
	opts []RegisterOption,
) error {
	o, err := newRegisterOptions(opts)
	if err != nil {
		return err
	}

	entry, err := registrar.Unleased(key, o.layouts, r.withZone(ep), o.Details)
	if err != nil {
		return err
	}

	return r.published.Add(ctx, entry)
}

// Remove deletes the entries of an instance under the service key, in any
// layout and of any process. instance is the instance id or the address. For
// entries of a [JSONLayout], instance is the id. It is an error if no entry is
// found.
//
// A process that is alive puts its entry back: use [Registration.Pause] in that
// process, or drain its server.
func (r *Registry) Remove(ctx context.Context, key, instance string) error {
	if err := r.start(); err != nil {
		return err
	}

	if err := r.published.Remove(ctx, key, instance); err != nil {
		return fmt.Errorf("etcd: remove %q under %q: %w", instance, r.full(key), err)
	}

	return nil
}
