package registrar

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/advertise"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/healthcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// Announcement configures a Run.
type Announcement struct {
	Listen    string // the address listened on
	Advertise advertise.Config
	Methods   map[string][]string   // of each service that the server serves, by name
	Health    healthpb.HealthServer // entries are paused while their services are not healthy there; nil: all services are healthy
	Report    func(registered bool) // called with whether all entries are in etcd, at first and when that may have changed; may be nil
}

// Run is one announcement of a group, until it is withdrawn.
type Run struct {
	group *Group
	round int
	life  context.Context // ends with the run; its cause says why
	end   context.CancelCauseFunc
	pokes chan struct{} // has a value when a state has changed

	// Guarded by the group's lock.
	given         Announcement
	follower      *healthcheck.Follower
	registrations []*Registration
	earlier       []*Registration // of earlier runs, on their way out when this one began
}

// Start begins to put the entries in etcd, and does not wait for them. After an error call Abandon.
func (run *Run) Start(ctx context.Context, a Announcement) error {
	ctx, done := run.within(ctx)
	defer done()
	g := run.group
	g.mu.Lock()
	run.given = a
	entries := slices.Clone(g.core.entries)
	g.mu.Unlock()
	g.report(run)
	if len(entries) == 0 {
		return run.register(nil, "", nil)
	}
	addr, warning, err := a.Advertise.Address(ctx, a.Listen)
	if err != nil {
		return run.reason(err)
	}
	if warning != "" {
		g.registrar.config.Logger.Warn("questionable address", "address", addr, "problem", warning)
	}
	first := run.follow(ctx, a.Health)
	if err := context.Cause(ctx); err != nil {
		return run.reason(fmt.Errorf("etcd: announce: %w", err))
	}
	return run.reason(run.register(entries, addr, first))
}

// within returns a context that ends with ctx or the run.
func (run *Run) within(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(run.life, func() { cancel(context.Cause(run.life)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// follow begins to follow the health of the entries, and returns what is known of it at once.
func (run *Run) follow(ctx context.Context, server healthpb.HealthServer) []bool {
	if server == nil {
		return nil
	}
	g := run.group
	g.mu.Lock()
	services := g.core.services()
	g.mu.Unlock()
	follower, first := healthcheck.Follow(ctx, server, services, run.hear, g.registrar.config.Logger)
	g.mu.Lock()
	ended := run.life.Err() != nil
	run.follower = follower
	g.mu.Unlock()
	if ended {
		follower.Stop() // nobody else does
	}
	return first
}

// hear takes in the health of an entry.
func (run *Run) hear(entry int, ok bool) {
	g := run.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.core.hear(run.round, entry, ok) && entry < len(run.registrations) {
		_, _ = run.registrations[entry].handle.SetPaused(g.core.paused(entry)) // an error: the registrar is closed
	}
}

// register registers the entries, and begins to watch their states.
func (run *Run) register(entries []Entry, addr string, first []bool) error {
	g := run.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := context.Cause(run.life); err != nil {
		return err
	}
	g.core.firstHealth(first)
	started := time.Now()
	for i, e := range entries {
		registration, err := g.registrar.start(e.at(addr, started, run.given.Methods), g.core.paused(i))
		if err != nil {
			return fmt.Errorf("etcd: announce %q: %w", g.registrar.config.Namespace+e.Key, err)
		}
		run.registrations = append(run.registrations, registration)
	}
	return g.registrar.track(run)
}

// watch reports changes of state until the run ends.
func (run *Run) watch() {
	for {
		select {
		case <-run.life.Done():
			return
		case <-run.pokes:
			run.group.report(run)
		}
	}
}

// poke has watch look at the states. It never blocks.
func (run *Run) poke() {
	select {
	case run.pokes <- struct{}{}:
	default:
	}
}

// Wait returns when the entries are in etcd, save those that are not healthy. It returns an error when that
// cannot be, when ctx ends, or when the run does.
func (run *Run) Wait(ctx context.Context) error {
	ctx, done := run.within(ctx)
	defer done()
	for _, registration := range run.started() {
		if err := registration.handle.Sync(ctx); err != nil {
			return run.reason(fmt.Errorf("etcd: announce %q: %w", registration.Full(), err))
		}
	}
	return run.reason(nil)
}

// started returns the registrations that the run has begun.
func (run *Run) started() []*Registration {
	run.group.mu.Lock()
	defer run.group.mu.Unlock()
	return slices.Clone(run.registrations)
}

// reason returns what ended the run, or err if it goes on.
func (run *Run) reason(err error) error {
	if why := context.Cause(run.life); why != nil {
		return fmt.Errorf("etcd: announce: %w", why)
	}
	return err
}

// placed takes in that the entries are in etcd, save those that are not healthy. It is an error if the run has
// ended.
func (run *Run) placed() error {
	run.step(placed, nil)
	run.group.report(run)
	return run.reason(nil)
}

// Abandon ends a run that cannot be announced. Its entries are taken out of etcd in the background.
func (run *Run) Abandon(why error) { run.step(failed, why) }

// Over reports whether the run was withdrawn or has ended otherwise.
func (run *Run) Over() bool { return run.life.Err() != nil }

// waitGone returns when the entries of a run that was dropped are out of etcd.
func (run *Run) waitGone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lease.CloseTimeout)
	defer cancel()
	run.group.mu.Lock()
	registrations := slices.Concat(run.earlier, run.registrations)
	run.group.mu.Unlock()
	var errs []error
	for _, registration := range registrations {
		if err := registration.Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("etcd: withdraw %q: %w", registration.Full(), err))
		}
	}
	return errors.Join(errs...)
}

// step takes in an event of the run, unless there is a later run. why is the cause if the event ends the run.
func (run *Run) step(on event, why error) {
	g := run.group
	g.mu.Lock()
	after := run.carryOut(g.core.stepRound(run.round, on), why)
	g.mu.Unlock()
	after()
}

// carryOut carries out effects. It must be called with the group's lock held, and the function that it returns
// without.
func (run *Run) carryOut(effects effect, why error) (after func()) {
	if effects&unfollow != 0 {
		run.end(why) // first, so that Wait returns why
	}
	if effects&drop != 0 {
		for _, registration := range run.registrations {
			registration.Drop() // all at once, not one after the other
		}
	}
	if effects&unfollow == 0 {
		return func() {}
	}
	follower := run.follower
	return func() {
		if follower != nil {
			follower.Stop() // waits for a report, which takes the lock
		}
		run.group.report(run)
	}
}
