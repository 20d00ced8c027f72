package scenarios

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

// rpcTurns is how many turns each caller has.
const rpcTurns = 80

var rpcScenario = &Scenario{
	run: runRPC,
	Scenario: report.Scenario{
		Name: "rpc", Title: "unary calls over 3 backends",
		About: "Health checks by round robin, client and servers in one process, the connections taking turns of 100 calls. go-zero has a process of its own.",
		Peers: callers, Base: peerStatic,
		Metrics: []metric{
			{Name: "µs a call", Ratio: true, Plot: true},
			{Name: "CPU µs a call", Ratio: true},
			{Name: "allocations a call", Ratio: true},
		},
		Targets: []target{
			{Case: "3 backends", Metric: "µs a call", Limit: 1.01, Of: []string{peerStatic}},
			{Case: "3 backends", Metric: "allocations a call", Limit: 1.005, Of: []string{peerStatic}},
		},
	},
}

// runRPC compares calls over one connection of each peer.
func runRPC(ctx context.Context, b *bench) error {
	return b.inTurns(ctx, "rpc", "3 backends", callers, rpcTurns, "µs a call", "CPU µs a call", "allocations a call")
}

// callers are those whose calls are compared.
var callers = []string{peerStatic, peerOurs, peerEtcd, peerGoZero}

// etcdCallers are those of them that find backends by etcd.
var etcdCallers = callers[1:]

func childRPC(c *child) (map[string]float64, error) {
	ctx := context.Background()
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	backends, err := serve(3)
	if err != nil {
		return nil, err
	}
	if err := putBackends(ctx, client, c.Peer, backends); err != nil {
		return nil, err
	}
	calls := make(map[string]func() error)
	for _, peer := range c.Peers {
		if !sameProgram(peer, c.Peer) {
			continue
		}
		conn, err := connect(ctx, peer, client, backends)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", peer, err)
		}
		calls[peer] = func() error { return check(ctx, conn) }
	}
	took, err := c.takeTurns(calls)
	if err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	for peer, t := range took {
		values[peer+" µs a call"] = results.Median(t.wall)
		values[peer+" CPU µs a call"] = results.Median(t.cpu)
		values[peer+" allocations a call"] = results.Median(t.mallocs)
	}
	return values, nil
}

// connect makes a connection and calls until all backends are in use.
func connect(ctx context.Context, peer string, client *clientv3.Client, backends []string) (*grpc.ClientConn, error) {
	dial, err := roundRobinOf(peer, client, backends)
	if err != nil {
		return nil, err
	}
	conn, err := dial(backendsKey(peer))
	if err != nil {
		return nil, err
	}
	for began := time.Now(); time.Since(began) < 300*time.Millisecond; {
		if err := check(ctx, conn); err != nil {
			return nil, err
		}
	}
	return conn, nil
}
