package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/zeromicro/go-zero/core/discov"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"golang.org/x/sync/errgroup"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	etcdrpc "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// leaseTTL is go-zero's, which cannot be changed, in seconds.
const leaseTTL = 10

// registrar registers endpoints as a peer does.
type registrar struct {
	register func(key string, i int) error
	close    func() error
}

func registrarOf(peer string, client *clientv3.Client) (*registrar, error) {
	switch peer {
	case peerFloor:
		return nakedRegistrar(client)
	case peerOurs:
		return ourRegistrar(client), nil
	case peerEtcd:
		return namingRegistrar(client), nil
	case peerGoZero:
		return goZeroRegistrar(client), nil
	}
	return nil, fmt.Errorf("%q does not register", peer)
}

// nakedRegistrar puts everything on one lease.
func nakedRegistrar(client *clientv3.Client) (*registrar, error) {
	ctx := context.Background()
	lease, err := keptLease(client)
	if err != nil {
		return nil, err
	}
	return &registrar{
		register: func(key string, i int) error {
			_, err := client.Put(ctx, key+"/"+addr(i), namingValue(addr(i)), clientv3.WithLease(lease))
			return err
		},
		close: func() error {
			_, err := client.Revoke(ctx, lease)
			return err
		},
	}, nil
}

// keptLease is a lease that is kept alive until it is revoked.
func keptLease(client *clientv3.Client) (clientv3.LeaseID, error) {
	ctx := context.Background()
	lease, err := client.Grant(ctx, leaseTTL)
	if err != nil {
		return 0, err
	}
	renewals, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return 0, err
	}
	go func() {
		for range renewals {
		}
	}()
	return lease.ID, nil
}

func ourRegistrar(client *clientv3.Client) *registrar {
	ctx := context.Background()
	registry := newRegistry(client, etcdrpc.WithLeaseTTL(leaseTTL*time.Second))
	return &registrar{
		register: func(key string, i int) error {
			_, err := registry.Register(ctx, key, etcdrpc.Endpoint{Addr: addr(i)})
			return err
		},
		close: func() error { return registry.Close(ctx) },
	}
}

// namingRegistrar does for each endpoint what the documents of etcd's naming package show.
func namingRegistrar(client *clientv3.Client) *registrar {
	ctx := context.Background()
	var leases []clientv3.LeaseID
	return &registrar{
		register: func(key string, i int) error {
			manager, err := endpoints.NewManager(client, key)
			if err != nil {
				return err
			}
			lease, err := keptLease(client)
			if err != nil {
				return err
			}
			leases = append(leases, lease)
			return manager.AddEndpoint(ctx, key+"/"+addr(i), endpoints.Endpoint{Addr: addr(i)}, clientv3.WithLease(lease))
		},
		close: func() error {
			for _, lease := range leases {
				if _, err := client.Revoke(ctx, lease); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func goZeroRegistrar(client *clientv3.Client) *registrar {
	var publishers []*discov.Publisher
	return &registrar{
		register: func(key string, i int) error {
			p := discov.NewPublisher(client.Endpoints(), key, addr(i))
			publishers = append(publishers, p)
			return p.KeepAlive()
		},
		close: func() error {
			for _, p := range publishers {
				p.Stop()
			}
			return nil
		},
	}
}

var registrationsScenario = &scenario{
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
			{Metric: "goroutines", Limit: 10},
			{Metric: "goroutines left", Limit: 0},
		},
	},
}

// runRegistrations counts what 100 registrations of a process ask of etcd. Nothing in it competes
// for the processor, so all runs are made at once, each with an etcd of its own.
func runRegistrations(ctx context.Context, b *bench) error {
	return b.atOnce(ctx, finders, func(peer string, cluster *etcdtest.Cluster) (map[string]float64, error) {
		const window = 20 * time.Second
		p, err := spawnTo(params{Role: "register", Peer: peer, Endpoints: cluster.Endpoints(), Size: 100}, "registered", patience)
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

// atOnce makes all runs at the same time, each with an etcd of its own that can be broken.
func (b *bench) atOnce(ctx context.Context, peers []string, run func(peer string, cluster *etcdtest.Cluster) (map[string]float64, error)) error {
	type key struct {
		peer  string
		round int
	}
	var runs []key
	for round := range b.rounds {
		for _, peer := range peers {
			runs = append(runs, key{peer, round})
		}
	}
	values := make([]map[string]float64, len(runs))
	g, ctx := errgroup.WithContext(ctx)
	for i, k := range runs {
		cluster, err := etcdtest.New(filepath.Join(b.dir, "at-once-"+strconv.Itoa(len(b.runs)+i)))
		if err != nil {
			return err
		}
		defer cluster.Close()
		g.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if values[i], err = run(k.peer, cluster); err != nil {
				err = fmt.Errorf("%s, round %d: %w", k.peer, k.round, err)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, k := range runs {
		b.record("", k.peer, k.round, values[i])
	}
	return nil
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
