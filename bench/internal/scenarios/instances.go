package scenarios

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
	etcdrpc "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// peersOfInstances call every instance: by one Instances, and by a connection kept for each.
var peersOfInstances = []string{peerStatic, peerOurs}

// instancesTurns is how many turns each of them has.
const instancesTurns = 40

var instancesScenario = &Scenario{
	run: runInstances,
	Scenario: report.Scenario{
		Name: "instances", Title: "a call to each of 3 instances",
		About: "Health checks of three connected instances at once: by `runtime.Each`, and by a connection that is kept for each of them (static). The two take turns of 100 rounds.",
		Peers: peersOfInstances, Base: peerStatic,
		Metrics: []metric{
			{Name: "µs a round", Ratio: true, Plot: true},
			{Name: "KB a round", Ratio: true},
			{Name: "allocations a round", Ratio: true},
		},
		Targets: []target{{Case: "3 instances", Metric: "µs a round", Limit: 1.5, Of: []string{peerStatic}}},
	},
}

// runInstances compares a call to each of three instances with calls by three kept connections.
func runInstances(ctx context.Context, b *bench) error {
	return b.inTurns(ctx, "instances", "3 instances", peersOfInstances, instancesTurns, "µs a round", "KB a round", "allocations a round")
}

func childInstances(c *child) (map[string]float64, error) {
	ctx := context.Background()
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	backends, err := serve(3)
	if err != nil {
		return nil, err
	}
	if err := putBackends(ctx, client, peerOurs, backends); err != nil {
		return nil, err
	}
	kept, err := callKept(backends)
	if err != nil {
		return nil, err
	}
	registry := newRegistry(client)
	instances, err := registry.NewInstances(healthAt(serviceKey), plaintext)
	if err != nil {
		return nil, err
	}
	each := func() error {
		return etcdrpc.Each(ctx, instances, grpc_health_v1.NewHealthClient,
			func(ctx context.Context, _ etcdrpc.Endpoint, c grpc_health_v1.HealthClient) error {
				_, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
				return err
			})
	}
	calls := map[string]func() error{peerStatic: func() error { return kept(ctx) }, peerOurs: each}
	for _, call := range calls { // connects
		if err := call(); err != nil {
			return nil, err
		}
	}
	took, err := c.takeTurns(calls)
	if err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	for peer, t := range took {
		values[peer+" µs a round"] = results.Median(t.wall)
		values[peer+" KB a round"] = results.Median(t.bytes)
		values[peer+" allocations a round"] = results.Median(t.mallocs)
	}
	return values, nil
}

// callKept returns a function that calls each address by a connection of its own, all at once.
func callKept(addrs []string) (func(context.Context) error, error) {
	var clients []grpc_health_v1.HealthClient
	for _, addr := range addrs {
		conn, err := grpc.NewClient("passthrough:///"+addr, plaintext)
		if err != nil {
			return nil, err
		}
		clients = append(clients, grpc_health_v1.NewHealthClient(conn))
	}
	return func(ctx context.Context) error {
		errs := make([]error, len(clients))
		var calls sync.WaitGroup
		for i, client := range clients {
			calls.Go(func() {
				if _, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
					errs[i] = fmt.Errorf("%s: %w", addrs[i], err)
				}
			})
		}
		calls.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}, nil
}
