package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

var (
	errWithdrawn = errors.New("the server was withdrawn during its announcement")
	errEnding    = errors.New("the server stops serving")
)

// Group is the set of entries that a server announces together. Its methods are
// safe for concurrent use.
type Group struct {
	registrar *Registrar

	// The registrar's lock guards the following fields.
	core core

	// life, end, config and registrations are those of the last announcement.
	// life ends with the announcement or the registrar, with the reason as its
	// cause.
	life context.Context

	end           context.CancelCauseFunc
	config        RunConfig
	registrations []*Registration

	// those of earlier announcements, until they are out of etcd
	earlier []*Registration

	reporting sync.Mutex // keeps the calls of config.Report in order
}

// NewGroup returns a group without entries.
func (r *Registrar) NewGroup() *Group {
	return &Group{registrar: r}
}

// with calls f with the lock held.
func (g *Group) with(f func(c *core)) {
	g.registrar.mu.Lock()
	defer g.registrar.mu.Unlock()

	f(&g.core)
}

// Publish adds an entry to the group. d has the details from which e was made.
func (g *Group) Publish(e Entry, d Details) (err error) {
	g.with(func(c *core) { err = c.publish(e, d) })
	return err
}

// Fault records an error of a method that cannot return errors: the next
// Announce or Begin returns it. If the group is already announced, the error is
// logged.
func (g *Group) Fault(err error) {
	var returned bool
	g.with(func(c *core) { returned = c.fault(err) })

	if !returned {
		g.Logger().Error("misuse of an etcd server", "error", err)
	}
}

// Faults returns the recorded errors as one.
func (g *Group) Faults() (err error) {
	g.with(func(c *core) { err = errors.Join(c.faults...) })
	return err
}

// Logger returns the registrar's logger.
func (g *Group) Logger() *slog.Logger {
	return g.registrar.config.Logger
}

// Idle reports whether the group has never been announced.
func (g *Group) Idle() (is bool) {
	g.with(func(c *core) { is = c.phase == idle })
	return is
}

// Checked returns the service names that clients with health checks ask for.
func (g *Group) Checked() (names []string) {
	g.with(func(c *core) {
		for _, e := range c.entries {
			names = append(names, e.Checked...)
		}
	})

	return names
}

// Drain returns the services to set NOT_SERVING at a health service: the
// published ones, and "" for the whole server. It omits the services of
// announced groups with the same health service. The returned services count as
// drained there. The group itself must have ended.
func (g *Group) Drain(server healthpb.HealthServer) (services []string) {
	g.with(func(c *core) {
		services = append(c.services(), "")
		for other := range g.registrar.groups {
			if other.config.Health != server {
				continue
			}

			theirs := append(other.core.services(), "")
			services = slices.DeleteFunc(services, func(service string) bool {
				return slices.Contains(theirs, service)
			})
		}

		for _, service := range services {
			g.registrar.drained[servedService{server, service}] = true
		}
	})

	return services
}

// Resume returns the services to set SERVING at a health service. Of the
// published services and "", it returns those that count as drained there,
// which then no longer do. Resume also records the health service, so that no
// other group drains the services while this one is announced.
func (g *Group) Resume(server healthpb.HealthServer) (services []string) {
	g.with(func(c *core) {
		g.config.Health = server

		for _, service := range append(c.services(), "") {
			key := servedService{server, service}
			if g.registrar.drained[key] {
				delete(g.registrar.drained, key)
				services = append(services, service)
			}
		}
	})

	return services
}

// Status returns the states of the entries of the last announcement, sorted by
// service key.
func (g *Group) Status() (all []lease.Status) {
	g.with(func(*core) { all = statuses(slices.Values(g.registrations)) })
	return all
}

// Announce puts the entries in etcd, and returns when all healthy ones are
// there. After an error it removes them, in the background if ctx has ended. It
// need not wait for the end of a withdrawal.
func (g *Group) Announce(ctx context.Context, config RunConfig) error {
	run, err := g.begin(announce)
	if err != nil {
		return err
	}

	err = run.announce(ctx, config, true)
	if err == nil || run.life.Err() != nil {
		return err
	}

	_, dropped := g.step(event{kind: withdraw, run: run.number, why: err})

	if ctx.Err() != nil {
		return fmt.Errorf("%w (its entries are removed from etcd in the background)", err)
	}

	return errors.Join(err, closeAll(ctx, dropped))
}

