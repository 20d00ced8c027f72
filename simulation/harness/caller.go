package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/weightedroundrobin" // for configs to name it

	_ "github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection" // likewise
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// idleTimeout is how long the connections to the shop stay open without calls. It is short, so that they close and open again.
const idleTimeout = 4 * time.Second

// How a caller stops. It has nothing to withdraw.
const (
	// closeTimeout bounds the context of Registry.Close.
	closeTimeout = time.Second
	// closesWithin is how long Registry.Close may take.
	closesWithin = 200 * time.Millisecond
	// endsWithin is how long calls and watches may take to end, from the beginning of Registry.Close.
	endsWithin = 400 * time.Millisecond
)

func (c *caller) start(ctx context.Context) { c.begins(ctx, false) }

// begins starts the caller. If it is alone, it cannot reach etcd once it has a client.
func (c *caller) begins(ctx context.Context, alone bool) {
	c.do(func() {
		if c.end != nil {
			return
		}
		c.begin()
		c.w.Observe(func(j *check.Judge) { j.Begin(c.name()) })
		c.connect()
		if alone {
			c.setLine(c.from, network.Link{Cut: true})
			c.w.Deaf(c.from, true)
		}
		c.open(append(c.fallBack(), runtime.WithZone(c.spec.Zone), runtime.WithSnapshotDir(c.snapshots.dir))...)
		clients := c.dial()
		c.clients = clients
		ctx, c.end = context.WithCancel(ctx)
		c.under = new(sync.WaitGroup)
		c.mu.Lock()
		c.watched, c.watchErr, c.live = nil, nil, c.registry
		c.mu.Unlock()
		random := rand.New(rand.NewPCG(c.w.Plan.Seed, uint64(c.index)<<32+uint64(c.life)))
		c.under.Go(func() { c.watch(ctx, clients.registry) })
		c.under.Go(func() { c.traffic(ctx, clients, random) })
	})
}

// dial makes the clients of a life.
func (c *caller) dial() clients {
	options := append(c.dialOptions(), grpc.WithIdleTimeout(idleTimeout))
	if c.spec.Subset > 0 {
		options = append(options, runtime.WithSubset(c.spec.Subset))
	}
	if c.spec.Own != "" {
		options = append(options, runtime.WithDefaultServiceConfig(c.spec.Own))
	}
	shop, err := c.registry.NewClient(acme.Shop(c.spec.Policy), options...)
	if err != nil {
		panic(err)
	}
	user, err := c.registry.NewClient(acme.User(), c.dialOptions()...)
	if err != nil {
		panic(err)
	}
	ofInstances := c.dialOptions()
	if c.w.Plan.Rests { // it follows the candidates, too
		ofInstances = append(ofInstances, grpc.WithIdleTimeout(idleTimeout))
	}
	instances, err := c.registry.NewInstances(acme.Shop(""), ofInstances...)
	if err != nil {
		panic(err)
	}
	return clients{c.registry, shop, user, instances}
}

// watch follows the shop, and judges that the watch tells of changes alone, and that the last life's set is still right.
func (c *caller) watch(ctx context.Context, registry *runtime.Registry) {
	last, recalled := "nothing yet", false
	for set, err := range registry.Watch(ctx, acme.ShopKey) {
		c.w.Note("%s watches: %v %v", c.name(), acme.Addrs(set), err)
		item := fmt.Sprint(set, err)
		if item == last && !recalled && c.w.still(c.index) {
			c.w.Report(check.Late, "the watch of %s yields twice in a row: %s", c.name(), item)
		}
		last, recalled = item, keyStatus(registry, acme.ShopKey).Provisional
		c.mu.Lock()
		if c.watchErr = err; err == nil {
			c.watched = set
		}
		c.mu.Unlock()
	}
}

// still reports whether nothing has changed lately of which a reader of the shop may have to tell.
func (w *world) still(reader int) bool {
	return !w.Hampered(reader) && w.unchanged(time.Now().Add(-2*check.Grace))
}

// unchanged reports whether etcd's entries of the shop are what they were at a time.
func (w *world) unchanged(since time.Time) bool {
	return !w.ResetSince(since) && !slices.ContainsFunc(w.Since(since), func(c etcd.Change) bool {
		return strings.HasPrefix(c.Key, acme.ShopKey+"/")
	})
}

// yielded returns the last set that the watch has yielded.
func (c *caller) yielded() []runtime.Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watched
}

// stop ends the process in order. It has nothing to withdraw, so nobody else can tell this from being killed.
func (c *caller) stop(ctx context.Context) { c.stops(ctx, false) }

// stops ends the process, in order but for what it would write if it were not killed.
func (c *caller) stops(ctx context.Context, killed bool) {
	c.do(func() {
		if c.end == nil {
			return
		}
		c.mu.Lock()
		c.live = nil
		c.mu.Unlock()
		c.end()
		ctx, cancel := context.WithTimeout(ctx, closeTimeout)
		defer cancel()
		began := time.Now()
		c.noteKnown(killed)
		if killed {
			defer c.snapshots.keep()()
		}
		if c.life%2 == 0 { // either may be closed first
			c.closeFallback(ctx)
			began = time.Now()
			_ = c.closeRegistry(ctx, closesWithin) // it is judged there
		} else {
			_ = c.closeRegistry(ctx, closesWithin) // likewise
			c.closeFallback(ctx)
		}
		c.under.Wait()
		c.bound(ctx, began, "ending calls and watches", endsWithin)
		c.linger()
		c.end = nil
	})
}

// startsRefused restarts a caller, whose next life lacks a right for a time.
func (c *caller) startsRefused(ctx context.Context, r *rights, s schedule.Step) {
	c.stop(ctx)
	c.w.Add(schedule.Step{Kind: schedule.RightsRefused, At: c.w.Now(), For: s.For, Who: s.Who, Text: s.Text})
	restore := r.refuse(s.Who, s.Text)
	c.start(ctx)
	time.Sleep(s.For)
	restore()
}
