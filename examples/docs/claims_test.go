package docs

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	shopv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// The tests below are of what the pages say and no test elsewhere does.

var plaintext = grpc.WithTransportCredentials(insecure.NewCredentials())

// fleet is greeters, and a client of them.
type fleet struct {
	t        *testing.T
	ctx      context.Context
	stage    *show.Stage
	registry *runtime.Registry
	servers  map[string]*show.Server
	client   greeterv1.GreeterServiceClient
}

// withFleet runs a test on greeters by name, each with its version.
func withFleet(t *testing.T, versions map[string]string, test func(*fleet)) {
	t.Helper()
	err := show.Run(t.Context(), io.Discard, func(ctx context.Context, stage *show.Stage) error {
		registry, err := stage.Registry()
		if err != nil {
			return err
		}
		f := &fleet{t: t, ctx: ctx, stage: stage, registry: registry, servers: make(map[string]*show.Server)}
		for name, version := range versions {
			if f.servers[name], err = stage.Greeter(ctx, name, registry, runtime.WithVersion(version)); err != nil {
				return err
			}
		}
		if f.client, err = greeterv1.NewGreeterServiceClientFromEtcd(registry, plaintext); err != nil {
			return err
		}
		test(f)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// live puts a config of the policy etcd.
func (f *fleet) live(policy string) {
	f.t.Helper()
	config := `{"loadBalancingConfig":[{"etcd":` + policy + `}]}`
	if err := f.registry.SetServiceConfig(f.ctx, greeterv1.GreeterService_EtcdServiceDesc.Key, config); err != nil {
		f.t.Fatal(err)
	}
}

// reach waits until calls reach exactly these.
func (f *fleet) reach(servers ...string) {
	f.t.Helper()
	var last show.Shares
	err := f.stage.Until(f.ctx, fmt.Sprintf("calls reach %v", servers), func(ctx context.Context) (bool, error) {
		var err error
		last, err = show.Count(ctx, 60, show.Greet(f.client))
		return last.Only(servers...), err
	})
	if err != nil {
		f.t.Fatalf("%v; last: %v", err, last)
	}
}

func (f *fleet) stop(server string) {
	f.t.Helper()
	if err := f.servers[server].Stop(); err != nil {
		f.t.Fatal(err)
	}
}

func TestDrainedAreReachedByTarget(t *testing.T) {
	withFleet(t, map[string]string{"a": "", "b": ""}, func(f *fleet) {
		f.live(`{"drain":["b"]}`)
		f.reach("a")
		server, err := show.Greet(f.client)(runtime.WithTarget(f.ctx, "b"))
		if err != nil || server != "b" {
			t.Errorf("a call to b reached %q, %v", server, err)
		}
	})
}

// A drained instance is called only while no other can be.
func TestDrainedComeLast(t *testing.T) {
	withFleet(t, map[string]string{"a": "", "b": ""}, func(f *fleet) {
		f.live(`{"drain":["b"]}`)
		f.reach("a")
		if err := f.stage.Down(f.ctx, "c", greeterv1.GreeterService_EtcdServiceDesc.Key, f.registry); err != nil {
			t.Fatal(err)
		}
		f.reach("a")
		f.stop("a")
		f.reach("b")
	})
}

// Those that match no group, or one of weight 0, get calls only while no other group has anybody.
func TestUnmatchedComeLast(t *testing.T) {
	withFleet(t, map[string]string{"v1": "v1", "v2": "v2", "v3": "v3"}, func(f *fleet) {
		f.live(`{"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":0}]}`)
		f.reach("v1")
		f.stop("v1")
		f.reach("v2", "v3")
		shares, err := show.Count(f.ctx, 1000, show.Greet(f.client))
		if err != nil || shares.Percent("v2") < 49 || shares.Percent("v2") > 51 {
			t.Errorf("%v, %v: want equal shares", shares, err)
		}
	})
}

// A match of "" fits what is not set, and the first match wins.
func TestFirstMatchWins(t *testing.T) {
	withFleet(t, map[string]string{"old": "", "new": "v2"}, func(f *fleet) {
		f.live(`{"split":[{"match":{"version":""},"weight":1},{"match":{"instance":"old"},"weight":99},{"match":{"version":"v2"},"weight":1}]}`)
		f.reach("old", "new")
		shares, err := show.Count(f.ctx, 1000, show.Greet(f.client))
		if err != nil || shares.Percent("old") < 49 || shares.Percent("old") > 51 {
			t.Errorf("%v, %v: want equal shares", shares, err)
		}
	})
}

// Raising the weight of a group moves users only towards it.
func TestAffinityInASplit(t *testing.T) {
	withFleet(t, map[string]string{"new": "v2", "old": "v1"}, func(f *fleet) {
		homes := func() map[string]string {
			all := make(map[string]string)
			for i := range 200 {
				user := fmt.Sprint("user-", i)
				server, err := show.Greet(f.client)(runtime.WithAffinity(f.ctx, user))
				if err != nil {
					t.Fatal(err)
				}
				all[user] = server
			}
			return all
		}
		share := func(v2, v1 int) {
			f.live(fmt.Sprintf(`{"split":[{"match":{"version":"v2"},"weight":%d},{"match":{"version":"v1"},"weight":%d}]}`, v2, v1))
			err := f.stage.Until(f.ctx, "the split is in force", func(ctx context.Context) (bool, error) {
				shares, err := show.Count(ctx, 100, show.Greet(f.client))
				got, want := shares.Percent("new"), 100*float64(v2)/float64(v1+v2)
				return got > want-3 && got < want+3, err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		share(10, 90)
		before := homes()
		share(60, 40)
		for user, server := range homes() {
			if before[user] == "new" && server != "new" {
				t.Errorf("%s went back from new to %s", user, server)
			}
		}
	})
}

// connections counts those that a server has.
type connections struct{ n atomic.Int64 }

func (c *connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (c *connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (c *connections) HandleRPC(context.Context, stats.RPCStats)                         {}

func (c *connections) HandleConn(_ context.Context, event stats.ConnStats) {
	switch event.(type) {
	case *stats.ConnBegin:
		c.n.Add(1)
	case *stats.ConnEnd:
		c.n.Add(-1)
	}
}

// In a rollout that adds a service to a key, its calls go to the servers that have it, over the one
// connection that each client has to them.
func TestRolloutConnections(t *testing.T) {
	err := show.Run(t.Context(), io.Discard, func(ctx context.Context, stage *show.Stage) error {
		registry, err := stage.Registry()
		if err != nil {
			return err
		}
		old, err := stage.Serve(ctx, "old", registry, func(s *runtime.Server) {
			shopv1.RegisterOrdersServerToEtcd(s, shopv1.UnimplementedOrdersServer{})
		})
		if err != nil {
			return err
		}
		var conns connections
		if _, err := stage.ServeOn(ctx, grpc.NewServer(grpc.StatsHandler(&conns)), "new", registry, func(s *runtime.Server) {
			shopv1.RegisterOrdersServerToEtcd(s, shopv1.UnimplementedOrdersServer{})
			shopv1.RegisterPaymentsServerToEtcd(s, payments{})
		}); err != nil {
			return err
		}
		client, err := shopv1.NewPaymentsClientFromEtcd(registry, plaintext)
		if err != nil {
			return err
		}
		for range 50 {
			if _, err := client.Pay(ctx, &shopv1.PayRequest{}); err != nil {
				return fmt.Errorf("a call of the new service: %w", err)
			}
		}
		if n := conns.n.Load(); n != 1 {
			return fmt.Errorf("%d connections during the rollout, want one", n)
		}
		if err := old.Stop(); err != nil {
			return err
		}
		return stage.Until(ctx, "one connection", func(context.Context) (bool, error) { return conns.n.Load() == 1, nil })
	})
	if err != nil {
		t.Error(err)
	}
}

type payments struct {
	shopv1.UnimplementedPaymentsServer
}

func (payments) Pay(context.Context, *shopv1.PayRequest) (*shopv1.PayResponse, error) {
	return &shopv1.PayResponse{}, nil
}
