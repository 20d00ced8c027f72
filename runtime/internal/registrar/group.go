package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

var (
	errWithdrawn = errors.New("the server was withdrawn meanwhile")
	errEnding    = errors.New("the server stops serving")
)

// Group is a set of entries that a server announces together. Its methods are safe for concurrent use.
type Group struct {
	registrar *Registrar

	mu   sync.Mutex
	core core
	run  *Run // the last one; nil before the first

	since    time.Time   // of the first call that leaves something to announce
	reminder *time.Timer // runs from then until it is announced; the registrar stops it, too

	reporting sync.Mutex // serialises the calls of Report
}

// NewGroup returns a group without entries.
func (r *Registrar) NewGroup() *Group { return &Group{registrar: r} }

// Publish adds an entry to be announced with the others. d has the details that the entry was made with.
func (g *Group) Publish(e Entry, d Details) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.noted()
	return g.core.publish(e, d)
}

// Fault records an error of a method that cannot return it. Announce and Begin return it.
func (g *Group) Fault(err error) {
	g.mu.Lock()
	late := g.core.fault(err)
	g.noted()
	g.mu.Unlock()
	if late {
		g.Logger().Error("misuse of an etcd server", "error", err)
	}
}

// noted has the registrar know whether the group has something to tell, and begins to wait for an announcement. It must be
// called with mu held.
func (g *Group) noted() {
	if g.since.IsZero() {
		g.since = time.Now()
	}
	noted := g.registrar.note(g, len(g.core.unregistered()) > 0)
	if noted && g.reminder == nil && g.core.phase == idle {
		g.reminder = time.AfterFunc(remindAfter, g.remind)
	}
}

// remind logs that nobody has announced what was published.
func (g *Group) remind() {
	g.mu.Lock()
	services, err := slices.Concat(g.core.services()...), g.core.unannounced()
	g.mu.Unlock()
	if err != nil {
		g.Logger().Warn("a server is not announced", "services", services, "error", err)
	}
}

// stopReminding has the group wait for no announcement, for there is one, or there will be none.
func (g *Group) stopReminding() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reminder != nil {
		g.reminder.Stop()
	}
}

// Unregistered returns what somebody may look for in etcd though nothing puts it there: what is not announced yet, or came
// too late for that.
func (g *Group) Unregistered() []lease.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.unregistered()
}

func (g *Group) unregistered() []lease.Status {
	all := g.core.unregistered()
	for i := range all {
		all[i].Since = g.since
	}
	return all
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

// Services returns the names of the published services.
func (g *Group) Services() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Concat(g.core.services()...)
}

// Status returns the states of the entries of the last announcement and what Unregistered does, sorted by service key.
func (g *Group) Status() []lease.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	var registrations []*Registration
	if g.run != nil {
		registrations = g.run.registrations
	}
	return statuses(registrations, g.unregistered())
}

// Announce puts the entries in etcd, and returns when they are there, save those that are not healthy.
// Otherwise it returns an error, and takes out again what is in etcd by then, in the background if ctx has
// ended.
func (g *Group) Announce(ctx context.Context, a Announcement) error {
	run, err := g.begin(announce)
	if err != nil {
		return err
	}
	if err = run.Start(ctx, a); err == nil {
		err = run.Wait(ctx)
	}
	if err == nil {
		err = run.placed()
	}
	if err == nil {
		return nil
	}
	run.Abandon(err)
	if ctx.Err() != nil {
		return fmt.Errorf("%w (what of it is in etcd is taken out behind this call)", err)
	}
	return errors.Join(err, run.waitGone(ctx))
}

// Begin begins the announcement of a server that is about to serve. [Run.Start] goes on with it.
func (g *Group) Begin() (*Run, error) { return g.begin(serve) }

func (g *Group) begin(on event) (*Run, error) {
	g.stopReminding()
	run, err := g.open(on)
	if err == nil && run.round == 1 && len(g.Services()) == 0 {
		g.Logger().Warn("a server has nothing to announce", "error", errNothing)
	}
	return run, err
}

// open opens a round.
func (g *Group) open(on event) (*Run, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.noted()
	if err := errors.Join(g.core.faults...); err != nil {
		return nil, err
	}
	if err := g.core.begin(on); err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	run := &Run{group: g, round: g.core.round, pokes: make(chan struct{}, 1)}
	run.life, run.end = context.WithCancelCause(context.Background())
	if g.run != nil {
		run.earlier = slices.DeleteFunc(slices.Concat(g.run.earlier, g.run.registrations), func(registration *Registration) bool {
			return registration.Status().State == lease.Closed
		})
	}
	g.run = run
	return run, nil
}

// Withdraw takes the entries out of etcd, and returns when they are out. When ctx ends or 5 s have passed
// before, the error says what may be left. The group can be announced again, unless its server is ending.
func (g *Group) Withdraw(ctx context.Context) error {
	run := g.step(withdraw, errWithdrawn)
	if run == nil {
		return nil
	}
	if err := run.waitGone(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.run != run {
		return errors.New("etcd: withdraw: the server was announced again meanwhile")
	}
	return nil
}

// End begins the end of a server that serves. The health of its entries does not matter any more. Call
// Withdraw next, and Ended when the server has stopped.
func (g *Group) End() { g.step(end, errEnding) }

// Ended takes in that the server has stopped.
func (g *Group) Ended() {
	g.step(drained, errEnding)
	g.registrar.mu.Lock()
	defer g.registrar.mu.Unlock()
	g.registrar.stands()
}

// step takes in an event of the last run, and returns that run, nil if there is none. why is the cause if the
// event ends the run.
func (g *Group) step(on event, why error) *Run {
	g.mu.Lock()
	run := g.run
	if run == nil {
		g.mu.Unlock()
		return nil
	}
	after := run.carryOut(g.core.step(on), why)
	g.noted()
	g.mu.Unlock()
	after()
	return run
}

// report calls Report of a run, unless there is a later run.
func (g *Group) report(run *Run) {
	g.reporting.Lock()
	defer g.reporting.Unlock()
	g.mu.Lock()
	states := make([]lease.State, len(run.registrations))
	for i, registration := range run.registrations {
		states[i] = registration.Status().State
	}
	registered := g.core.observe(run.round, states)
	superseded := g.run != run
	report := run.given.Report
	g.mu.Unlock()
	if report != nil && !superseded {
		report(registered)
	}
}
