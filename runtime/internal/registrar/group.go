package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/healthcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

var (
	errWithdrawn = errors.New("the server was withdrawn during its announcement")
	errEnding    = errors.New("the server stops serving")
)

// Group is a set of entries that a server announces together. Its methods are safe for concurrent use.
type Group struct {
	registrar *Registrar

	mu            sync.Mutex
	core          core
	run           *Run            // the last run; nil before the first one
	registrations []*Registration // those of the last run
	earlier       []*Registration // those of earlier runs, until they are out of etcd

	reporting sync.Mutex // serialises the calls of Report
}

// NewGroup returns a group without entries.
func (r *Registrar) NewGroup() *Group { return &Group{registrar: r} }

// Publish adds an entry to those that are announced together. d has the details from which e was made.
func (g *Group) Publish(e Entry, d Details) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.core.publish(e, d)
}

// Fault records an error of a method that cannot return errors: the next Announce or Begin returns it. If the group is
// already announced, the error is logged.
func (g *Group) Fault(err error) {
	g.mu.Lock()
	takes := g.core.takes()
	if takes {
		g.core.faults = append(g.core.faults, err)
	}
	g.mu.Unlock()
	if !takes {
		g.Logger().Error("misuse of an etcd server", "error", err)
	}
}

// Faults returns the recorded errors as one.
func (g *Group) Faults() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.core.faults...)
}

// Logger returns the registrar's logger.
func (g *Group) Logger() *slog.Logger { return g.registrar.config.Logger }

// Idle reports whether the group has never been announced.
func (g *Group) Idle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.core.phase == idle
}

// Checked returns the names that clients with health checks check.
func (g *Group) Checked() (names []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.core.entries {
		names = append(names, e.Checked...)
	}
	return names
}

// Unshared returns the published services whose health at server no other announced group follows, and "", the whole server, if
// none follows any.
func (g *Group) Unshared(server healthpb.HealthServer) []string {
	g.mu.Lock()
	services, own := append(g.core.services(), ""), g.registrations
	g.mu.Unlock()
	g.registrar.mu.Lock()
	defer g.registrar.mu.Unlock()
	for other := range g.registrar.registrations {
		if e := other.claim.entry; e.checkedBy(server) && !slices.Contains(own, other) {
			services = slices.DeleteFunc(services, func(service string) bool { return service == "" || slices.Contains(e.Services, service) })
		}
	}
	return services
}

// checkedBy reports whether the entry is paused while its services are unhealthy at server.
func (e Entry) checkedBy(server healthpb.HealthServer) bool {
	return reflect.ValueOf(server).Comparable() && e.health == server
}

// Status returns the states of the entries of the last announcement, sorted by service key.
func (g *Group) Status() []lease.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return statuses(g.registrations)
}

// Elections is Registrar.Elections for the entries of the group. It returns an error if the group cannot be announced.
func (g *Group) Elections(key string) (all []*election.Election, changed <-chan struct{}, err error) {
	if err := g.Faults(); err != nil && g.Idle() { // later faults do not end elections under way
		return nil, nil, err
	}
	if _, changed, err = g.registrar.Elections(key); err != nil {
		return nil, nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.core.phase == stopped {
		return nil, nil, errEnding
	}
	for _, registration := range g.registrations {
		if registration.election != nil && registration.Key() == key {
			all = append(all, registration.election)
		}
	}
	return all, changed, nil
}

// Announce puts the entries in etcd, and returns when they are there, except unhealthy ones. After an error it removes
// them, in the background if ctx has ended.
func (g *Group) Announce(ctx context.Context, a Announcement) error {
	run, err := g.begin(announce)
	if err != nil {
		return err
	}
	if err = run.announce(ctx, a, true); err == nil {
		return nil
	}
	left := g.step(run, withdraw, err)
	if ctx.Err() != nil {
		return fmt.Errorf("%w (its entries are removed from etcd in the background)", err)
	}
	return errors.Join(err, closeAll(ctx, left))
}

// Begin begins the announcement of a server that is about to serve. [Run.Announce] continues it.
func (g *Group) Begin() (*Run, error) { return g.begin(serve) }

func (g *Group) begin(on event) (*Run, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if why := context.Cause(g.registrar.life); why != nil {
		return nil, fmt.Errorf("etcd: announce: %w", why)
	}
	if err := g.core.begin(on); err != nil {
		return nil, err
	}
	g.earlier = slices.DeleteFunc(slices.Concat(g.earlier, g.registrations), func(registration *Registration) bool {
		return registration.Status().State == lease.Closed
	})
	g.registrations = nil
	g.run = &Run{group: g, entries: slices.Clone(g.core.entries), health: make([]healthcheck.Health, len(g.core.entries))}
	g.run.life, g.run.end = context.WithCancelCause(g.registrar.life)
	return g.run, nil
}

// Withdraw takes the entries out of etcd, and returns when they are out. If ctx ends or 5 s pass
// first, the error names the entries that may be left. The group can be announced again, unless its server is ending.
func (g *Group) Withdraw(ctx context.Context) error {
	if err := closeAll(ctx, g.step(nil, withdraw, errWithdrawn)); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.core.phase == announced {
		return errors.New("etcd: withdraw: the server was announced again before the end of this call")
	}
	return nil
}

// End begins the end of a serving server. From then on the health of its entries is ignored. Call
// Withdraw next, and Ended when the server has stopped.
func (g *Group) End() { g.step(nil, end, errEnding) }

// Ended ends the group, whose server has stopped.
func (g *Group) Ended() {
	g.step(nil, drained, errEnding)
	g.registrar.mu.Lock()
	defer g.registrar.mu.Unlock()
	g.registrar.notifyElections()
}

// step applies an event to the group, unless run is given and has ended. On withdraw it drops the entries, and returns those that may
// still be in etcd. why becomes the cause of the run's end.
func (g *Group) step(run *Run, on event, why error) (left []*Registration) {
	g.mu.Lock()
	if run != nil && run.life.Err() != nil || g.run == nil {
		g.mu.Unlock()
		return nil
	}
	g.core.step(on)
	g.run.end(why) // before the drops, so that waiting callers return why
	if on == withdraw {
		for _, registration := range g.registrations {
			registration.Drop() // returns at once, so that all are removed together
		}
		left = slices.Concat(g.earlier, g.registrations)
	}
	g.mu.Unlock()
	g.report()
	return left
}

// report calls Report of the last run.
func (g *Group) report() {
	g.reporting.Lock()
	defer g.reporting.Unlock()
	g.mu.Lock()
	run := g.run
	registered := run.life.Err() == nil && len(g.registrations) == len(run.entries)
	for _, registration := range g.registrations {
		registered = registered && registration.Status().State == lease.Registered
	}
	report := run.announced.Report
	g.mu.Unlock()
	if report != nil {
		report(registered)
	}
}

// closeAll waits until dropped registrations are out of etcd.
func closeAll(ctx context.Context, registrations []*Registration) error {
	ctx, cancel := context.WithTimeout(ctx, lease.CloseTimeout)
	defer cancel()
	var errs []error
	for _, registration := range registrations {
		if err := registration.Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("etcd: withdraw %q: %w", registration.Full(), err))
		}
	}
	return errors.Join(errs...)
}
