package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	LeaseID clientv3.LeaseID // what the entry hangs on, or would where it is paused; 0: nothing now
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
	if ep.Instance != g.ep.Instance {
		return fmt.Errorf("an update cannot change the instance id %q to %q: close the registration and register anew", g.ep.Instance, ep.Instance)
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
