package worstday

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// callerRows are the rows about callers.
var callerRows = []row{
	{name: "first call", run: aboutCallers(firstCall)},
	{name: "calls", run: aboutCallers(func(c *callers) { calls(c, 4, 60*ms, 5) })},
	{name: "replaced and killed", run: aboutCallers(func(c *callers) { replaced(c, true) })},
	{name: "replaced and answering", run: aboutCallers(func(c *callers) { replaced(c, false) })},
	{name: "stream", run: aboutCallers(keptStream)},
	{name: "calls after idle", run: aboutCallers(func(c *callers) {
		calls(c, 1, 1200*ms, 1, grpc.WithIdleTimeout(400*ms))
	})},
	{name: "watch 1 key", run: aboutN(1, watched)},
	{name: "watch 40 keys", run: aboutN(40, watched), heavy: true},
	{name: "status of 5 keys", run: aboutN(5, said)},
	{name: "status of 100 keys", run: aboutN(100, said), heavy: true},
	{name: "close with 1 client", run: aboutN(1, closed)},
	{name: "close with 500 clients", run: aboutN(500, closed), heavy: true},
}

// firstCall makes clients 0.5 s after the start of the fault, and calls with
// them.
func firstCall(c *callers) {
	c.servers(3)
	c.meet()
	time.Sleep(500 * ms)

	c.connect()
	at := time.Now()
	all, stop := c.load(1, 50*ms, oneCall)
	c.await(all[us].times, all[them].times, anyServer)
	stop()
	c.compareSeen("first answer", all[us].times, all[them].times, at, anyServer)
	c.finish(1)
}

// calls makes n callers call until 3 s after the fault.
func calls(c *callers, n int, every time.Duration, some float64, opts ...grpc.DialOption) {
	c.servers(3)
	all, stop := c.warm(n, every, oneCall, opts...)
	c.meet()
	<-c.over
	time.Sleep(3 * time.Second)
	stop()
	c.compareCalls(all, some, them, right)
	c.finish(1)
}

// keptStream keeps a stream open, and opens another one when it breaks.
func keptStream(c *callers) {
	c.servers(3)
	all, stop := c.warm(1, 50*ms, oneStream)
	c.meet()
	<-c.over
	time.Sleep(3 * time.Second)
	stop()

	ours := all[us].failed
	best := min(all[them].failed, all[right].failed)
	if ours > best {
		c.complain("%d streams break, at best %d: %.200v", ours, best, all[us].err)
	}

	c.finish(1)
}

// replaced replaces a server 1 s after the start of the fault. The old server
// is killed half a second later, or still answers.
func replaced(c *callers, kill bool) {
	old := c.servers(3)[0]
	next := c.serve("new")
	all, stop := c.warm(4, 60*ms, oneCall)
	c.meet()
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
	c.await(all[us].times, all[them].times, next.name)
	time.Sleep(3 * time.Second)
	stop()

	c.compareSeen("first answer of the new server", all[us].times, all[them].times, at, next.name)

	if !kill {
		c.compareTime("last answer of the old server", all[us].last[old.name].Sub(at),
			all[them].last[old.name].Sub(at), c.fault.notice)
	}

	c.compareCalls(all, 5, them)
	c.finish(1)
}

func followed(i int) string {
	return fmt.Sprintf("followed/%d", i)
}

// watched follows n keys. Each key gets an endpoint 1 s after the start of the
// fault.
func watched(c *callers, n int) {
	c.connect()

	ctx, cancel := context.WithCancel(background)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()

	ours := newTimes()
	plain := newTimes()
	var before, after []string
	for i := range n {
		before = append(before, followed(i)+"/old")
		after = append(after, followed(i)+"/new")
		c.putBoth(before[i], entryOf("127.0.0.1:1"))
		following.Go(func() { c.followOurs(ctx, followed(i), ours) })
		following.Go(func() { c.followPlain(ctx, followed(i), plain) })
	}

	until(time.Now().Add(10*time.Second), func() bool {
		_, missing := ours.since(time.Time{}, before...)
		_, theirs := plain.since(time.Time{}, before...)

		return missing+theirs == 0
	})

	c.settle(n)
	c.meet()
	time.Sleep(time.Second)
	at := time.Now()

	var putting sync.WaitGroup
	for _, instance := range after {
		putting.Go(func() { c.putBoth(instance, entryOf("127.0.0.1:2")) })
	}

	putting.Wait()
	c.await(ours, plain, after...)
	c.compareSeen("all are notified", ours, plain, at, after...)
	c.finish(n)
}

