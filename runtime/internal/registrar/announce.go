package registrar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/advertise"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/healthcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// RunConfig configures a Run.
type RunConfig struct {
	Listen    string // the address listened on
	Advertise advertise.Config

	// the methods of each service of the server, by service name
	Methods map[string][]string

	// entries are paused while their services are unhealthy there; nil makes
	// all services healthy
	Health healthpb.HealthServer

	// why an existing health service is not in Health, "" if there is none
	Problem string

	// called at the start and at each possible change of whether all entries
	// are in etcd; may be nil
	Report func(registered bool)
}

// Run is one announcement of a group. Its fields do not change. Until a
// registration is placed, only the run uses it.
type Run struct {
	group  *Group
	number int // the core's number of the announcement

	// ends with the announcement or the registrar, with the reason as its cause
	life context.Context

	made []*Registration // one for each published entry
}

// Announce puts the entries of a serving server in etcd, in the background. If
// timeout is not 0, Announce returns when all healthy entries are there, and an
// error if that takes longer. It returns nil if ctx or the run ends first.
// After an error the entries are dropped.
func (run *Run) Announce(
	ctx context.Context,
	config RunConfig,
	timeout time.Duration,
) error {
	bounded := ctx

	if timeout > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}

	err := run.announce(bounded, config, timeout > 0)

	if run.life.Err() != nil || ctx.Err() != nil {
		return nil
	}

	if err != nil {
		run.group.step(event{kind: withdraw, run: run.number, why: err})
	}

	return err
}

// announce begins to put the entries in etcd and, if wait is set, waits until
// all healthy ones are there. After an error the caller must withdraw the run.
func (run *Run) announce(ctx context.Context, config RunConfig, wait bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	stop := context.AfterFunc(run.life, func() { cancel(context.Cause(run.life)) })
	defer stop()

	run.group.with(func(c *core) {
		if c.run == run.number {
			run.group.config = config
		}
	})

	run.group.report()

	err := run.prepare(ctx, config)
	if err == nil && wait {
		err = run.sync(ctx)
	}

	run.group.report()

	if why := context.Cause(run.life); why != nil {
		return fmt.Errorf("etcd: announce: %w", why)
	}

	return err
}

// sync waits until all healthy entries are in etcd.
func (run *Run) sync(ctx context.Context) error {
	for _, reg := range run.made {
		if err := reg.handle.Sync(ctx); err != nil {
			return reg.announceErr(err)
		}
	}

	return nil
}

// announceErr adds the key to an error of an announcement, which may be nil.
func (reg *Registration) announceErr(err error) error {
	if err == nil {
		return nil
	}

	return fmt.Errorf("etcd: announce %q: %w", reg.Full(), err)
}

// prepare finds the address and the first health of the entries, makes their
// companions, and places the entries. After an error it closes the companions
// of entries that it has not placed.
func (run *Run) prepare(ctx context.Context, config RunConfig) error {
	if len(run.made) == 0 {
		run.group.Logger().Warn(
			"a server has nothing to announce: register its services by the generated RegisterXxxServerToEtcd first")
		return run.place(nil)
	}

	addr, err := run.address(ctx, config)
	if err != nil {
		return err
	}

	run.followHealth(ctx, config)

	defer run.closeUnplaced()

	started := time.Now()
	items := make([][]lease.Item, len(run.made))

	// all entries are complete before the first one is placed
	for i, reg := range run.made {
		items[i], err = reg.complete(ctx, config, addr, started)
		if err != nil {
			return reg.announceErr(err)
		}
	}

	return run.place(items)
}

// complete gives the entry its address, and makes its companion.
func (reg *Registration) complete(
	ctx context.Context,
	config RunConfig,
	addr string,
	started time.Time,
) (items []lease.Item, err error) {
	if config.Advertise.EnvIsFullAddress() {
		reg.entry.listen = config.Listen
	}

	r := reg.registrar
	reg.entry, items, err = reg.entry.at(addr, started, config.Methods,
		r.config.Namespace)
	err = cmp.Or(err, context.Cause(ctx))

	if err == nil && reg.entry.Companion != nil {
		reg.companion, err = reg.entry.Companion(reg.entry, r.companionsChanged.notify)
	}

	if err == nil {
		r.warn(reg.entry)
	}

	return items, err
}

// closeUnplaced closes the companions of entries that were not placed. They
// have nothing in etcd.
func (run *Run) closeUnplaced() {
	for _, reg := range run.made {
		if reg.companion != nil && reg.handle == nil {
			_ = reg.companion.Close(context.Background())
		}
	}
}

// place passes the entries to the registrar, each paused if it is unhealthy.
// From then on, changes of their states are reported.
func (run *Run) place(items [][]lease.Item) (err error) {
	g := run.group
	g.with(func(c *core) {
		do, _ := c.step(event{kind: located, run: run.number})
		if !do.place {
			err = context.Cause(run.life) // the run has ended
			return
		}

		context.AfterFunc(run.life, g.report)

		for i, reg := range run.made {
			health := c.entries[i].health
			reg.problem = health.Problem

			err = reg.announceErr(g.registrar.place(reg, items[i], !health.OK))
			if err != nil {
				return
			}

			g.registrations = append(g.registrations, reg)
		}
	})

	return err
}

// addressPause is the pause between attempts to find the address.
const addressPause = time.Second

// address finds the address to announce. It retries until the network is up,
// names can be looked up, and this host has an address in the given network.
func (run *Run) address(ctx context.Context, config RunConfig) (string, error) {
	for attempt := 1; ; attempt++ {
		addr, warning, err := config.Advertise.Address(ctx, config.Listen)
		if warning != "" {
			run.group.Logger().Warn("questionable address", "address", addr, "problem",
				warning)
		}

		if !errors.Is(err, advertise.ErrUnknown) {
			return addr, err
		}

		if attempt == 1 {
			run.group.Logger().Warn("a server is not announced yet", "error", err)
		}

		select {
		case <-time.After(addressPause):
		case <-ctx.Done():
			return "", fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// followHealth follows the health of the entries until the run ends. It returns
// once their first health is known.
func (run *Run) followHealth(ctx context.Context, config RunConfig) {
	if config.Health == nil {
		for i := range run.made {
			run.hear(i, healthcheck.Health{OK: true, Problem: config.Problem})
		}

		return
	}

	var groups []healthcheck.Group
	for _, reg := range run.made {
		groups = append(groups, healthcheck.Group{
			Services: reg.entry.Services,
			Checked:  reg.entry.Checked,
		})
	}

	follower := healthcheck.Follow(ctx, config.Health, groups, run.hear)
	context.AfterFunc(run.life, follower.Stop)
}

// hear handles a report of an entry's health.
func (run *Run) hear(entry int, h healthcheck.Health) {
	do, _ := run.group.step(event{kind: heard, run: run.number, entry: entry, health: h})
	if do.warn != "" {
		run.group.Logger().Warn("questionable health service", "key",
			run.group.registrar.config.Namespace+do.warn, "problem", h.Problem)
	}
}
