package scenarios

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
	etcdrpc "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// What the scenario update does.
const (
	updateEndpoints = 10_000
	updateSubset    = 20
	updatePairs     = 2                      // endpoints that come and go, in each run
	updateTakes     = 200 * time.Millisecond // in which an update is over
)

// peerSubset is this project with a subset.
var peerSubset = fmt.Sprintf("this project, subset %d", updateSubset)

var updaters = []string{peerStatic, peerOurs, peerSubset, peerEtcd}

var updateScenario = &Scenario{
	run: runUpdate,
	Scenario: report.Scenario{
		Name: "update", Title: "one change among 10,000 endpoints, through gRPC",
		About: fmt.Sprintf("An endpoint comes, and goes again, beside %d that a connection has: for each of the two, from etcd's event through gRPC to a picker in force. "+
			"Static's list is handed to gRPC by a resolver in its process. The time is until gRPC dials the endpoint that came, or gives up the one that went; with a subset it mostly does neither.", updateEndpoints),
		Peers: updaters, Base: peerStatic,
		Metrics: []metric{
			{Name: "CPU ms", Ratio: true, Plot: true},
			{Name: "allocated MB", Ratio: true, Plot: true},
			{Name: "time ms", Ratio: true},
			{Name: "connections"},
		},
		Targets: []target{
			{Case: updateCase, Metric: "CPU ms", Limit: 1.2, Of: []string{peerStatic}},
			{Case: updateCase, Metric: "allocated MB", Limit: 1.2, Of: []string{peerStatic}},
		},
	},
}

const updateCase = "10,000 endpoints"

// runUpdate has all peers there at once, each with a service of its own, and has them take turns from one change to the
// next. So this project's pause between costly updates passes while the others are at work.
func runUpdate(ctx context.Context, b *bench) error {
	etcd, err := startEtcd(b.dir)
	if err != nil {
		return err
	}
	defer etcd.close()
	for i, peer := range updaters {
		if err := putAll(ctx, etcd.client, styleOf(peer, keyOf(i)), 0, updateEndpoints); err != nil {
			return err
		}
	}
	for round := range b.Rounds {
		if err := b.update(ctx, etcd, round); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}

func (b *bench) update(ctx context.Context, etcd *server, round int) error {
	var changers []*changer
	for i, peer := range updaters {
		c := &changer{client: etcd.client, style: styleOf(peer, keyOf(i)), size: updateEndpoints}
		var err error
		c.child, err = b.spawnTo(params{
			Role: "update", Peer: peer, Key: keyOf(i), Endpoints: etcd.endpoints(), Size: updateEndpoints, Changes: 2 * updatePairs,
		}, "ready", patience)
		if err != nil {
			return fmt.Errorf("%s: %w", peer, err)
		}
		defer c.child.end()
		changers = append(changers, c)
	}
	for turn := range 2 * updatePairs {
		for i := range updaters {
			i = (i + turn/2 + round) % len(updaters)
			if err := changers[i].measured(ctx); err != nil {
				return fmt.Errorf("%s: %w", updaters[i], err)
			}
		}
	}
	for i, peer := range updaters {
		values, err := changers[i].child.values(patience)
		if err != nil {
			return fmt.Errorf("%s: %w", peer, err)
		}
		b.record(updateCase, peer, round, values)
	}
	return nil
}

// measured makes a change, and waits until the child has measured it.
func (c *changer) measured(ctx context.Context) error {
	if err := c.child.tell(); err != nil {
		return err
	}
	if err := c.change(ctx); err != nil {
		return err
	}
	return c.child.await("changed", patience)
}

func childUpdate(c *child) (map[string]float64, error) {
	network := &silence{of: addr(c.Size)}
	change, err := c.connectAll(network)
	if err != nil {
		return nil, err
	}
	var cpu, allocated, took []float64 // of an endpoint that comes and goes
	for i := range c.Changes {
		word := "changed"
		if i == 0 {
			word = "ready"
		}
		network.forget()
		before := used()
		if err := c.meet(word); err != nil {
			return nil, err
		}
		began := time.Now()
		change(i%2 == 0)
		time.Sleep(updateTakes)
		if c.Peer != peerSubset {
			at, err := network.hear(patience)
			if err != nil {
				return nil, fmt.Errorf("change %d: %w", i, err)
			}
			took = append(took, ms(at.Sub(began)))
		}
		after := used()
		cpu = append(cpu, ms(after.cpu-before.cpu))
		allocated = append(allocated, float64(after.allocated-before.allocated)/1e6)
	}
	fmt.Println("changed")
	values := map[string]float64{
		"CPU ms": medianOfPairs(cpu), "allocated MB": medianOfPairs(allocated), "connections": float64(network.connections()),
	}
	if c.Peer != peerSubset {
		values["time ms"] = medianOfPairs(took)
	}
	return values, nil
}

// medianOfPairs returns the median of what each pair comes to on average: to take an endpoint in costs another sum than
// to let it go.
func medianOfPairs(values []float64) float64 {
	var pairs []float64
	for pair := range slices.Chunk(values, 2) {
		pairs = append(pairs, (pair[0]+pair[1])/2)
	}
	return results.Median(pairs)
}

// connectAll connects c's peer to the service, and waits until nothing goes on any more. change makes a change where
// etcd does not.
func (c *child) connectAll(network *silence) (change func(come bool), err error) {
	opts := []grpc.DialOption{
		grpc.WithContextDialer(network.dial),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: time.Hour}),
	}
	dial, change, err := c.updated()
	if err != nil {
		return nil, err
	}
	conn, err := dial(c.Key, opts...)
	if err != nil {
		return nil, err
	}
	conn.Connect()
	want := c.Size
	if c.Peer == peerSubset {
		want = updateSubset
	}
	for began := time.Now(); network.connections() < want; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > patience {
			return nil, fmt.Errorf("%d connections, want %d", network.connections(), want)
		}
	}
	calm()
	return change, nil
}