// followOurs reads the Watch of a key until ctx ends.
func (c *callers) followOurs(ctx context.Context, key string, x *times) {
	for all, err := range c.registry.Watch(ctx, key) {
		if err != nil {
			continue // there is more to come
		}

		for _, ep := range all {
			x.see(key + "/" + ep.Instance)
		}
	}
}

// followPlain reads the watch channel of etcd's endpoint manager for a key
// until ctx ends.
func (c *callers) followPlain(ctx context.Context, key string, x *times) {
	at := c.prefix(sides[them]) + key
	m, err := endpoints.NewManager(c.etcds[them], at)
	kit.Must(c.t, err)

	updates, err := m.NewWatchChannel(ctx)
	if err != nil {
		return
	}

	for all := range updates {
		for _, up := range all {
			x.see(up.Key[len(c.prefix(sides[them])):])
		}
	}
}

// said follows n keys. Soon after the start of an outage, the registry must
// report that none of the keys can be followed. Soon after the fault, it must
// report that all can. It must not report a key as not followed while changes
// of the key arrive.
func said(c *callers, n int) {
	for i := range n {
		c.put(c.prefix(sides[us])+followed(i)+"/a", entryOf("127.0.0.1:1"))
	}

	metrics := metric.NewManualReader()
	c.connect(runtime.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(metrics))))
	x := &news{times: newTimes(), errs: map[string]error{}}
	ctx, cancel := context.WithCancel(background)
	var running sync.WaitGroup

	// now returns the time in units of 10 ms. The entries that are put have it
	// as their port.
	born := time.Now()
	now := func() int64 { return int64(time.Since(born) / (10 * ms)) }

	var well atomic.Int64    // when Status last had no error
	var arrived atomic.Int64 // how many changes were put, and have arrived, since then
	var most int64           // the highest value of arrived

	for i := range n {
		x.say("Watch", followed(i), errors.New("it is not known"))
		running.Go(func() {
			for set, err := range c.registry.Watch(ctx, followed(i)) {
				x.say("Watch", followed(i), err)

				if i == 0 && len(set) > 0 && portOf(set[0].Addr) > well.Load() {
					arrived.Add(1)
				}
			}
		})
	}

	wrong := func() string {
		for _, k := range c.registry.Status().Keys {
			x.say("Status", k.Key, k.Err)
		}

		most = max(most, arrived.Load())

		if x.wrong("Status") == "" {
			well.Store(now())
			arrived.Store(0)
		}

		for key, err := range c.metered(metrics) {
			x.say("the metric", strings.TrimPrefix(key, c.prefix(sides[us])), err)
		}

		return x.wrong("")
	}

	if !until(time.Now().Add(soon), func() bool { return wrong() == "" }) {
		c.complain("before the fault, %s", wrong())
	}

	c.settle(n)
	x.forget()
	c.meet()

	running.Go(func() {
		for ; ctx.Err() == nil; kit.Pause(ctx, 500*ms) {
			c.put(c.prefix(sides[us])+followed(0)+"/a", entryOf(fmt.Sprintf("127.0.0.1:%d", now())))
		}
	})

	until(c.start.Add(c.fault.lasts), func() bool {
		wrong()
		return false
	})

	<-c.over

	for _, source := range []string{"Status", "Watch", "the metric"} {
		var all []string
		for i := range n {
			all = append(all, source+" says of "+followed(i))
		}

		took, missing := x.since(c.start, all...)
		c.figure("%s says so of %d of %d keys, of all after %s", source, n-missing, n,
			seconds(took))

		if c.fault.down && c.fault.lasts > soon && took > soon {
			c.complain("%s does not say of %d of %d keys that etcd is away, of all after %s",
				source, missing, n, seconds(took))
		}
	}

	c.endWell(wrong)
	cancel()
	running.Wait()

	// after a hang, the status may have an error until soon after the fault
	if most > 3 && !c.fault.down && c.fault.notice == 0 {
		c.complain("%d changes arrive while Status says that there are none to be had", most)
	}
}

func portOf(addr string) (port int64) {
	_, _ = fmt.Sscanf(addr, "127.0.0.1:%d", &port) // cannot fail
	return port
}

