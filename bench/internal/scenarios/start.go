package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

// What the scenario start does.
const (
	startServices  = 50
	startEndpoints = 20
	startMeasured  = 800 * time.Millisecond
)

// peerOneConn is the floor with one connection a service instead of one an endpoint.
const peerOneConn = "floor, one connection each"

var starters = append([]string{peerFloor, peerOneConn}, etcdCallers...)

var startScenario = &Scenario{
	run: runStart,
	Scenario: report.Scenario{
		Name:  "start",
		Title: "a process with 50 services starts",
		About: fmt.Sprintf("A process calls %d services of %d endpoints each, all at once, with nothing connected yet, not even etcd. The time is until each service has answered its first call. "+
			"CPU, attempts to connect and requests to etcd are those of the first %v, or of the time if that is longer. "+
			"The floor lists all keys and goes by round robin over what it has listed, for good; floor, one connection each, goes to the first endpoint of each list.",
			startServices, startEndpoints, startMeasured),
		Peers: starters, Base: peerFloor,
		Metrics: []metric{
			{Name: "time ms", Ratio: true, Plot: true},
			{Name: "median service ms", Ratio: true},
			{Name: "CPU ms", Ratio: true, Plot: true},
			{Name: "requests to etcd", Ratio: true},
			{Name: "attempts"},
		},
		Targets: []target{
			{Case: "50 services", Metric: "time ms", Limit: 1.2, Of: []string{peerFloor}},
			{Case: "50 services", Metric: "CPU ms", Limit: 1.2, Of: []string{peerFloor}},
			{Case: "50 services", Metric: "requests to etcd", Limit: 1.2, Of: []string{peerFloor}, Reason: "a list and a watch of the endpoints and of the live config"},
		},
	},
}

// runStart measures the first calls of a process.
func runStart(ctx context.Context, b *bench) error {
	return b.withBackends(func(etcd *server, farm *farm) error {
		return b.measure(ctx, "50 services", starters, func(peer string) (map[string]float64, error) {
			return b.startOnce(ctx, etcd, farm, peer)
		})
	})
}

func (b *bench) startOnce(ctx context.Context, etcd *server, farm *farm, peer string) (map[string]float64, error) {
	if err := etcd.clear(ctx); err != nil {
		return nil, err
	}
	for i := range startServices {
		style := styleAt(peer, keyOf(i), func(n int) string { return farm.addr(i*startEndpoints + n) })
		if err := putAll(ctx, etcd.client, style, 0, startEndpoints); err != nil {
			return nil, err
		}
	}
	p, err := b.spawnTo(params{Role: "start", Peer: peer, Endpoints: etcd.endpoints(), Limit: startMeasured}, "ready", patience)
	if err != nil {
		return nil, err
	}
	defer p.end()
	before, err := carried()
	if err != nil {
		return nil, err
	}
	values, err := p.finish(patience)
	if err != nil {
		return nil, err
	}
	after, err := carried()
	if err != nil {
		return nil, err
	}
	values["requests to etcd"] = after["messages"] - before["messages"]
	return values, nil
}

func childStart(c *child) (map[string]float64, error) {
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	before := used()
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	dial, err := starterOf(c.Peer, client)
	if err != nil {
		return nil, err
	}
	var attempts atomic.Int64
	var (
		calls errgroup.Group
		mu    sync.Mutex
		took  []float64 // sorted
	)
	for i := range startServices {
		calls.Go(func() error {
			conn, err := dial(keyOf(i), countDials(&attempts))
			if err != nil {
				return err
			}
			if err := check(context.Background(), conn); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, ms(time.Since(before.at)))
			return nil
		})
	}
	if err := calls.Wait(); err != nil {
		return nil, err
	}
	time.Sleep(time.Until(before.at.Add(c.Limit)))
	after := used()
	return map[string]float64{
		"time ms": took[len(took)-1], "median service ms": results.Percentile(took, 50),
		"CPU ms":   ms(after.cpu - before.cpu),
		"attempts": float64(attempts.Load()),
	}, nil
}

// starterOf is dialerOf, and knows the floors.
func starterOf(peer string, client *clientv3.Client) (dialer, error) {
	if peer != peerFloor && peer != peerOneConn {
		return dialerOf(peer, client, nil)
	}
	return func(key string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
		addrs, err := listOnce(client, key)
		if err != nil {
			return nil, err
		}
		if peer == peerOneConn {
			return staticConn(addrs[:1], opts...)
		}
		return staticConn(addrs, append(opts, grpc.WithDefaultServiceConfig(roundRobin))...)
	}, nil
}

// listOnce returns the addresses of a service, of which there is at least one.
func listOnce(client *clientv3.Client, key string) ([]string, error) {
	resp, err := client.Get(context.Background(), key+"/", clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	var addrs []string
	for _, kv := range resp.Kvs {
		var e nakedEndpoint
		if err := json.Unmarshal(kv.Value, &e); err != nil {
			return nil, err
		}
		addrs = append(addrs, e.Addr)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("there is nobody at %s", key)
	}
	return addrs, nil
}
