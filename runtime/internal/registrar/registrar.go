// Package registrar publishes the entries of this process in one etcd cluster:
//
//	entry.go         an entry, its keys and its values
//	claims.go        which entries collide, and which share a lease session
//	core.go          one server: which entries it publishes, and when
//	registrar.go     all servers and registrations, under one lock
//	registration.go  one entry that is kept in etcd
//	group.go         one server, which does what its core decides
//	announce.go      one announcement of a server: its address and health
//	companion.go     what extensions add to entries
//	store.go         entries without a lease
//
// entry.go, claims.go and core.go only decide.
//
// # How a server ends
//
// First its services become NOT_SERVING. They stay so until another server of
// the registrar serves them with the same health service. Then its entries get
// the mark of leaving, and are removed, in tries of one to two seconds. The
// server serves on for the drain delay, and stops within its stop timeout.
// TestWalkServer walks through the orders in which a server may be paused,
// withdrawn and closed.
package registrar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/keepalive"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/bounded"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// closeTimeout bounds a call that removes entries from etcd, in addition to the
// call's context.
const closeTimeout = 5 * time.Second

// ErrClosed is the error of a Registrar, its groups and its registrations after
// its Close.
var ErrClosed = lease.ErrClosed

// Config configures a Registrar.
type Config struct {
	Client        *clientv3.Client
	Namespace     string // put before every key
	lease.Options        // of all sessions, without TTL and Renewer
}

// Registrar holds the entries that this process publishes in one etcd cluster.
// Its methods are safe for concurrent use.
type Registrar struct {
	Renewer *keepalive.Renewer // renews leases until Close

	config Config
	life   context.Context // ends with Close, with the cause ErrClosed
	end    context.CancelCauseFunc

	// mu also guards the fields of groups and registrations. Sessions and
	// companions are called with mu held, so they must hold no lock of their
	// own when they call back.
	mu sync.Mutex

	claims claims

	// the placed registrations, until they are dropped
	registrations map[*Registration]struct{}

	// all sessions, including dedicated ones that are closing
	sessions map[sessionKey]*lease.Session

	// the announced groups: from the start of Serve or Announce, until they are
	// withdrawn or drain
	groups map[*Group]struct{}

	// the registrations with a companion, until nothing of the companion
	// remains in etcd
	accompanied map[*Registration]struct{}

	// the services that are NOT_SERVING since a drain
	drained map[servedService]bool

	// background tasks; none begins after Close
	tasks sync.WaitGroup

	companionsChanged notifier // notifies when a companion comes, ends or changes
}

// sessionKey identifies a lease session. Entries with the same TTL share a
// session unless theirs is dedicated.
type sessionKey struct {
	ttl   time.Duration
	owner *Registration // nil if the session is shared
}

// servedService is a service at a health service.
type servedService struct {
	health healthpb.HealthServer
	name   string
}

// New returns a registrar. It does no I/O and starts nothing.
func New(config Config) *Registrar {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}

	r := &Registrar{
		config:        config,
		claims:        newClaims(),
		registrations: make(map[*Registration]struct{}),
		sessions:      make(map[sessionKey]*lease.Session),
		groups:        make(map[*Group]struct{}),
		accompanied:   make(map[*Registration]struct{}),
		drained:       make(map[servedService]bool),
	}

	r.companionsChanged.notify() // makes the first channel
	r.life, r.end = context.WithCancelCause(context.Background())
	r.Renewer = keepalive.New(r.life, config.Client, config.Login)

	return r
}

// Register keeps an entry in etcd, and returns when the entry is there. After
// an error it removes the entry, in the background if ctx has ended. It returns
// an error if this process has already registered one of the entry's keys.
func (r *Registrar) Register(ctx context.Context, e Entry) (*Registration, error) {
	reg, err := r.start(e)
	if err != nil {
		return nil, err
	}

	r.warn(e)

	err = reg.handle.Sync(ctx)
	if err == nil {
		return reg, nil
	}

	if ctx.Err() != nil {
		reg.Drop()
		return nil, fmt.Errorf(
			"%w (its entries are removed from etcd in the background)", err)
	}

	return nil, errors.Join(err, reg.Close(ctx))
}

// start begins to keep an entry in etcd. It returns at once.
func (r *Registrar) start(e Entry) (*Registration, error) {
	e = e.complete()
	items, err := e.items(r.config.Namespace)
	if err != nil {
		return nil, err
	}

	reg := &Registration{registrar: r, entry: e}
	r.mu.Lock()
	defer r.mu.Unlock()

	return reg, r.place(reg, items, false)
}

