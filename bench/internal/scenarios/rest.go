package scenarios

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
)

const (
	restKeys      = 100
	restEndpoints = 100         // of each key
	restMeasured  = time.Minute // of rest
)

// calming is how long after its start a process is left alone before it counts as at rest: this project probes each of its ranges
// soon after the start, and then more rarely.
const calming = 65 * time.Second

var restScenario = &Scenario{
	run: runRest, Extra: true,
	Scenario: report.Scenario{
		Name: "rest", Title: "100 keys of 100 endpoints at rest",
		About: "A connection to each of 100 keys, on one etcd client. Nothing changes for two minutes, of which the second counts. Messages are all that etcd receives. Each run has an etcd of its own.",
		Peers: finders, Base: peerFloor,
		Metrics: []metric{{Name: "messages a minute", Plot: true}, {Name: "CPU ms a minute"}, {Name: "etcd CPU ms a minute"}, {Name: "kept MB", Ratio: true}},
		Targets: []target{{Metric: "messages a minute", Limit: 60}},
	},
}

// runRest has all peers of all rounds rest at the same time: they do little but wait.
func runRest(ctx context.Context, b *bench) error {
	var all []*resting
	defer func() {
		for _, r := range all {
			r.end()
		}
	}()
	for round := range b.Rounds {
		started, err := b.startResting(ctx, round)
		all = append(all, started...)
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	if err := sleep(ctx, calming); err != nil {
		return err
	}
	values, measured := make([]map[string]float64, len(all)), new(errgroup.Group)
	for i, r := range all {
		measured.Go(func() (err error) {
			if values[i], err = restOf(ctx, r.proc, r.etcd); err != nil {
				err = fmt.Errorf("%s, round %d: %w", r.peer, r.round, err)
			}
			return err
		})
	}
	if err := measured.Wait(); err != nil {
		return err
	}
	for i, r := range all {
		b.record("", r.peer, r.round, values[i])
	}
	return nil
}

// resting is a peer that rests on an etcd of its own.
type resting struct {
	peer  string
	round int
	etcd  *counted
	proc  *proc
}

func (r *resting) end() {
	if r.proc != nil {
		r.proc.end()
	}
	if r.etcd != nil {
		r.etcd.close()
	}
}

// startResting starts the peers of a round, all at once. Those that it returns are to be ended, after an error, too.
func (b *bench) startResting(ctx context.Context, round int) ([]*resting, error) {
	var starting errgroup.Group
	var started []*resting
	for _, peer := range finders {
		r := &resting{peer: peer, round: round}
		started = append(started, r)
		starting.Go(func() error {
			if err := b.rest(ctx, r); err != nil {
				return fmt.Errorf("%s: %w", peer, err)
			}
			return nil
		})
	}
	return started, starting.Wait()
}

// rest starts a peer on an etcd of its own.
func (b *bench) rest(ctx context.Context, r *resting) (err error) {
	r.etcd, err = b.startCounted(filepath.Join(b.dir, fmt.Sprintf("rest-%d-%s", r.round, report.Slug(r.peer))), false)
	if err != nil {
		return err
	}
	for i := range restKeys {
		if err := putAll(ctx, r.etcd.client, styleOf(r.peer, keyOf(i)), 0, restEndpoints); err != nil {
			return err
		}
	}
	r.proc, err = b.spawnTo(params{
		Role: "rest", Peer: r.peer, Endpoints: []string{r.etcd.endpoint}, Size: restEndpoints, Conns: restKeys,
	}, "ready", 2*patience)
	return err
}

// restOf returns what a process and its etcd do in a minute.
func restOf(ctx context.Context, p *proc, etcd *counted) (map[string]float64, error) {
	if err := p.tell(); err != nil {
		return nil, err
	}
	if err := p.await("resting", patience); err != nil {
		return nil, err
	}
	before, err := etcd.stats()
	if err != nil {
		return nil, err
	}
	if err := sleep(ctx, restMeasured); err != nil {
		return nil, err
	}
	after, err := etcd.stats()
	if err != nil {
		return nil, err
	}
	values, err := p.finish(patience)
	if err != nil {
		return nil, err
	}
	values["messages a minute"] = after["messages"] - before["messages"]
	values["etcd CPU ms a minute"] = (after["cpu"] - before["cpu"]) * 1e3
	return values, nil
}

func childRest(c *child) (map[string]float64, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	if err := warm(c.Peer, client); err != nil {
		return nil, err
	}
	openerOf, err := openersOf(c.Peer, client)
	if err != nil {
		return nil, err
	}
	held, groups := live(), make([]*group, c.Conns)
	for i := range groups {
		groups[i] = &group{}
		if err := openerOf(keyOf(i))(groups[i], 1); err != nil {
			return nil, err
		}
	}
	for i, g := range groups {
		if _, ok := within(g.expect(c.Size), patience); !ok {
			return nil, fmt.Errorf("not all endpoints of key %d arrived", i)
		}
	}
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	kept, before := live()-held, used()
	if err := c.meet("resting"); err != nil {
		return nil, err
	}
	after := used()
	runtime.KeepAlive(groups)
	return map[string]float64{
		"CPU ms a minute": ms(after.cpu - before.cpu),
		"kept MB":         kept / 1e6,
	}, nil
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
