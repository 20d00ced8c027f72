package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/healthcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

var (
	errWithdrawn = errors.New("the server was withdrawn meanwhile")
	errEnding    = errors.New("the server stops serving")
)

// Group is a set of entries that a server announces together. Its methods are safe for concurrent use.
type Group struct {
	registrar *Registrar
	pokes     chan struct{} // has a value when a state has changed

	mu            sync.Mutex
	core          core
	end           context.CancelCauseFunc // ends the last run; what follows is of that, too
	announced     Announcement
	follower      *healthcheck.Follower
	registrations []*Registration
	earlier       []*Registration // of the runs before, on their way out

	reporting sync.Mutex // serialises the calls of Report
}

// NewGroup returns a group without entries.
func (r *Registrar) NewGroup() *Group { return &Group{registrar: r, pokes: make(chan struct{}, 1)} }

// Publish adds an entry to be announced with the others. d has the details that the entry was made with.
func (g *Group) Publish(e Entry, d Details) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.core.publish(e, d)
}

// Fault handles an error of a method that cannot return it: the next Announce or Begin returns it, or it is logged if the
// group is announced already.
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

// Services returns the names of the published services.
func (g *Group) Services() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Concat(serviceNames(g.core.entries)...)
}

// Checked returns the names for which clients with health checks ask.
func (g *Group) Checked() (names []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.core.entries {
		names = append(names, e.Checked...)
	}
	return names
}

// Unshared returns the published services whose health at server no other announced group of the registrar follows.
func (g *Group) Unshared(server healthpb.HealthServer) []string {
	g.registrar.mu.Lock()
	listeners := slices.Collect(maps.Keys(g.registrar.listeners))
	g.registrar.mu.Unlock()
	services := g.Services()
	for _, l := range listeners {
		if other, ok := l.(*Group); ok && other != g && other.followsAt(server) {
			shared := other.Services()
			services = slices.DeleteFunc(services, func(service string) bool { return slices.Contains(shared, service) })
		}
	}
	return services
}

// followsAt reports whether the group is announced and follows its health at server.
func (g *Group) followsAt(server healthpb.HealthServer) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	same := reflect.ValueOf(server).Comparable() && g.announced.Health == server
	return same && g.core.live(g.core.round)
}

// Status returns the states of the entries of the last announcement, sorted by service key.
func (g *Group) Status() []lease.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return statuses(g.registrations)
}

// Elections is Registrar.Elections for the entries of the group. It returns an error if the group can announce none.
func (g *Group) Elections(key string) (all []*election.Election, changed <-chan struct{}, err error) {
	if err := g.Faults(); err != nil && g.Idle() { // later ones end no election that is under way
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

// Announce puts the entries in etcd, and returns when they are there, save those that are not healthy.
// Otherwise it returns an error, and takes out again what is in etcd by then, in the background if ctx has
// ended.
func (g *Group) Announce(ctx context.Context, a Announcement) error {
	run, err := g.begin(announce)
	if err != nil {
		return err
	}
	if err = run.start(ctx, a); err == nil {
		err = run.wait(ctx)
	}
	if err == nil {
		g.step(run, placed, nil)
		g.report()
		err = run.reason(nil)
	}
	if err == nil {
		return nil
	}
	left := g.step(run, failed, err)
	if ctx.Err() != nil {
		return fmt.Errorf("%w (what of it is in etcd is taken out behind this call)", err)
	}
	return errors.Join(err, closeAll(ctx, left))
}

// Begin begins the announcement of a server that is about to serve. [Run.Announce] goes on with it.
func (g *Group) Begin() (*Run, error) { return g.begin(serve) }

func (g *Group) begin(on event) (*Run, error) {
	run, err := g.open(on)
	if err == nil && run.round == 1 && len(g.Services()) == 0 {
		g.Logger().Warn("a server has nothing to announce: register its services by the generated RegisterXxxServerToEtcd before")
	}
	return run, err
}

// open opens a round.
func (g *Group) open(on event) (*Run, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := errors.Join(g.core.faults...); err != nil {
		return nil, err
	}
	if err := g.registrar.usable(); err != nil {
		return nil, fmt.Errorf("etcd: announce: %w", err)
	}
	if err := g.core.begin(on); err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	g.earlier = slices.DeleteFunc(slices.Concat(g.earlier, g.registrations), func(registration *Registration) bool {
		return registration.Status().State == lease.Closed
	})
	g.announced, g.follower, g.registrations = Announcement{}, nil, nil
	g.registrar.listen(g, true)
	run := &Run{group: g, round: g.core.round}
	run.life, g.end = context.WithCancelCause(context.Background())
	return run, nil
}

// given takes in what a run is to announce, and returns the entries.
func (g *Group) given(run *Run, a Announcement) ([]Entry, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if run.life.Err() == nil {
		g.announced = a
	}
	return slices.Clone(g.core.entries), context.Cause(run.life)
}

// follows takes in what follows the health of a run's entries. It reports false if the run is over.
func (g *Group) follows(run *Run, follower *healthcheck.Follower) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if run.life.Err() != nil {
		return false
	}
	g.follower = follower
	return true
}

// register registers the entries of a run, and begins to watch their states.
func (g *Group) register(run *Run, entries []Entry, addr string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := context.Cause(run.life); err != nil {
		return err
	}
	started := time.Now()
	for i, e := range entries {
		registration, err := g.registrar.start(e.at(addr, started, g.announced.Methods), g.core.paused(i))
		if err != nil {
			return fmt.Errorf("etcd: announce %q: %w", g.registrar.config.Namespace+e.Key, err)
		}
		registration.problem = g.core.health[i].Problem
		g.registrations = append(g.registrations, registration)
	}
	if err := g.registrar.background(func() { g.watch(run) }); err != nil {
		return err
	}
	g.poke()
	return nil
}

// watch reports changes of state until a run ends.
func (g *Group) watch(run *Run) {
	for run.life.Err() == nil {
		select {
		case <-run.life.Done():
		case <-g.pokes:
			g.report()
		}
	}
}

// started returns the registrations that a run has begun.
func (g *Group) started(run *Run) []*Registration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.core.round != run.round {
		return nil
	}
	return slices.Clone(g.registrations)
}

