package harness

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// regions returns the trial and that of the other region, if there is one.
func (t *trial) regions() []*trial {
	if t.other == nil {
		return []*trial{t}
	}
	return []*trial{t, t.other}
}

// fallback is the registry of the other region that a life of a caller has.
type fallback struct {
	registry   *runtime.Registry
	disconnect func()
}

// fallBack makes the registry of the other region, and returns the option that has calls leave for it. It returns none where
// there is one region.
func (c *caller) fallBack() []runtime.Option {
	if c.other == nil {
		return nil
	}
	client, err := clientv3.New(clientConfig(c.other.memberAddrs(), grpc.WithContextDialer(c.w.network.Dialer(c.from))))
	must(err) // it asks nothing of etcd
	registry := runtime.NewRegistry(client, runtime.WithEmptyGrace(grace), runtime.WithLogger(slog.New(slog.DiscardHandler)))
	c.fallback = fallback{registry, func() { client.Close() }}
	return []runtime.Option{runtime.WithFallback(registry)}
}

// closeFallback closes the registry of the other region. Its client lingers, as that of the first does.
func (c *caller) closeFallback(ctx context.Context) {
	if c.other == nil {
		return
	}
	act := check.Act{What: "Registry.Close of what is fallen back on", Who: c.name(), Began: time.Now()}
	if act.Err = c.fallback.registry.Close(ctx); act.Err != nil {
		c.w.report(check.Returns, "Registry.Close of what %s falls back on: %v", c.name(), act.Err)
	}
	c.w.acted(ctx, closesWithin, act)
	disconnect, other := c.disconnect, c.fallback.disconnect
	c.disconnect = func() {
		disconnect()
		other()
	}
}

// setAway sets the links of a caller to all servers of the other region.
func (c *caller) setAway(l network.Link) {
	if c.other == nil {
		return
	}
	for i := range c.other.plan.Processes() {
		c.w.network.Set(c.other.plan.Host(i), c.from, l)
	}
}

// fromAway changes the links of a caller to the members of the other region's etcd.
func fromAway(link network.Link) fault {
	return lasts(func(t *trial, s schedule.Step) func() {
		_, from := t.caller(s.Who).current()
		set := func(l network.Link) {
			for i := range t.other.plan.Members {
				t.other.setLink(from, i, l)
			}
		}
		set(link)
		return func() { set(network.Link{}) }
	})
}

// homeGoes has all servers leave etcd, stop or be killed at once, and come back.
func (t *trial) homeGoes(ctx context.Context, s schedule.Step) {
	var all sync.WaitGroup
	for i, server := range t.servers {
		all.Go(func() {
			switch s.N {
			case schedule.HomeLeaves:
				server.pause(ctx, schedule.Step{For: s.For})
				return
			case schedule.HomeStops:
				server.stop(ctx)
			case schedule.HomeIsKilled:
				server.kill()
			}
			t.startAgain(ctx, schedule.Step{For: s.For, Who: i})
		})
	}
	all.Wait()
}

// abroad reports whether a life is one of the other region.
func abroad(id string) bool { return strings.HasPrefix(id, schedule.AwayName) }