// metered returns, by key, why the metric reports the key as not followed, or
// nil if the key is followed.
func (c *callers) metered(from *metric.ManualReader) map[string]error {
	keys := map[string]error{}

	var collected metricdata.ResourceMetrics
	kit.Must(c.t, from.Collect(background, &collected))

	for _, scope := range collected.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != "etcdrpc.discovery.status" {
				continue
			}

			for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
				key, _ := p.Attributes.Value("etcdrpc.key")
				state, _ := p.Attributes.Value("etcdrpc.discovery.state")

				if p.Value == 1 {
					keys[key.AsString()] = nil
					if state.AsString() != "following" {
						keys[key.AsString()] = errors.New(state.AsString())
					}
				}
			}
		}
	}

	return keys
}

// news records what several sources report about keys.
type news struct {
	*times                  // when a source first reported a key as not followed
	errs   map[string]error // why a key is not followed now
}

func (x *news) say(source, key string, err error) {
	what := source + " says of " + key
	if err != nil {
		x.see(what)
	}

	x.mu.Lock()
	defer x.mu.Unlock()

	delete(x.errs, what)

	if err != nil {
		x.errs[what] = err
	}
}

// forget discards the times at which sources first said that keys are not
// followed.
func (x *news) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()

	clear(x.first)
}

// wrong returns what a source reports about a key that is not followed now, or
// "" if all keys are followed.
func (x *news) wrong(source string) string {
	x.mu.Lock()
	defer x.mu.Unlock()

	for what, err := range x.errs {
		if strings.HasPrefix(what, source) {
			return fmt.Sprintf("%s: %.150v", what, err)
		}
	}

	return ""
}

// closed closes the registry 0.7 s after the start of the fault, while each of
// n clients has a stream and makes calls without a pause. Close must return
// when its context ends. Then all streams, calls and goroutines must end. Tests
// in virtual time check how soon they end.
func closed(c *callers, n int) {
	c.servers(1)
	var conns []*grpc.ClientConn

	// the label marks the goroutines of the registry
	pprof.Do(background, pprof.Labels("cell", c.t.Name()), func(context.Context) {
		c.connect()

		for range n {
			conns = append(conns, c.dial(us))
		}
	})

	var ended atomic.Bool
	var streams, calls atomic.Int64 // that have not ended

	var running sync.WaitGroup
	for _, conn := range conns {
		y := &tally{times: newTimes()}
		streams.Add(1)

		running.Go(func() {
			_ = oneStream(background, conn, y)
			streams.Add(-1)
		})

		kit.Eventually(c.t, "a stream", func() bool {
			_, missing := y.since(time.Time{}, anyServer)
			return missing == 0
		})
	}

	c.meet()
	time.Sleep(600 * ms)

	for _, conn := range conns {
		calls.Add(1)
		running.Go(func() {
			for err := error(nil); err == nil && !ended.Load(); {
				_, err = peek(background, conn, true)
			}

			calls.Add(-1)
		})
	}

	time.Sleep(100 * ms)

	start := time.Now()
	ctx := kit.Bounded(c.t, 20*ms)
	var took time.Duration
	var err error
	var closing sync.WaitGroup
	closing.Go(func() {
		err = c.registry.Close(ctx)
		took = time.Since(start)
		c.figure("Close takes %v (%v)", took.Round(ms), err)
	})

	<-ctx.Done()

	for range 20 { // naps, because a fixed limit would be too short while processors are busy
		time.Sleep(10 * ms)
	}

	limit := time.Since(start)
	ended.Store(true)
	closing.Wait()

	// an error means that Close has returned at the end of its context
	if took > limit && err == nil || took > limit+2*time.Second {
		c.complain("Close with a context of 20 ms takes %v of %v", took.Round(ms), limit.Round(ms))
	}

	remaining := func() int { return goroutines(c.t.Name()) }
	ends := func() bool { return streams.Load()+calls.Load() == 0 && remaining() == 0 }
	if !until(start.Add(kit.Soon), ends) {
		c.complain("%v after Close, %d streams and %d calls have not ended, and %d goroutines of the registry are left",
			kit.Soon, streams.Load(), calls.Load(), remaining())
	}

	running.Wait()
	<-c.over
}

// goroutines returns the number of stacks of the runtime's goroutines that have
// the label of a cell.
func goroutines(cell string) (n int) {
	var all bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&all, 1) // cannot fail
	label := fmt.Sprintf("%q:%q", "cell", cell)

	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, label) && strings.Contains(stack, "protoc-gen-go-etcd/runtime") {
			n++
		}
	}

	return n
}
