package balancer

import (
	"fmt"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// countingBuilder is round_robin that counts how often it works its endpoints out.
type countingBuilder struct {
	balancer.Builder
	updates *atomic.Int64
}

func (countingBuilder) Name() string { return "counting_round_robin" }

func (b countingBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return b.Builder.Build(countingConn{cc, b.updates}, opts)
}

type countingConn struct {
	balancer.ClientConn
	updates *atomic.Int64
}

func (c countingConn) UpdateState(s balancer.State) {
	c.updates.Add(1)
	c.ClientConn.UpdateState(s)
}

// TestANewLeafHearsOfConnectionsAtOnce has a leaf made over 500 connections that are ready. It works
// all of them out a few times, not once for each of their states.
func TestANewLeafHearsOfConnectionsAtOnce(t *testing.T) {
	const n = 500
	counting := countingBuilder{balancer.Get(roundrobin.Name), new(atomic.Int64)}
	balancer.Register(counting)
	hearsMeanwhile[counting.Name()] = true
	defer delete(hearsMeanwhile, counting.Name())
	p, cc := newPolicy(t)
	var specs []string
	for i := range n {
		specs = append(specs, fmt.Sprintf("i%03d v%d", i, i%2))
	}
	fleet := ends(specs...)
	for _, config := range []string{
		`{"childPolicy":[{"round_robin":{}}]}`,
		`{"childPolicy":[{"counting_round_robin":{}}]}`,
		`{"split":[{"match":{"version":"v1"},"weight":1}],"childPolicy":[{"counting_round_robin":{}}]}`,
	} {
		counting.updates.Store(0)
		if err := hand(p, mustConfig(t, config), &attr.State{Endpoints: fleet}); err != nil {
			t.Fatal(err)
		}
		settle(p, cc)
		if updates := counting.updates.Load(); updates > 20 {
			t.Errorf("%s: all endpoints were worked out %d times", config, updates)
		}
		if cc.state.ConnectivityState != connectivity.Ready || len(cc.made) != n {
			t.Errorf("%s: %v with %d SubConns", config, cc.state.ConnectivityState, len(cc.made))
		}
	}
}