// updated returns how c's peer connects.
func (c *child) updated() (dial dialer, change func(come bool), err error) {
	if c.Peer == peerStatic {
		return staticUpdated(c.Size)
	}
	client, err := c.client()
	if err != nil {
		return nil, nil, err
	}
	change = func(bool) {}
	if c.Peer == peerEtcd {
		dial, err = dialerOf(c.Peer, client, nil)
		return dial, change, err
	}
	// By default a service gets a quarter of the descriptors.
	registry := newRegistry(client, etcdrpc.WithLimits(etcdrpc.Limits{Connections: 2 * c.Size}))
	return func(key string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
		if c.Peer == peerSubset {
			opts = append(opts, etcdrpc.WithSubset(updateSubset))
		}
		return registry.NewClient(healthAt(key), append(opts, plaintext)...)
	}, change, nil
}

// staticUpdated is static with a list that change replaces.
func staticUpdated(size int) (dial dialer, change func(come bool), err error) {
	list := make([]resolver.Endpoint, size+1)
	for i := range list {
		list[i].Addresses = []resolver.Address{{Addr: addr(i)}}
	}
	m := manual.NewBuilderWithScheme("static")
	m.InitialState(resolver.State{Endpoints: list[:size]})
	dial = func(_ string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
		return grpc.NewClient("static:///"+serviceKey, append(opts, plaintext, grpc.WithResolvers(m), grpc.WithDefaultServiceConfig(roundRobin))...)
	}
	return dial, func(come bool) {
		n := size
		if come {
			n++
		}
		m.UpdateState(resolver.State{Endpoints: slices.Clone(list[:n])})
	}, nil
}

// calm waits until the process does nothing, and has freed what it can.
func calm() {
	const moment = 100 * time.Millisecond
	for began := time.Now(); time.Since(began) < patience; {
		before := used()
		time.Sleep(moment)
		if used().cpu-before.cpu < moment/20 {
			break
		}
	}
	runtime.GC()
}