// place begins to keep a registration's entry in etcd, or out of etcd if pause
// is set. It must be called with mu held.
func (r *Registrar) place(reg *Registration, items []lease.Item, pause bool) error {
	if why := context.Cause(r.life); why != nil {
		return why
	}

	dedicated, err := r.claims.add(&reg.entry)
	if err != nil {
		return err
	}

	reg.handle, err = r.session(reg, dedicated).Start(reg.entry.Key, items, pause)
	if err != nil {
		r.claims.remove(&reg.entry)
		return err
	}

	r.registrations[reg] = struct{}{}

	if reg.companion != nil {
		r.accompanied[reg] = struct{}{}
		r.companionsChanged.notify()
	}

	return nil
}

// session returns the session of a registration, a new one if there is none
// yet. It must be called with mu held.
func (r *Registrar) session(reg *Registration, dedicated bool) *lease.Session {
	key := sessionKey{ttl: reg.entry.TTL}
	if dedicated {
		key.owner = reg
	}

	s := r.sessions[key]
	if s == nil {
		opts := r.config.Options
		opts.TTL = key.ttl
		opts.Changed = r.changed
		opts.Renewer = r.Renewer
		s = lease.New(r.config.Client, opts)
		r.sessions[key] = s
	}

	if dedicated {
		reg.dedicated = s
	}

	return s
}

// drop removes a registration's entry from etcd for good, in the background,
// and frees its keys for another registration. It must be called with mu held.
func (r *Registrar) drop(reg *Registration) {
	if _, ok := r.registrations[reg]; !ok {
		return
	}

	delete(r.registrations, reg)
	r.claims.remove(&reg.entry)
	r.endCompanion(reg) // before the entry is removed
	reg.handle.Drop()

	if reg.dedicated == nil || r.life.Err() != nil { // Close closes all sessions
		return
	}

	r.tasks.Go(func() {
		_ = reg.dedicated.Finish(context.Background())

		r.mu.Lock()
		defer r.mu.Unlock()

		delete(r.sessions, sessionKey{reg.entry.TTL, reg})
	})
}

// warn logs why a framework's own reader may fail on an entry.
func (r *Registrar) warn(e Entry) {
	if warning := e.warning(); warning != "" {
		r.config.Logger.Warn("layouts that a framework's own reader fails on", "key",
			r.config.Namespace+e.Key, "problem", warning)
	}
}

// changed passes a change of an entry's state to Config.Changed. Then
// companions and groups look at the states of their entries.
func (r *Registrar) changed(from lease.State, now lease.Status) {
	if r.config.Changed != nil {
		r.config.Changed(from, now)
	}

	r.mu.Lock()
	for reg := range r.accompanied {
		if state := reg.handle.Status().State; state != lease.Lost {
			reg.companion.Registered(state == lease.Registered)
		}
	}

	groups := slices.Collect(maps.Keys(r.groups))
	r.mu.Unlock()

	for _, g := range groups {
		g.report()
	}
}

// Reconnected makes the sessions check their keys: see
// [lease.Session.Reconnected].
func (r *Registrar) Reconnected() {
	r.mu.Lock()
	defer r.mu.Unlock()

	for _, session := range r.sessions {
		session.Reconnected()
	}
}

// Status returns the states of the entries, sorted by service key.
func (r *Registrar) Status() []lease.Status {
	r.mu.Lock()
	defer r.mu.Unlock()

	return statuses(maps.Keys(r.registrations))
}

// statuses returns the states of registrations, sorted by service key. It must
// be called with mu held.
func statuses(registrations iter.Seq[*Registration]) (all []lease.Status) {
	for reg := range registrations {
		all = append(all, reg.status())
	}

	slices.SortStableFunc(all, func(a, b lease.Status) int {
		return cmp.Compare(a.Key, b.Key)
	})

	return all
}

// Close removes all entries from etcd and revokes the leases, all at once. It
// returns when that is done. If ctx ends or 5 s pass first, the error names the
// leases that remain until they expire.
func (r *Registrar) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()

	r.mu.Lock()
	r.end(ErrClosed)

	var calls []func(context.Context) error
	for reg := range r.accompanied {
		calls = append(calls, reg.companion.Close)
	}

	for _, session := range r.sessions {
		calls = append(calls, session.Close)
	}

	r.companionsChanged.notify()
	r.mu.Unlock()

	errs := make([]error, len(calls))

	var closing sync.WaitGroup
	for i, call := range calls {
		closing.Go(func() {
			if err := call(ctx); err != nil {
				errs[i] = fmt.Errorf("etcd: %w", err)
			}
		})
	}

	closing.Wait()
	bounded.Run(ctx, r.tasks.Wait) // the tasks end with the sessions and the companions
	bounded.Run(ctx, r.Renewer.Wait)

	return errors.Join(errs...)
}
