package scenarios

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// awayBound is the time after which a call counts as one that never returns, or never works.
const awayBound = 10 * time.Second

var awayScenario = &Scenario{
	run: runAway,
	Scenario: report.Scenario{
		Name: "away", Title: "the first call while etcd is away",
		About:   fmt.Sprintf("With a deadline of 2 s. etcd comes back when the call has returned; then calls are made until one works. *Never* means not within %v, for either.", awayBound),
		Peers:   etcdCallers,
		Metrics: []metric{{Name: "first call returns, s", Plot: true}, {Name: "works after, s", Plot: true}},
		Targets: []target{
			{Metric: "first call returns, s", Limit: 2.05},
			{Metric: "works after, s", Limit: 1},
		},
	},
}

// runAway makes the first call while etcd is away, with a deadline of 2 s, and brings etcd back when
// the call has returned.
func runAway(ctx context.Context, b *bench) error {
	backends, err := serve(1)
	if err != nil {
		return err
	}
	return b.atOnce(ctx, etcdCallers, func(peer string, cluster *etcdtest.Cluster) (map[string]float64, error) {
		if err := putBackends(ctx, cluster.Admin(), peer, backends); err != nil {
			return nil, err
		}
		cluster.Cut()
		p, err := b.spawnTo(params{Role: "away", Peer: peer, Endpoints: cluster.Endpoints(), Limit: awayBound}, "returned", 2*patience)
		if err != nil {
			return nil, err
		}
		defer p.end()
		cluster.Restore()
		return p.finish(patience)
	})
}

func childAway(c *child) (map[string]float64, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	dial, err := roundRobinOf(c.Peer, client, nil)
	if err != nil {
		return nil, err
	}
	conn, err := dial(backendsKey(c.Peer))
	if err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	began := time.Now()
	returned := make(chan time.Time, 1)
	go func() {
		_ = call(conn, 2*time.Second) // it fails, sooner or later
		returned <- time.Now()
	}()
	values["first call returns, s"] = since(began, returned, c.Limit)
	if err := c.meet("returned"); err != nil {
		return nil, err
	}
	began = time.Now()
	worked := make(chan time.Time, 1)
	go func() {
		for call(conn, 2*time.Second) != nil {
			time.Sleep(10 * time.Millisecond)
		}
		worked <- time.Now()
	}()
	values["works after, s"] = since(began, worked, c.Limit)
	return values, nil
}

// since is how many seconds after began something happened, if it did within the limit.
func since(began time.Time, happened <-chan time.Time, limit time.Duration) float64 {
	if at, ok := within(happened, limit); ok {
		return at.Sub(began).Seconds()
	}
	return never
}

// call makes one call with a deadline.
func call(conn *grpc.ClientConn, deadline time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return check(ctx, conn)
}
