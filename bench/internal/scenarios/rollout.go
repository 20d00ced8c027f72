package scenarios

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
)

// marks is how many endpoints are added at once at the end of a scenario, so that their number
// tells that a connection has heard everything.
const marks = 100

var rolloutScenario = &Scenario{
	run: runRollout,
	Scenario: report.Scenario{
		Name: "rollout", Title: "rollout of 3,000 endpoints at full speed",
		About: "Each of 3,000 endpoints is replaced by a new one, as fast as etcd takes it: 6,000 changes. The figures are those of the process from the first change until all of its connections know the last one.",
		Peers: finders, Base: peerFloor,
		Metrics: []metric{
			{Name: "CPU ms", Ratio: true, Plot: true},
			{Name: "allocated MB", Ratio: true, Plot: true},
			{Name: "updates"},
		},
		Targets: []target{
			{Case: "1 connection", Metric: "CPU ms", Limit: 2, Of: []string{peerFloor}},
			{Case: "1 connection", Metric: "allocated MB", Limit: 24},
			{Case: "20 connections", Metric: "CPU ms", Limit: 2, Of: []string{peerFloor}},
		},
	},
}

// runRollout replaces all of 3,000 endpoints as fast as etcd goes.
func runRollout(ctx context.Context, b *bench) error {
	const size, limit = 3000, 2 * time.Second
	return b.follow(ctx, []int{1, 20}, size, limit, func(ctx context.Context, etcd *server, style style) (int, error) {
		return size, etcd.rollout(ctx, style, size, size, 0)
	})
}

// follow measures what connections spend on following changes, which change makes; it returns how
// many endpoints it has put. They know the last change by limit, or have missed it.
func (b *bench) follow(ctx context.Context, conns []int, size int, limit time.Duration, change func(context.Context, *server, style) (int, error)) error {
	etcd, err := startEtcd(b.dir)
	if err != nil {
		return err
	}
	defer etcd.close()
	for _, n := range conns {
		c := "1 connection"
		if n > 1 {
			c = fmt.Sprintf("%d connections", n)
		}
		err := b.each(ctx, finders, func(peer string, round int) error {
			if err := etcd.clear(ctx); err != nil {
				return err
			}
			p, err := b.ready(ctx, etcd, params{Role: "follow", Peer: peer, Key: serviceKey, Size: size, Final: size + marks, Conns: n, Limit: limit})
			if err != nil {
				return err
			}
			defer p.end()
			if err := p.tell(); err != nil {
				return err
			}
			style := styleOf(peer, serviceKey)
			put, err := change(ctx, etcd, style)
			if err != nil {
				return err
			}
			if err := putAll(ctx, etcd.client, style, size+put, size+put+marks); err != nil {
				return err
			}
			values, err := p.values(2 * limit)
			if err != nil {
				return err
			}
			b.record(c, peer, round, values)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func childFollow(c *child) (map[string]float64, error) {
	g, err := c.open()
	if err != nil {
		return nil, err
	}
	updates := 0
	g.mu.Lock()
	g.each = func(time.Time, int) { updates++ }
	g.mu.Unlock()
	arrived := g.expect(c.Final)
	runtime.GC()
	before := used()
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	_, ok := within(arrived, c.Limit)
	after := used()
	values := map[string]float64{
		"CPU ms":       ms(after.cpu - before.cpu),
		"allocated MB": float64(after.allocated-before.allocated) / 1e6,
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	values["updates"] = float64(updates)
	if !ok {
		values[cutShort] = 1
	}
	return values, nil
}