// Begin begins the announcement of a server that is about to serve.
// [Run.Announce] continues it.
func (g *Group) Begin() (*Run, error) {
	return g.begin(serve)
}

func (g *Group) begin(on kind) (*Run, error) {
	g.registrar.mu.Lock()
	defer g.registrar.mu.Unlock()

	if why := context.Cause(g.registrar.life); why != nil {
		return nil, fmt.Errorf("etcd: announce: %w", why)
	}

	if _, err := g.core.step(event{kind: on}); err != nil {
		return nil, err
	}

	closed := func(reg *Registration) bool {
		return reg.handle.Status().State == lease.Closed
	}
	g.earlier = slices.DeleteFunc(append(g.earlier, g.registrations...), closed)

	g.registrar.groups[g] = struct{}{}
	g.registrations = nil
	g.config = RunConfig{}
	g.life, g.end = context.WithCancelCause(g.registrar.life)

	run := &Run{group: g, number: g.core.run, life: g.life}
	for _, e := range g.core.entries {
		run.made = append(run.made, &Registration{registrar: g.registrar, entry: e.Entry})
	}

	return run, nil
}

// Withdraw removes the entries from etcd, and returns when they and their
// companions are out. If ctx ends or 5 s pass first, the error names the
// entries that may remain. The group can be announced again, unless its server
// is ending.
func (g *Group) Withdraw(ctx context.Context) (err error) {
	_, dropped := g.step(event{kind: withdraw, why: errWithdrawn})
	err = closeAll(ctx, dropped)
	if err != nil {
		return err
	}

	g.with(func(c *core) {
		if c.phase == announced {
			err = errors.New(
				"etcd: withdraw: the server was announced again before the end of this call")
		}
	})

	return err
}

// End begins the shutdown of a serving server. From then on the health of its
// entries is ignored. Call Withdraw next, and Ended when the server has
// stopped.
func (g *Group) End() {
	g.step(event{kind: end, why: errEnding})
}

// Ended ends the group, whose server has stopped.
func (g *Group) Ended() {
	g.step(event{kind: drained, why: errEnding})
	g.registrar.companionsChanged.notify()
}

// step passes an event to the core, and carries out its effects. The caller
// carries out place and warn, and waits until the dropped registrations are out
// of etcd.
func (g *Group) step(e event) (do effects, dropped []*Registration) {
	g.with(func(c *core) {
		do, _ = c.step(e)

		// the entry may not be placed yet
		if do.pause && e.entry < len(g.registrations) {
			reg := g.registrations[e.entry]
			reg.problem = e.health.Problem

			// fails only once the registrar is closed
			_, _ = reg.handle.SetPaused(!e.health.OK)
		}

		if do.end {
			delete(g.registrar.groups, g)
			g.end(e.why) // before the entries are dropped: waiting callers return why
		}

		if do.drop {
			for _, reg := range g.registrations {
				g.registrar.drop(reg)
			}

			dropped = slices.Concat(g.earlier, g.registrations)
		}
	})

	if do.end {
		g.report()
	}

	return do, dropped
}

// report calls config.Report with the present state.
func (g *Group) report() {
	g.reporting.Lock()
	defer g.reporting.Unlock()

	report := func(bool) {}
	registered := false

	g.with(func(c *core) {
		if g.config.Report != nil {
			report = g.config.Report
			registered = g.life.Err() == nil && c.registered(g.states)
		}
	})

	report(registered)
}

// states yields the states of the last announcement's entries. It must be
// called with the registrar's lock held.
func (g *Group) states(yield func(lease.State) bool) {
	for _, reg := range g.registrations {
		if !yield(reg.handle.Status().State) {
			return
		}
	}
}

// closeAll waits until dropped registrations are out of etcd.
func closeAll(ctx context.Context, registrations []*Registration) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()

	var errs []error
	for _, reg := range registrations {
		if err := reg.Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("etcd: withdraw %q: %w", reg.Full(), err))
		}
	}

	return errors.Join(errs...)
}
