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

// calming is how long after its start a process is left alone before it counts as at rest: this project asks a
// watch for signs of life more and more rarely, until each half a minute.
const calming = 65 * time.Second

var restScenario = &Scenario{
	run: runRest, Extra: true,
	Scenario: report.Scenario{
		Name: "rest", Title: "100 keys of 100 endpoints at rest",
		About: "A connection to each of 100 keys, on one etcd client. Nothing changes for two minutes, of which the second counts. Messages are all that etcd receives, whatever they ask for. Each peer has an etcd of its own, and all rest at the same time.",
		Peers: finders, Base: peerFloor,
		Metrics: []metric{{Name: "messages a minute", Plot: true}, {Name: "CPU ms a minute"}, {Name: "etcd CPU ms a minute"}, {Name: "kept MB", Ratio: true}},
		Targets: []target{{Metric: "messages a minute", Limit: 4}},
	},
}

func runRest(ctx context.Context, b *bench) error {
	for round := range b.Rounds {
		resting, values := new(errgroup.Group), make([]map[string]float64, len(finders))
		for i, peer := range finders {
			resting.Go(func() (err error) {
				if values[i], err = b.rest(ctx, peer, round); err != nil {
					return fmt.Errorf("%s, round %d: %w", peer, round, err)
				}
				return nil
			})
		}
		if err := resting.Wait(); err != nil {
			return err
		}
		for i, peer := range finders {
			b.record("", peer, round, values[i])
		}
	}
	return nil
}

// rest lets a peer rest on an etcd of its own.
func (b *bench) rest(ctx context.Context, peer string, round int) (map[string]float64, error) {
	etcd, err := b.startCounted(filepath.Join(b.dir, fmt.Sprintf("rest-%d-%s", round, report.Slug(peer))), false)
	if err != nil {
		return nil, err
	}
	defer etcd.close()
	for i := range restKeys {
		if err := putAll(ctx, etcd.client, styleOf(peer, keyOf(i)), 0, restEndpoints); err != nil {
			return nil, err
		}
	}
	p, err := b.spawnTo(params{Role: "rest", Peer: peer, Endpoints: []string{etcd.endpoint}, Size: restEndpoints, Conns: restKeys}, "ready", 2*patience)
	if err != nil {
		return nil, err
	}
	defer p.end()
	if err := sleep(ctx, calming); err != nil {
		return nil, err
	}
	return restOf(ctx, p, etcd)
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
