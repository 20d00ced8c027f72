package registrar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/advertise"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/healthcheck"
)

// Announcement configures a Run.
type Announcement struct {
	Listen    string // the address listened on
	Advertise advertise.Config
	Methods   map[string][]string   // the methods of each service of the server, by service name
	Health    healthpb.HealthServer // entries are paused while their services are unhealthy there; nil makes all services healthy
	Problem   string                // why an existing health service is not in Health, "" if there is none
	Report    func(registered bool) // called at the start and at each possible change; registered: all entries are in etcd; may be nil
}

// Run is one announcement of a group, until the group is withdrawn. group.mu guards announced and health. The other fields are constant.
type Run struct {
	group     *Group
	life      context.Context // ends with the run or the registrar, with the reason as its cause
	end       context.CancelCauseFunc
	entries   []Entry
	announced Announcement
	health    []healthcheck.Health // of each of the entries
}

// Announce puts the entries of a serving server in etcd, in the background. If timeout is not 0, Announce returns
// when all healthy entries are there, and an error if that takes longer. It returns nil if ctx ends or the run is withdrawn first.
// After an error the entries are dropped.
func (run *Run) Announce(ctx context.Context, a Announcement, timeout time.Duration) error {
	bounded := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	err := run.announce(bounded, a, timeout > 0)
	if run.life.Err() != nil || ctx.Err() != nil {
		return nil
	}
	if err != nil {
		run.group.step(run, withdraw, err)
	}
	return err
}

// announce begins to put the entries in etcd and, if wait is set, waits until all healthy ones are there. After an error the caller
// must withdraw the run.
func (run *Run) announce(ctx context.Context, a Announcement, wait bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(run.life, func() { cancel(context.Cause(run.life)) })()
	registrations, err := run.start(ctx, a)
	for _, registration := range registrations {
		registration.logWarnings()
	}
	if err == nil && wait {
		err = synced(ctx, registrations)
	}
	run.group.report()
	if why := context.Cause(run.life); why != nil {
		return fmt.Errorf("etcd: announce: %w", why)
	}
	return err
}

// synced returns when all registrations are in etcd, or out of etcd if they are paused.
func synced(ctx context.Context, registrations []*Registration) error {
	for _, registration := range registrations {
		if err := registration.handle.Sync(ctx); err != nil {
			return fmt.Errorf("etcd: announce %q: %w", registration.Full(), err)
		}
	}
	return nil
}

// start begins to put the entries in etcd, and returns their registrations.
func (run *Run) start(ctx context.Context, a Announcement) ([]*Registration, error) {
	g := run.group
	g.mu.Lock()
	run.announced = a
	g.mu.Unlock()
	g.report()
	if len(run.entries) == 0 {
		g.Logger().Warn("a server has nothing to announce: register its services by the generated RegisterXxxServerToEtcd first")
		return run.register("")
	}
	addr, err := run.address(ctx, a)
	if err != nil {
		return nil, err
	}
	run.followHealth(ctx, a)
	for _, e := range run.entries {
		_, err := e.at(addr, time.Now(), a.Methods).complete().items("")
		if err = cmp.Or(err, context.Cause(ctx)); err != nil { // before any entry is registered
			return nil, fmt.Errorf("etcd: announce %q: %w", g.registrar.config.Namespace+e.Key, err)
		}
	}
	return run.register(addr)
}

// addressPause is the pause between attempts to find the address.
const addressPause = time.Second

// address finds the address to announce. It retries until the network is up and names can be looked up.
func (run *Run) address(ctx context.Context, a Announcement) (string, error) {
	for looks := 0; ; looks++ {
		addr, warning, err := a.Advertise.Address(ctx, a.Listen)
		if warning != "" {
			run.group.Logger().Warn("questionable address", "address", addr, "problem", warning)
		}
		if !errors.Is(err, advertise.ErrUnknown) {
			return addr, err
		}
		if looks == 0 {
			run.group.Logger().Warn("a server is not announced yet", "error", err)
		}
		select {
		case <-time.After(addressPause):
		case <-ctx.Done():
			return "", fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// followHealth follows the health of the entries until the run ends. It returns once their first health is known.
func (run *Run) followHealth(ctx context.Context, a Announcement) {
	groups := make([]healthcheck.Group, len(run.entries))
	for i, e := range run.entries {
		groups[i] = healthcheck.Group{Services: e.Services, Checked: e.Checked}
		if a.Health == nil {
			run.hear(i, healthcheck.Health{OK: true, Problem: a.Problem})
		}
	}
	if a.Health != nil {
		follower := healthcheck.Follow(ctx, a.Health, groups, run.hear)
		context.AfterFunc(run.life, follower.Stop)
	}
}

// hear handles a report of an entry's health.
func (run *Run) hear(entry int, h healthcheck.Health) {
	g := run.group
	var registration *Registration
	g.mu.Lock()
	if run.life.Err() == nil {
		run.health[entry] = h
		if entry < len(g.registrations) {
			registration = g.registrations[entry]
			registration.setProblem(h.Problem)
			_, _ = registration.handle.SetPaused(!h.OK) // fails only once the registrar is closed
		}
	}
	g.mu.Unlock()
	if registration != nil {
		registration.warnOfHealth()
	}
}

// register registers the entries. From then on, changes of their states are reported.
func (run *Run) register(addr string) ([]*Registration, error) {
	g := run.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if why := context.Cause(run.life); why != nil {
		return nil, why
	}
	started, a := time.Now(), run.announced
	for i, e := range run.entries {
		e = e.at(addr, started, a.Methods)
		e.health = a.Health
		if a.Advertise.EnvIsFullAddress() {
			e.listen = a.Listen
		}
		registration, err := g.registrar.start(e, !run.health[i].OK)
		if err != nil {
			return slices.Clone(g.registrations), fmt.Errorf("etcd: announce %q: %w", g.registrar.config.Namespace+e.Key, err)
		}
		registration.setProblem(run.health[i].Problem)
		g.registrations = append(g.registrations, registration)
	}
	g.registrar.watchedBy(run)
	return slices.Clone(g.registrations), nil
}
