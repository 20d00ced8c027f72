package leader

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/weightedroundrobin" // a policy that is not ours
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// answered returns the instance that answers a call.
func answered(ctx context.Context, call func(context.Context, *leaderpb.AddRequest, ...grpc.CallOption) (*leaderpb.AddResponse, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, kit.Soon)
	defer cancel()
	reply, err := call(ctx, &leaderpb.AddRequest{})
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
	toAny := func() (string, error) { return answered(t.Context(), client.Peek) }
	toB := func() (string, error) { return answered(runtime.WithTarget(t.Context(), "b"), client.Peek) }
	toLeader := func() (string, error) { return answered(t.Context(), client.Add) }
	refused := func(_ string, err error) bool {
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), `"weighted_round_robin"`)
	}
	seen := make(map[string]bool)
	kit.Eventually(t, kit.Soon, "calls to reach a and b, whatever the subset", func() bool {
		who, err := toAny()
		kit.Must(t, err)
		seen[who] = true
		return refused(toB()) && refused(toLeader()) && seen["a"] && seen["b"]
	})
	instances, err := g.registry().NewInstances(calm(under(entries, nil)), kit.Insecure)
	kit.Must(t, err)
	kit.Must(t, runtime.Each(kit.Bounded(t, kit.Soon), instances, leaderpb.NewCounterClient, func(ctx context.Context, _ runtime.Endpoint, c leaderpb.CounterClient) error {
		_, err := answered(ctx, c.Peek)
		return err
	}))

	var load sync.WaitGroup
	var calls atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer func() { stop(); load.Wait() }()
	repeat := func(call func() (string, error), may func(who string, err error) bool) {
		load.Go(func() {
			for ctx.Err() == nil {
				if who, err := call(); !may(who, err) {
					t.Errorf("a call was answered by %q, error %v", who, err)
				}
				calls.Add(1)
			}
		})
	}
	repeat(toAny, func(who string, err error) bool { return err == nil && (who == "a" || who == "b") })
	repeat(toB, func(who string, err error) bool { return err == nil && who == "b" || refused(who, err) })
	repeat(toLeader, func(who string, err error) bool { return err == nil && who == "a" || refused(who, err) })
	for i := range 6 {
		config := []string{ours, another}[i%2]
		g.configure(config)
		enough := calls.Load() + 200
		kit.Eventually(t, kit.Soon, "calls by name and to the leader to follow the live config "+config, func() bool {
			return refused(toB()) == (config == another) && refused(toLeader()) == (config == another) && calls.Load() >= enough
		})
	}
}
