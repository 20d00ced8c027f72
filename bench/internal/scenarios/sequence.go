package scenarios

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

var sequenceScenario = &Scenario{
	run: runSequence,
	Scenario: report.Scenario{
		Name: "sequence", Title: "one change upon another",
		About: "An endpoint is added or removed as soon as the change before it has arrived: 10,000 times, or 300 for the others. The time is as above, and the write is by another etcd client of the same process.",
		Peers: sequencePeers, Base: peerFloor,
		Metrics: []metric{
			{Name: "p50 µs", Ratio: true, Plot: true},
			{Name: "p90 µs", Ratio: true},
			{Name: "p99 µs", Ratio: true},
			{Name: "CPU µs a change", Ratio: true},
		},
		Targets: []target{
			{Case: "10 endpoints", Metric: "p50 µs", Limit: 2, Of: []string{peerFloor}},
			{Case: "100 endpoints", Metric: "p50 µs", Limit: 2, Of: []string{peerFloor}},
			{Case: "1000 endpoints", Metric: "p50 µs", Limit: 3, Of: []string{peerFloor}},
			{Case: "10 endpoints", Metric: "p99 µs", Limit: 3, Of: []string{peerFloor}},
			{Case: "1000 endpoints", Metric: "p99 µs", Limit: 3, Of: []string{peerFloor}},
			{Case: "1000 endpoints", Metric: "p50 µs", Ahead: true, Of: []string{peerEtcd}},
		},
	},
}

// sequencePeers are the finders, and this project as its parts are used alone.
var sequencePeers = append(slices.Clone(finders), peerBare, peerWatch)

// runSequence times changes of which each is made when the one before it has arrived.
func runSequence(ctx context.Context, b *bench) error {
	etcd, err := startEtcd(b.dir)
	if err != nil {
		return err
	}
	defer etcd.close()
	for _, size := range []int{10, 100, 1000} {
		err := b.measure(ctx, fmt.Sprintf("%d endpoints", size), sequencePeers, func(peer string) (map[string]float64, error) {
			changes := 10_000
			if peer == peerEtcd || peer == peerGoZero { // which hold back nothing
				changes = 300
			}
			return b.finished(ctx, etcd, params{Role: "sequence", Peer: peer, Key: serviceKey, Size: size, Conns: 1, Changes: changes})
		})
		if err != nil {
			return fmt.Errorf("%d endpoints: %w", size, err)
		}
	}
	return nil
}

func childSequence(c *child) (map[string]float64, error) {
	g, err := c.openProbed()
	if err != nil {
		return nil, err
	}
	writer, err := c.client()
	if err != nil {
		return nil, err
	}
	defer writer.Close()
	if _, err := writer.Get(context.Background(), "bench/warm/"); err != nil {
		return nil, err
	}
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	changer := &changer{client: writer, style: styleOf(c.Peer, c.Key), size: c.Size}
	took := make([]float64, c.Changes)
	before := used()
	for i := range took {
		want := c.Size
		if !changer.added {
			want++
		}
		arrived, sent := g.expect(want), time.Now()
		if err := changer.change(context.Background()); err != nil {
			return nil, err
		}
		at, ok := within(arrived, patience)
		if !ok {
			return nil, fmt.Errorf("change %d did not arrive within %v", i, patience)
		}
		took[i] = us(at.Sub(sent))
	}
	cpu := used().cpu - before.cpu
	slices.Sort(took)
	return map[string]float64{
		"p50 µs": results.Percentile(took, 50), "p90 µs": results.Percentile(took, 90),
		"p99 µs":          results.Percentile(took, 99),
		"CPU µs a change": us(cpu) / float64(len(took)),
	}, nil
}
