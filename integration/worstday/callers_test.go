package worstday

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// callerRows are the rows about callers.
var callerRows = []row{
	{name: "first call", run: aboutCallers(firstCall)},
	{name: "calls", run: aboutCallers(steadyCalls)},
	{name: "replaced and killed", run: aboutCallers(func(c *callers) { replaced(c, true) })},
	{name: "replaced and answering", run: aboutCallers(func(c *callers) { replaced(c, false) })},
	{name: "stream", run: aboutCallers(keptStream)},
	{name: "calls after idle", run: aboutCallers(afterIdle)},
	{name: "change of 1 key", run: aboutCallers(func(c *callers) { changed(c, 1) })},
	{name: "change of 40 keys", run: aboutCallers(func(c *callers) { changed(c, 40) })},
}

// firstCall makes a client 0.5 s into the fault, and calls.
func firstCall(c *callers) {
	c.servers(3)
	c.meet()
	time.Sleep(500 * ms)
	c.connect()
	start := time.Now()
	took := [2]time.Duration{never, never}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var calling sync.WaitGroup
	for side := range took {
		calling.Go(func() {
			for conn := c.dial(side); ctx.Err() == nil; pause(ctx, 50*ms) {
				if _, err := peek(ctx, conn, true); err == nil {
					took[side] = time.Since(start)
					return
				}
			}
		})
	}
	go func() { <-c.over; pause(ctx, soon); cancel() }()
	calling.Wait()
	<-c.over
	c.compareTimes("first answer", start, took[us], took[them])
	c.compareMessages(1)
	c.endWell()
}

// steadyCalls makes calls until 3 s after the fault.
func steadyCalls(c *callers) {
	c.servers(3)
	conns := c.warm()
	c.meet()
	all, stop := c.load(conns, 4, 60*ms)
	<-c.over
	time.Sleep(3 * time.Second)
	stop()
	c.compareCalls(all, them, right)
	c.compareMessages(1)
	c.endWell()
}

// replaced replaces a server 1 s into the fault. The old server is killed half a second later, or goes on answering.
func replaced(c *callers, kill bool) {
	old, next := c.servers(3)[0], c.serve("new")
	conns := c.warm()
	c.meet()
	all, stop := c.load(conns, 4, 60*ms)
	time.Sleep(time.Second)
	at := time.Now()
	var changing sync.WaitGroup
	changing.Go(func() { c.list(next, true) })
	changing.Go(func() { c.list(old, false) })
	if kill {
		time.Sleep(500 * ms)
		old.stop()
	}
	changing.Wait()
	<-c.over
	c.await(func(side int) bool { _, ok := all[side].firstOf(next.name); return ok })
	time.Sleep(3 * time.Second)
	stop()
	var first, last [2]time.Duration
	for side := range first {
		first[side] = never
		if answered, ok := all[side].firstOf(next.name); ok {
			first[side] = answered.Sub(at)
		}
		last[side] = max(0, all[side].last[old.name].Sub(at))
	}
	c.compareTimes("first answer of the new server", at, first[us], first[them])
	if !kill {
		c.compareTimes("last answer of the old server", at, last[us], last[them])
	}
	c.compareCalls(all, them)
	c.compareMessages(1)
	c.endWell()
}

// await waits until both sides know of a change. It waits longer for ours, of which the cell then tells how late it was.
func (c *callers) await(knows func(side int) bool) {
	for time.Since(c.end) < soon && !(knows(us) && (knows(them) || time.Since(c.end) > soon/2)) {
		time.Sleep(20 * ms)
	}
}

// keptStream keeps a stream open, and opens another one when it breaks.
func keptStream(c *callers) {
	c.servers(3)
	conns := c.warm()
	ctx, cancel := context.WithCancel(context.Background())
	var opened [3]atomic.Int64
	var streaming sync.WaitGroup
	for side, conn := range conns {
		streaming.Go(func() {
			for ctx.Err() == nil {
				if s, err := leaderpb.NewCounterClient(conn).Watch(ctx, &leaderpb.AddRequest{}, grpc.WaitForReady(true)); err == nil {
					opened[side].Add(1)
					for err == nil {
						_, err = s.Recv()
					}
				}
				pause(ctx, 50*ms)
			}
		})
	}
	c.meet()
	<-c.over
	time.Sleep(3 * time.Second)
	ours, plain, best := opened[us].Load(), opened[them].Load(), opened[right].Load()
	cancel()
	streaming.Wait()
	c.figure("streams %d (plain %d, right %d)", ours, plain, best)
	if ours > min(plain, best) {
		c.complain("%d streams, of plain %d, of the right addresses %d", ours, plain, best)
	}
	c.compareMessages(1)
	c.endWell()
}

