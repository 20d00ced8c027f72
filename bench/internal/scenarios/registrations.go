package scenarios

import (
	"context"
	"runtime"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

var registrationsScenario = &Scenario{
	run: runRegistrations,
	Scenario: report.Scenario{
		Name: "registrations", Title: "100 registrations of one process",
		About: "At a lease TTL of 10 s, counted over 20 s of rest, then closed, and the etcd client with them. Goroutines are those beyond a connected etcd client's.",
		Peers: finders,
		Metrics: []metric{
			{Name: "leases"},
			{Name: "keepalives a minute", Plot: true},
			{Name: "goroutines"},
			{Name: "goroutines left"},
			{Name: "keys left"},
		},
		Targets: []target{
			{Metric: "leases", Limit: 1},
			{Metric: "keepalives a minute", Limit: 18},
			{Metric: "goroutines", Limit: 10, Reason: "four keys are watched, however many there are"},
			{Metric: "goroutines left", Limit: 0},
		},
	},
}

// runRegistrations counts what 100 registrations of a process ask of etcd. Nothing in it competes
// for the processor, so all runs are made at once, each with an etcd of its own.
func runRegistrations(ctx context.Context, b *bench) error {
	return b.atOnce(ctx, finders, func(peer string, cluster *etcdtest.Cluster) (map[string]float64, error) {
		const window = 20 * time.Second
		p, err := b.spawnTo(params{Role: "register", Peer: peer, Endpoints: cluster.Endpoints(), Size: 100}, "registered", patience)
		if err != nil {
			return nil, err
		}
		defer p.end()
		leases := cluster.Calls().Count(etcdtest.LeaseGrant, "")
		renewed := cluster.Calls().Count(etcdtest.LeaseKeepAlive, "")
		time.Sleep(window)
		renewed = cluster.Calls().Count(etcdtest.LeaseKeepAlive, "") - renewed
		values, err := p.finish(patience)
		if err != nil {
			return nil, err
		}
		left, err := cluster.Admin().Get(ctx, serviceKey, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return nil, err
		}
		values["leases"] = float64(leases)
		values["keepalives a minute"] = float64(renewed) * float64(time.Minute/window)
		values["keys left"] = float64(left.Count)
		return values, nil
	})
}

func childRegister(c *child) (map[string]float64, error) {
	alone := runtime.NumGoroutine()
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	if err := warm(c.Peer, client); err != nil {
		return nil, err
	}
	settle()
	goroutines := runtime.NumGoroutine()
	r, err := registrarOf(c.Peer, client)
	if err != nil {
		return nil, err
	}
	for i := range c.Size {
		if err := r.register(serviceKey+"-"+strconv.Itoa(i), i); err != nil {
			return nil, err
		}
	}
	settle()
	during := runtime.NumGoroutine() - goroutines
	if err := c.meet("registered"); err != nil {
		return nil, err
	}
	if err := r.close(); err != nil {
		return nil, err
	}
	client.Close()
	time.Sleep(time.Second)
	settle()
	return map[string]float64{
		"goroutines": float64(during), "goroutines left": float64(runtime.NumGoroutine() - alone),
	}, nil
}