// hear takes in the health of an entry of a run.
func (g *Group) hear(run *Run, entry int, h healthcheck.Health) {
	var registration *Registration
	g.mu.Lock()
	if g.core.hear(run.round, entry, h) && entry < len(g.registrations) {
		registration = g.registrations[entry]
		_, _ = registration.setPaused(!h.OK) // an error: the registrar is closed
	}
	g.mu.Unlock()
	if registration != nil {
		registration.setProblem(h.Problem)
	}
}

// poke has the states looked at. It never blocks.
func (g *Group) poke() {
	select {
	case g.pokes <- struct{}{}:
	default:
	}
}

// close ends the last run, for the registrar closes.
func (g *Group) close() {
	g.step(nil, withdraw, ErrClosed)
}

// Withdraw takes the entries out of etcd, and returns when they are out. When ctx ends or 5 s have passed
// before, the error says what may be left. The group can be announced again, unless its server is ending.
func (g *Group) Withdraw(ctx context.Context) error {
	if err := closeAll(ctx, g.step(nil, withdraw, errWithdrawn)); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.core.live(g.core.round) {
		return errors.New("etcd: withdraw: the server was announced again meanwhile")
	}
	return nil
}

// End begins the end of a server that serves. The health of its entries does not matter any more. Call
// Withdraw next, and Ended when the server has stopped.
func (g *Group) End() { g.step(nil, end, errEnding) }

// Ended takes in that the server has stopped.
func (g *Group) Ended() {
	g.step(nil, drained, errEnding)
	g.registrar.mu.Lock()
	defer g.registrar.mu.Unlock()
	g.registrar.stands()
}

// step takes in an event of a run, or of the last one if run is nil, and carries the effects out. why is the cause if the
// event ends the run. It returns the registrations that are to be gone once the run is over.
func (g *Group) step(run *Run, on event, why error) (left []*Registration) {
	g.mu.Lock()
	round := g.core.round
	if run != nil {
		round = run.round
	}
	left = slices.Clone(g.earlier)
	if round == g.core.round {
		left = append(left, g.registrations...)
	}
	effects := g.core.stepRound(round, on)
	if effects&unfollow != 0 {
		g.end(why) // first, so that wait returns why
	}
	if effects&drop != 0 {
		for _, registration := range g.registrations {
			registration.Drop() // all at once, not one after the other
		}
	}
	follower := g.follower
	if !g.core.live(g.core.round) {
		g.registrar.listen(g, false)
	}
	g.mu.Unlock()
	if effects&unfollow != 0 {
		if follower != nil {
			follower.Stop() // waits for a report, which takes the lock
		}
		g.report()
	}
	return left
}

// report calls Report of the last run.
func (g *Group) report() {
	g.reporting.Lock()
	defer g.reporting.Unlock()
	g.mu.Lock()
	states := make([]lease.State, len(g.registrations))
	for i, registration := range g.registrations {
		states[i] = registration.Status().State
	}
	registered := g.core.observe(g.core.round, states)
	report := g.announced.Report
	g.mu.Unlock()
	if report != nil {
		report(registered)
	}
}
