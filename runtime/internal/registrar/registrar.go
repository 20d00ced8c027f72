// Package registrar publishes the entries of this process in one etcd cluster. Its claims decide which entries
// collide and which lease session each is on. Its core holds the phase of each server that announces entries
// together. Neither does I/O.
package registrar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/keepalive"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/bounded"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// ErrClosed is the error of a Registrar, its groups and its registrations after its Close.
var ErrClosed = lease.ErrClosed

// Config configures a Registrar.
type Config struct {
	Client        *clientv3.Client
	Namespace     string // put before every key
	lease.Options        // of all sessions, without TTL and Renewer
	Elections     Elections
}

// Registrar holds the entries that this process publishes in one etcd cluster. Its methods are safe for
// concurrent use.
type Registrar struct {
	config Config

	mu               sync.Mutex
	closed           bool
	claims           claims
	registrations    map[*Registration]struct{}    // one for each claim
	electing         map[*Registration]struct{}    // registrations with an election, until their candidates are out of etcd
	sessions         map[sessionKey]*lease.Session // lease sessions, with those that are closing
	tasks            sync.WaitGroup                // background tasks; none begins after Close
	electionsChanged chan struct{}                 // closed when an election begins or ends, or its term changes
	runs             map[*Run]struct{}             // the runs whose groups report changes of state

	life    context.Context // ends with Close, with the cause ErrClosed
	end     context.CancelCauseFunc
	renewer *keepalive.Renewer
}

// New returns a registrar. It does no I/O and starts nothing.
func New(config Config) *Registrar {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	life, end := context.WithCancelCause(context.Background())
	return &Registrar{
		config:           config,
		claims:           newClaims(),
		registrations:    make(map[*Registration]struct{}),
		electing:         make(map[*Registration]struct{}),
		sessions:         make(map[sessionKey]*lease.Session),
		electionsChanged: make(chan struct{}),
		runs:             make(map[*Run]struct{}),
		life:             life,
		end:              end,
		renewer:          keepalive.New(life, config.Client),
	}
}

// Register keeps an entry in etcd, and returns when the entry is there. After an error it removes the entry, in the background if
// ctx has ended. It returns an error if this process has already registered one of the entry's keys.
func (r *Registrar) Register(ctx context.Context, e Entry) (*Registration, error) {
	reg, err := r.start(e, false)
	if err != nil {
		return nil, err
	}
	reg.logWarnings()
	if err = reg.handle.Sync(ctx); err == nil {
		return reg, nil
	}
	if ctx.Err() != nil {
		reg.Drop()
		return nil, fmt.Errorf("%w (its entries are removed from etcd in the background)", err)
	}
	return nil, errors.Join(err, reg.Close(ctx))
}

// start begins to keep an entry in etcd, or only stores it if pause is set. It returns at once. The caller must call logWarnings next.
func (r *Registrar) start(e Entry, pause bool) (*Registration, error) {
	e = e.complete()
	items, err := e.items(r.config.Namespace)
	if err != nil {
		return nil, err
	}
	elected, err := r.newElection(e)
	if err != nil {
		return nil, err
	}
	reg, err := r.add(e, elected, items, pause)
	if err != nil && elected != nil {
		_ = elected.Close(context.Background()) // it never had a candidate
	}
	return reg, err
}

func (r *Registrar) add(e Entry, elected *election.Election, items []lease.Item, pause bool) (*Registration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	claim, err := r.claims.add(e)
	if err != nil {
		return nil, err
	}
	handle, err := r.session(claim).Start(items, pause)
	if err != nil {
		r.claims.remove(claim)
		return nil, err
	}
	reg := &Registration{registrar: r, claim: claim, handle: handle, election: elected, entry: e, ended: make(chan struct{})}
	r.registrations[reg] = struct{}{}
	if elected != nil {
		r.electing[reg] = struct{}{}
	}
	r.notifyElections()
	return reg, nil
}

// warn logs why some readers may fail on an entry.
func (r *Registrar) warn(e Entry) {
	if warning := e.warning(); warning != "" {
		r.config.Logger.Warn("questionable layouts", "key", r.config.Namespace+e.Key, "problem", warning)
	}
}