// afterIdle calls each 1.2 s. In between, the clients become idle.
func afterIdle(c *callers) {
	c.servers(3)
	conns := c.warm(grpc.WithIdleTimeout(400 * ms))
	c.meet()
	all, stop := c.load(conns, 1, 1200*ms)
	<-c.over
	time.Sleep(3 * time.Second)
	stop()
	c.figure("slowest %s (plain %s)", seconds(all[us].slowest), seconds(all[them].slowest))
	c.compareCalls(all)
	for _, other := range []int{them, right} {
		if ours, theirs := all[us], all[other]; ours.failed > theirs.failed+1 {
			c.complain("%d of %d calls fail, of %s %d of %d: %s", ours.failed, ours.calls, sides[other], theirs.failed, theirs.calls, ours.why())
		}
	}
	c.compareMessages(1)
	c.endWell()
}

// changed follows n keys, of which each gets an endpoint 1 s into the fault.
func changed(c *callers, n int) {
	keyOf := func(i int) string { return fmt.Sprintf("followed/%d", i) }
	for i := range n {
		c.putBoth(keyOf(i)+"/old", entryOf("127.0.0.1:1"))
	}
	c.connect()
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	var readers [2][]*reader
	for i := range n {
		ours, plain := newReader(), newReader()
		readers[us], readers[them] = append(readers[us], ours), append(readers[them], plain)
		following.Go(func() { c.followOurs(ctx, keyOf(i), ours) })
		following.Go(func() { c.followPlain(ctx, keyOf(i), plain) })
	}
	begun := kit.Bounded(c.t, 10*time.Second)
	for _, r := range append(readers[us], readers[them]...) {
		r.await(begun, "old")
	}
	c.settle(n)
	c.meet()
	time.Sleep(time.Second)
	at := time.Now()
	var putting sync.WaitGroup
	for i := range n {
		putting.Go(func() { c.putBoth(keyOf(i)+"/new", entryOf("127.0.0.1:2")) })
	}
	putting.Wait()
	<-c.over
	last := func(side int) (took time.Duration, missing int) {
		for _, r := range readers[side] {
			if told, ok := r.told("new"); ok {
				took = max(took, told.Sub(at))
			} else {
				missing++
			}
		}
		if missing > 0 {
			return never, missing
		}
		return took, 0
	}
	c.await(func(side int) bool { _, missing := last(side); return missing == 0 })
	ours, missing := last(us)
	plain, theirs := last(them)
	c.compareTimes("all are told", at, ours, plain)
	if missing > theirs {
		c.complain("%d of %d readers are not told, of plain's %d", missing, n, theirs)
	}
	c.compareMessages(n)
	c.endWell()
	cancel()
	following.Wait()
}

// reader notes when it is told of instances.
type reader struct {
	mu    sync.Mutex
	first map[string]time.Time
}

func newReader() *reader { return &reader{first: make(map[string]time.Time)} }

func (r *reader) tell(instance string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.first[instance]; !again {
		r.first[instance] = time.Now()
	}
}

func (r *reader) told(instance string) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.first[instance]
	return at, ok
}

func (r *reader) await(ctx context.Context, instance string) {
	for ctx.Err() == nil {
		if _, ok := r.told(instance); ok {
			return
		}
		pause(ctx, 5*ms)
	}
}

// followOurs reads the Watch of a key until ctx ends.
func (c *callers) followOurs(ctx context.Context, key string, r *reader) {
	for all := range c.registry.Watch(ctx, key) {
		for _, ep := range all {
			r.tell(ep.Instance)
		}
	}
}

// followPlain reads the same of etcd's endpoint manager.
func (c *callers) followPlain(ctx context.Context, key string, r *reader) {
	at := c.prefix(sides[them]) + key
	m, err := endpoints.NewManager(c.etcds[them], at)
	kit.Must(c.t, err)
	updates, err := m.NewWatchChannel(ctx)
	if err != nil {
		return
	}
	for all := range updates {
		for _, up := range all {
			r.tell(up.Key[len(at)+1:])
		}
	}
}
