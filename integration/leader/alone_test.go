package leader

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	_ "google.golang.org/grpc/balancer/weightedroundrobin" // a policy that is not ours
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// peek returns the instance that answers a call of a method that any instance serves.
func peek(ctx context.Context, client leaderpb.CounterClient) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, kit.Soon)
	defer cancel()
	reply, err := client.Peek(ctx, &leaderpb.AddRequest{})
	return reply.GetServer(), err
}

// A policy of another package stands alone: it gets the endpoints that drain and selector leave, and WithSubset has no effect. Calls by
// name and to the leader fail there. While a live config changes between it and our policy, no other call fails, and no call
// reaches another instance than the one that it is for (P4, P6, P8).
func TestPolicyThatStandsAlone(t *testing.T) {
	const (
		ours    = `{"loadBalancingConfig":[{"etcd":{"drain":["c"]}}]}`
		another = `{"loadBalancingConfig":[{"etcd":{"drain":["c"],"childPolicy":[{"weighted_round_robin":{}}]}}]}`
	)
	g := newGroup(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		g.start(name)
	}
	g.configure(another)
	client := g.clientOf(&leaderpb.Counter_EtcdServiceDesc, runtime.WithSubset(1), runtime.WithSelector(func(e runtime.Endpoint) bool { return e.Instance != "d" }))
	toLeader := func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, kit.Soon)
		defer cancel()
		reply, err := client.Add(ctx, &leaderpb.AddRequest{})
		return reply.GetServer(), err
	}
	toB := func(ctx context.Context) (string, error) { return peek(runtime.WithTarget(ctx, "b"), client) }
	refused := func(_ string, err error) bool {
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), `"weighted_round_robin"`)
	}
	kit.Eventually(t, kit.Soon, "calls by name and to the leader to be refused", func() bool {
		return refused(toB(t.Context())) && refused(toLeader(t.Context()))
	})
	seen := make(map[string]bool)
	kit.Eventually(t, kit.Soon, "calls to reach a and b, whatever the subset", func() bool {
		who, err := peek(t.Context(), client)
		kit.Must(t, err)
		seen[who] = true
		return seen["a"] && seen["b"]
	})
	if n := g.logs.Count("WithSubset has no effect"); n != 1 {
		t.Errorf("%d log lines say that WithSubset has no effect, want 1", n)
	}
	g.reachesAll(g.registry().NewInstances(calm(under(entries, nil)), kit.Insecure))

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	var calls atomic.Int64 // those to any instance
	repeat := func(call func(context.Context) (string, error), may func(who string, err error) bool) {
		load.Go(func() {
			for ctx.Err() == nil {
				if who, err := call(context.WithoutCancel(ctx)); !may(who, err) {
					t.Errorf("a call was answered by %q, error %v", who, err)
				}
			}
		})
	}
	for range 3 {
		repeat(func(ctx context.Context) (string, error) { defer calls.Add(1); return peek(ctx, client) },
			func(who string, err error) bool { return err == nil && (who == "a" || who == "b") })
	}
	repeat(toB, func(who string, err error) bool { return err == nil && who == "b" || refused(who, err) })
	repeat(toLeader, func(who string, err error) bool { return err == nil && who == "a" || refused(who, err) })
	for i := range 6 {
		config := []string{ours, another}[i%2]
		g.configure(config)
		kit.Eventually(t, kit.Soon, "calls by name and to the leader to follow the live config "+config, func() bool {
			return refused(toB(t.Context())) == (config == another) && refused(toLeader(t.Context())) == (config == another)
		})
		enough := calls.Load() + 50
		kit.Eventually(t, kit.Soon, "50 more calls", func() bool { return calls.Load() >= enough })
	}
	stop()
	load.Wait()
}

// reachesAll checks that each instance of the group answers the call that is for it.
func (g *group) reachesAll(instances *runtime.Instances, err error) {
	g.t.Helper()
	kit.Must(g.t, err)
	var mu sync.Mutex
	var reached []string
	err = runtime.Each(kit.Bounded(g.t, kit.Soon), instances, leaderpb.NewCounterClient, func(ctx context.Context, e runtime.Endpoint, c leaderpb.CounterClient) error {
		who, err := peek(ctx, c)
		mu.Lock()
		defer mu.Unlock()
		if reached = append(reached, who); who != e.Instance {
			g.t.Errorf("a call to %s was answered by %q", e.Instance, who)
		}
		return err
	})
	if slices.Sort(reached); err != nil || strings.Join(reached, "") != "abcd" {
		g.t.Errorf("the calls of an Instances reached %q, error %v, want a, b, c and d", reached, err)
	}
}