// session returns the session of a claim. It must be called with mu held.
func (r *Registrar) session(c *claim) *lease.Session {
	s := r.sessions[c.session()]
	if s == nil {
		opts := r.config.Options
		opts.TTL, opts.Changed, opts.Renewer = c.entry.TTL, r.changed, r.renewer
		s = lease.New(r.config.Client, opts)
		r.sessions[c.session()] = s
	}
	return s
}

// release removes the claim of a dropped registration. A dedicated session is closed in the background, which
// revokes its lease.
func (r *Registrar) release(reg *Registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.registrations, reg)
	r.claims.remove(reg.claim)
	r.notifyElections()
	if reg.election != nil && !r.closed {
		r.tasks.Go(func() {
			<-reg.election.Gone()
			_ = reg.election.Close(context.Background()) // its candidate is gone
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.electing, reg)
		})
	}
	if !reg.claim.dedicated || r.closed { // Close closes all sessions
		close(reg.ended)
		return
	}
	session := r.sessions[reg.claim.session()]
	r.tasks.Go(func() {
		defer close(reg.ended)
		reg.endErr = session.Finish()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.sessions, reg.claim.session())
	})
}

// changed passes a change of an entry's state to Config.Changed, the elections and the groups.
func (r *Registrar) changed(key string, from, to lease.State) {
	if r.config.Changed != nil {
		r.config.Changed(key, from, to)
	}
	r.mu.Lock()
	electing, runs := slices.Collect(maps.Keys(r.electing)), slices.Collect(maps.Keys(r.runs))
	r.mu.Unlock()
	for _, reg := range electing {
		reg.mu.Lock()
		reg.updateStanding()
		reg.mu.Unlock()
	}
	for _, run := range runs {
		run.group.report()
	}
}

// watchedBy makes the group of a run report each change of state until the run ends.
func (r *Registrar) watchedBy(run *Run) {
	r.mu.Lock()
	r.runs[run] = struct{}{}
	r.mu.Unlock()
	context.AfterFunc(run.life, func() {
		r.mu.Lock()
		delete(r.runs, run)
		r.mu.Unlock()
		run.group.report()
	})
}

// Status returns the states of the entries, sorted by service key.
func (r *Registrar) Status() []lease.Status {
	r.mu.Lock()
	all := slices.Collect(maps.Keys(r.registrations))
	r.mu.Unlock()
	return statuses(all)
}

// statuses returns the states of registrations, sorted by service key.
func statuses(registrations []*Registration) (all []lease.Status) {
	for _, reg := range registrations {
		all = append(all, reg.Status())
	}
	slices.SortStableFunc(all, func(a, b lease.Status) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

// Close takes all entries out of etcd and revokes the leases, all at once. It returns when that is done. If ctx ends or 5 s
// pass first, the error names the leases that are left to expire.
func (r *Registrar) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lease.CloseTimeout)
	defer cancel()
	r.mu.Lock()
	r.closed = true
	r.end(ErrClosed)
	sessions := slices.Collect(maps.Values(r.sessions))
	electing := slices.Collect(maps.Keys(r.electing))
	r.notifyElections()
	r.mu.Unlock()
	errs := make([]error, len(sessions)+len(electing))
	var closing sync.WaitGroup
	for i, reg := range electing {
		reg.election.End() // before the entry leaves
		closing.Go(func() {
			if err := reg.election.Close(ctx); err != nil {
				errs[len(sessions)+i] = fmt.Errorf("etcd: %w", err)
			}
		})
	}
	for i, session := range sessions {
		closing.Go(func() {
			if err := session.Close(ctx); err != nil {
				errs[i] = fmt.Errorf("etcd: %w", err)
			}
		})
	}
	closing.Wait()
	bounded.Run(ctx, r.tasks.Wait) // the tasks end with the sessions, the elections and the runs
	bounded.Run(ctx, r.renewer.Wait)
	return errors.Join(errs...)
}
