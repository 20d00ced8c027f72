package harness

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
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
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            c.other.memberAddrs(),
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		DialOptions:          []grpc.DialOption{grpc.WithContextDialer(c.w.network.Dialer(c.from))},
		Logger:               zap.NewNop(),
	})
	must(err) // it asks nothing of etcd
	registry := runtime.NewRegistry(client, runtime.WithEmptyGrace(check.Grace), runtime.WithLogger(slog.New(slog.DiscardHandler)))
	c.fallback = fallback{registry, func() { client.Close() }}
	return []runtime.Option{runtime.WithFallback(registry)}
}

// closeFallback closes the registry of the other region. Its client lingers, as that of the first does.
func (c *caller) closeFallback(ctx context.Context) {
	if c.other == nil {
		return
	}
	began := time.Now()
	if err := c.fallback.registry.Close(ctx); err != nil {
		c.w.Report(check.Answers, "Registry.Close of what %s falls back on: %v", c.name(), err)
	}
	c.bound(ctx, began, "Registry.Close of what is fallen back on", closesWithin)
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
	for i := range c.other.Plan.Processes() {
		c.w.network.Set(c.other.Plan.Host(i), c.from, l)
	}
}

// fromAway changes the links of a caller to the members of the other region's etcd.
func fromAway(link network.Link) fault {
	return lasts(func(t *trial, s schedule.Step) func() {
		_, from := t.caller(s.Who).current()
		set := func(l network.Link) {
			for i := range t.other.Plan.Members {
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

// mustCross notes in a call that has ended whether it should have been answered away: the caller knew all the time that home has
// nobody, and the other region, where nothing has happened for a while, has somebody.
func (c *caller) mustCross(call *check.Call) {
	call.Abroad = abroad(call.From)
	if c.other == nil || !call.Nobody || !call.Nowhere || call.Method != acme.Who || call.Target != "" {
		return
	}
	if call.Code == codes.DeadlineExceeded && call.Longest > 0 || call.Ejects || c.w.Bounds(c.spec.Config()) {
		return
	}
	call.MustCross = c.calm(call.Begin.Add(-record.Aftermath))
}

// calm reports whether a server of the other region has served since a time, and nothing has happened there, nor between it and
// the caller.
func (c *caller) calm(since time.Time) bool {
	at := since.Sub(c.w.Began)
	happened := func(s schedule.Step) bool { return s.At+s.For >= at && s.At <= c.w.Now() }
	between := func(s schedule.Step) bool {
		return s.Who == c.index && (s.Kind == schedule.CutFromAway || s.Kind == schedule.StalledFromAway) && happened(s)
	}
	c.mu.Lock()
	begun := c.begun
	c.mu.Unlock()
	return begun.Before(since) && !slices.ContainsFunc(c.other.Plan.Steps, happened) && !slices.ContainsFunc(c.w.Plan.Steps, between) &&
		slices.ContainsFunc(c.other.servers, func(s *server) bool { return s.servesSince(since) })
}

// servesSince reports whether a server has wanted to be in etcd since a time.
func (s *server) servesSince(since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whole() && s.since.Before(since)
}
