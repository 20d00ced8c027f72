package scenarios

import (
	"context"
	"errors"
	"runtime"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
)

var coldScenario = &Scenario{
	run: runCold,
	Scenario: report.Scenario{
		Name: "cold", Title: "cold start",
		About: "From the start of the resolver to its first state, on an etcd client that is connected. Kept is what the heap holds afterwards; the floor keeps decoded values and nothing for gRPC.",
		Peers: finders, Base: peerFloor,
		Metrics: []metric{
			{Name: "time ms", Ratio: true, Plot: true},
			{Name: "CPU ms", Ratio: true},
			{Name: "allocated MB", Ratio: true, Plot: true},
			{Name: "kept MB", Ratio: true},
		},
		Targets: []target{
			{Case: "10,000 endpoints", Metric: "time ms", Limit: 1.2, Of: []string{peerFloor}, Reason: "the list comes in pages"},
			{Case: "10,000 endpoints", Metric: "allocated MB", Limit: 1.2, Of: []string{peerFloor}, Reason: "gRPC's form of each endpoint is in it"},
		},
	},
}

// runCold times how long a connection takes to know 10,000 endpoints, from a client that is
// connected already.
func runCold(ctx context.Context, b *bench) error {
	etcd, err := startEtcd(b.dir)
	if err != nil {
		return err
	}
	defer etcd.close()
	return b.measure(ctx, "10,000 endpoints", finders, func(peer string) (map[string]float64, error) {
		return b.finished(ctx, etcd, params{Role: "cold", Peer: peer, Key: serviceKey, Size: 10_000, Conns: 1})
	})
}

func childCold(c *child) (map[string]float64, error) {
	open, err := c.warmOpener()
	if err != nil {
		return nil, err
	}
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	held := live()
	g := &group{}
	arrived := g.expect(c.Size)
	before := used()
	if err := open(g, c.Conns); err != nil {
		return nil, err
	}
	if _, ok := within(arrived, patience); !ok {
		return nil, errors.New("not all endpoints arrived")
	}
	after := used()
	values := map[string]float64{
		"time ms":      ms(after.at.Sub(before.at)),
		"CPU ms":       ms(after.cpu - before.cpu),
		"allocated MB": float64(after.allocated-before.allocated) / 1e6,
		"kept MB":      (live() - held) / 1e6,
	}
	runtime.KeepAlive(g)
	return values, nil
}
