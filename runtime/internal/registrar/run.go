package registrar

import (
	"context"
	"errors"
	"fmt"
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
	Problem   string                // why Health is nil though there is a health service; "": there is none
	Report    func(registered bool) // called with whether all entries are in etcd, at first and when that may have changed; may be nil
}

// Run names one announcement of a group, until it is withdrawn. Once there is a later one, its methods change nothing.
type Run struct {
	group *Group
	round int
	life  context.Context // ends with the run; its cause says why
}

// Announce puts the entries of a server that serves in etcd, in the background. If within is not 0, it returns when they
// are there, save those that are not healthy, and it is an error if they are not by then. It returns nil if ctx or a
// Withdraw ends it, and has taken everything out of etcd after an error.
func (run *Run) Announce(ctx context.Context, a Announcement, within time.Duration) error {
	bounded := ctx
	if within > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, within)
		defer cancel()
	}
	err := run.start(bounded, a)
	if err == nil && within > 0 {
		err = run.wait(bounded)
	}
	if run.life.Err() != nil || ctx.Err() != nil {
		return nil
	}
	if err != nil {
		run.Abandon(err)
	}
	if errors.Is(err, ErrClosed) {
		return nil // meanwhile, and the group has yet to hear of it
	}
	return err
}

// start begins to put the entries in etcd, and does not wait for them. After an error call Abandon.
func (run *Run) start(ctx context.Context, a Announcement) error {
	ctx, done := run.within(ctx)
	defer done()
	g := run.group
	entries, err := g.given(run, a)
	if err != nil {
		return run.reason(err)
	}
	g.report()
	if len(entries) == 0 {
		return run.reason(g.register(run, nil, ""))
	}
	addr, warning, err := run.address(ctx, a)
	if err != nil {
		return run.reason(err)
	}
	if warning != "" {
		g.Logger().Warn("questionable address", "address", addr, "problem", warning)
	}
	for _, e := range entries { // before ctx counts: what can never be announced is no matter of time
		e.Endpoint.Addr = addr
		if _, err := e.complete().items(""); err != nil {
			return run.reason(fmt.Errorf("etcd: announce %q: %w", g.registrar.config.Namespace+e.Key, err))
		}
	}
	run.follow(ctx, a, entries)
	if err := context.Cause(ctx); err != nil {
		return run.reason(fmt.Errorf("etcd: announce %q: %w", g.registrar.config.Namespace+entries[0].Key, err))
	}
	if a.Advertise.Speaks() {
		for i := range entries {
			entries[i].listen = a.Listen
		}
	}
	err = g.register(run, entries, addr)
	for _, registration := range g.started(run) {
		registration.begun()
	}
	return run.reason(err)
}

// addressPause is the pause between two looks for the address.
const addressPause = time.Second

// address finds the address to announce, if need be once the network is up and names can be looked up.
func (run *Run) address(ctx context.Context, a Announcement) (addr, warning string, err error) {
	for looks := 0; ; looks++ {
		addr, warning, err = a.Advertise.Address(ctx, a.Listen)
		if !errors.Is(err, advertise.ErrUnknown) {
			return addr, warning, err
		}
		if looks == 0 {
			run.group.Logger().Warn("a server is not announced yet", "services", run.group.Services(), "error", err)
		}
		select {
		case <-time.After(addressPause):
		case <-ctx.Done():
			return "", "", fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
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

// follow starts following the health of the entries. When it returns, the group has their first health.
func (run *Run) follow(ctx context.Context, a Announcement, entries []Entry) {
	hear := func(entry int, h healthcheck.Health) { run.group.hear(run, entry, h) }
	groups := make([]healthcheck.Group, len(entries))
	for i, e := range entries {
		groups[i] = healthcheck.Group{Services: e.Services, Checked: e.Checked}
		if a.Health == nil {
			hear(i, healthcheck.Health{OK: true, Problem: a.Problem})
		}
	}
	if a.Health == nil {
		return
	}
	follower := healthcheck.Follow(ctx, a.Health, groups, hear)
	if !run.group.follows(run, follower) {
		follower.Stop() // nobody else does
	}
}

// wait returns when the entries are in etcd, save those that are not healthy. It returns an error when that
// cannot be, when ctx ends, or when the run does.
func (run *Run) wait(ctx context.Context) error {
	ctx, done := run.within(ctx)
	defer done()
	for _, registration := range run.group.started(run) {
		if err := registration.handle.Sync(ctx); err != nil {
			return run.reason(fmt.Errorf("etcd: announce %q: %w", registration.Full(), err))
		}
	}
	return run.reason(nil)
}

// reason returns what ended the run, or err if it goes on.
func (run *Run) reason(err error) error {
	if why := context.Cause(run.life); why != nil {
		return fmt.Errorf("etcd: announce: %w", why)
	}
	return err
}

// Abandon ends a run that cannot be announced. Its entries are taken out of etcd in the background.
func (run *Run) Abandon(why error) { run.group.step(run, failed, why) }

// closeAll returns when registrations that were dropped are out of etcd.
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
