package worstday

import (
	"bytes"
	"cmp"
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

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
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
	{name: "change of 1 key", run: aboutCallers(func(c *callers) { changed(c, 1, false) })},
	{name: "change after a probe", run: aboutCallers(func(c *callers) { changed(c, 1, true) })},
	{name: "change of 40 keys", run: aboutCallers(func(c *callers) { changed(c, 40, false) }), heavy: true},
	{name: "status of 5 keys", run: aboutCallers(func(c *callers) { said(c, 5) })},
	{name: "status of 100 keys", run: aboutCallers(func(c *callers) { said(c, 100) }), heavy: true},
	{name: "close with 1 client", run: aboutCallers(func(c *callers) { closed(c, 1) })},
	{name: "close with 500 clients", run: aboutCallers(func(c *callers) { closed(c, 500) }), heavy: true},
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

// changed follows n keys, of which each gets an endpoint 1 s into the fault. If probed, our etcd client is made of parts, so that our client
// probes each range every 4 s, and the change comes after a probe in the fault.
func changed(c *callers, n int, probed bool) {
	keyOf := func(i int) string { return fmt.Sprintf("followed/%d", i) }
	for i := range n {
		c.putBoth(keyOf(i)+"/old", entryOf("127.0.0.1:1"))
	}
	c.inParts = probed
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
	before := c.cluster.Calls().Count(etcdtest.Range, c.prefix(sides[us])+"followed/")
	if probed {
		_ = c.cluster.Calls().Wait(kit.Bounded(c.t, 4*time.Second), etcdtest.Range, c.prefix(sides[us])+"followed/", before+1)
	}
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
	for all, err := range c.registry.Watch(ctx, key) {
		if err != nil {
			continue // there is more to come
		}
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

// said follows n keys. In an outage, the registry must soon say of each key that it cannot be followed, and after the fault that it can. It
// must not say so while changes arrive.
func said(c *callers, n int) {
	keyOf := func(i int) string { return fmt.Sprintf("followed/%d", i) }
	for i := range n {
		c.put(c.prefix(sides[us])+keyOf(i)+"/a", entryOf("127.0.0.1:1"))
	}
	metrics := metric.NewManualReader()
	c.connect(runtime.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(metrics))))
	byStatus, byWatch, byMetric := newNews("Status"), newNews("Watch"), newNews("the metric")
	all := []*news{byStatus, byWatch, byMetric}
	arrivals := &arrivals{put: make(map[string]time.Time)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i := range n {
		byWatch.say(keyOf(i), errUnknown)
		running.Go(func() {
			for set, err := range c.registry.Watch(ctx, keyOf(i)) {
				if byWatch.say(keyOf(i), err); i == 0 && len(set) > 0 {
					arrivals.arrived(set[0].Addr)
				}
			}
		})
	}
	look := func() {
		for _, k := range c.registry.Status().Keys {
			byStatus.say(k.Key, k.Err)
		}
		arrivals.doubted(byStatus.wrong())
		for key, err := range c.metered(metrics) {
			byMetric.say(key, err)
		}
	}
	begun := kit.Bounded(c.t, soon)
	for look(); begun.Err() == nil && wrong(all) != ""; look() {
		pause(begun, 50*ms)
	}
	if text := wrong(all); text != "" {
		c.complain("before the fault, %s", text)
	}
	c.settle(n)
	c.meet()
	for _, x := range all {
		x.forget()
	}
	running.Go(func() {
		for i := 2; ctx.Err() == nil; i++ {
			addr := fmt.Sprintf("127.0.0.1:%d", i)
			arrivals.putting(addr)
			c.put(c.prefix(sides[us])+keyOf(0)+"/a", entryOf(addr))
			pause(ctx, 500*ms)
		}
	})
	for over := false; !over; {
		look()
		select {
		case <-c.over:
			over = true
		case <-time.After(100 * ms):
		}
	}
	for _, x := range all {
		at, missing := x.lastOf(n)
		c.figure("%s says so of %d of %d keys, after %s at most", x.source, n-missing, n, seconds(max(0, at.Sub(c.start))))
		if c.fault.down && c.fault.lasts > soon && (missing > 0 || at.Sub(c.start) > soon) {
			c.complain("%s does not say of %d of %d keys that etcd is away, of the others after %s", x.source, missing, n, seconds(at.Sub(c.start)))
		}
	}
	for look(); time.Since(c.end) < soon && wrong(all) != ""; look() {
		time.Sleep(50 * ms)
	}
	if text := wrong(all); text != "" {
		c.complain("%v after the fault, %s", soon, text)
	}
	c.figure("well after %s", seconds(time.Since(c.end)))
	cancel()
	running.Wait()
	if arrivals.most > 3 && !c.fault.down && c.fault.notice == 0 { // after a hang, it may take until soon to say that all is well
		c.complain("%d changes arrive while Status says that there are none to be had: %s", arrivals.most, arrivals.text)
	}
}

var errUnknown = errors.New("it is not known")

// metered returns why keys are not followed by the metric, nil for those that are.
func (c *callers) metered(from *metric.ManualReader) map[string]error {
	keys := make(map[string]error)
	var collected metricdata.ResourceMetrics
	kit.Must(c.t, from.Collect(context.Background(), &collected))
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

// news is what a source says of keys.
type news struct {
	source string
	mu     sync.Mutex
	errs   map[string]error     // why a key is not followed now
	first  map[string]time.Time // when that was first said in the fault
}

func newNews(source string) *news {
	return &news{source: source, errs: make(map[string]error), first: make(map[string]time.Time)}
}

func (x *news) say(key string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if delete(x.errs, key); err == nil {
		return
	}
	if x.errs[key] = err; x.first[key].IsZero() {
		x.first[key] = time.Now()
	}
}

// forget starts again with what is said from now on.
func (x *news) forget() { x.mu.Lock(); defer x.mu.Unlock(); clear(x.first) }

// lastOf returns when the news of the last of n keys came, and of how many there were none.
func (x *news) lastOf(n int) (at time.Time, missing int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, first := range x.first {
		if first.After(at) {
			at = first
		}
	}
	return at, n - len(x.first)
}

// wrong returns what is said of the keys that are not followed now, "" if all are.
func (x *news) wrong() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	for key, err := range x.errs {
		return fmt.Sprintf("%s says of %d keys, such as %s: %.150v", x.source, len(x.errs), key, err)
	}
	return ""
}

func wrong(all []*news) string {
	for _, x := range all {
		if text := x.wrong(); text != "" {
			return text
		}
	}
	return ""
}

// arrivals counts the changes that were put and arrived while the registry said without a break that there can be none.
type arrivals struct {
	mu    sync.Mutex
	put   map[string]time.Time // when each change was put
	since time.Time            // when the registry began to say so; zero if it does not
	text  string               // what it said
	n     int                  // changes since then
	most  int
}

func (a *arrivals) putting(change string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.put[change] = time.Now()
}

func (a *arrivals) doubted(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if text == "" {
		a.since, a.n = time.Time{}, 0
	} else if a.since.IsZero() {
		a.since = time.Now()
	}
	a.text = cmp.Or(text, a.text)
}

func (a *arrivals) arrived(change string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.since.IsZero() && a.put[change].After(a.since) {
		a.n++
		a.most = max(a.most, a.n)
	}
}

// closed closes the registry 0.7 s into the fault, while each of n clients has a stream and makes calls without a pause. Close must return
// when its context ends, and then all must end.
func closed(c *callers, n int) {
	c.servers(1)
	var conns []*grpc.ClientConn
	pprof.Do(context.Background(), pprof.Labels("cell", c.t.Name()), func(context.Context) { // for the goroutines of the registry
		c.connect()
		for range n {
			conns = append(conns, c.dial(us))
		}
	})
	var ended atomic.Bool
	var streams, calls atomic.Int64
	var running sync.WaitGroup
	for _, conn := range conns {
		s, err := leaderpb.NewCounterClient(conn).Watch(context.Background(), &leaderpb.AddRequest{}, grpc.WaitForReady(true))
		if err != nil {
			c.complain("before the fault: %v", err)
			continue
		}
		streams.Add(1)
		running.Go(func() {
			for err == nil {
				_, err = s.Recv()
			}
			streams.Add(-1)
		})
	}
	c.meet()
	time.Sleep(600 * ms)
	for _, conn := range conns {
		calls.Add(1)
		running.Go(func() {
			for err := error(nil); err == nil && !ended.Load(); {
				_, err = peek(context.Background(), conn, true)
			}
			calls.Add(-1)
		})
	}
	time.Sleep(100 * ms)
	ctx := kit.Bounded(c.t, 20*ms)
	var took time.Duration
	var err error
	start := time.Now()
	closing := make(chan struct{})
	go func() { defer close(closing); err = c.registry.Close(ctx); took = time.Since(start) }()
	<-ctx.Done()
	for range 20 { // naps instead of a limit: where processors are busy, they are longer, too
		time.Sleep(10 * ms)
	}
	limit := time.Since(start)
	ended.Store(true)
	<-closing
	c.figure("Close takes %v of %v (%v)", took.Round(ms), limit.Round(ms), err)
	if took > limit {
		c.complain("Close with a context of 20 ms takes %v (%v)", took.Round(ms), err)
	}
	left := func() int { return goroutines(c.t.Name()) }
	for time.Since(start) < took+5*time.Second && (streams.Load()+calls.Load() > 0 || left() > 0) {
		time.Sleep(100 * ms)
	}
	c.figure("all is gone after %s", seconds(time.Since(start)))
	if s, u, g := streams.Load(), calls.Load(), left(); s+u > 0 || g > 0 {
		c.complain("5 s after Close, %d streams and %d calls have not ended, and %d goroutines of the registry are left", s, u, g)
	}
	running.Wait()
	<-c.over
}

// goroutines returns the number of stacks of the runtime's goroutines that have the label of a cell.
func goroutines(cell string) (n int) {
	var all bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&all, 1) // cannot fail
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, fmt.Sprintf("%q:%q", "cell", cell)) && strings.Contains(stack, "protoc-gen-go-etcd/runtime") {
			n++
		}
	}
	return n
}
