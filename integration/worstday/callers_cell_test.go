package worstday

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	grpcresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// The clients that a row about callers compares.
const (
	us    = iota // our client
	them         // etcd's own resolver, with round_robin
	right        // the right addresses, with round_robin and without etcd
)

var sides = [3]string{"ours", "plain", "the right addresses"}

const (
	called     = "leader/counter" // the key of the servers
	roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`
	soon       = 15 * time.Second // how long the registry may take to say that an outage has begun, or has ended
)

// callers is a cell of a row about callers. Its servers are in etcd twice, for our client and for etcd's resolver.
type callers struct {
	*cell
	inParts  bool                // our etcd client has no connection that our client knows
	etcds    [2]*clientv3.Client // of us and them
	meters   [2]*meter
	registry *runtime.Registry
	resolver *manual.Resolver // of the right addresses

	mu     sync.Mutex
	built  bool // the resolver has a client
	listed map[string]*echo
	gone   map[string]bool // the names of the servers that were taken out
}

// aboutCallers returns the function of a row about callers.
func aboutCallers(run func(*callers)) func(*cell) {
	return func(c *cell) {
		run(&callers{cell: c, resolver: manual.NewBuilderWithScheme("right"), listed: make(map[string]*echo), gone: make(map[string]bool)})
	}
}

// echo is a server that answers with its name.
type echo struct {
	leaderpb.UnimplementedCounterServer
	name, addr string
	stop       func()
}

func (s *echo) Peek(context.Context, *leaderpb.AddRequest) (*leaderpb.AddResponse, error) {
	return &leaderpb.AddResponse{Server: s.name}, nil
}

// Watch sends one message and keeps the stream open.
func (s *echo) Watch(_ *leaderpb.AddRequest, stream grpc.ServerStreamingServer[leaderpb.AddResponse]) error {
	if err := stream.Send(&leaderpb.AddResponse{Server: s.name}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func peek(ctx context.Context, conn grpc.ClientConnInterface, wait bool) (server string, err error) {
	reply, err := leaderpb.NewCounterClient(conn).Peek(ctx, &leaderpb.AddRequest{}, grpc.WaitForReady(wait))
	return reply.GetServer(), err
}

// serve starts a server, which is not listed yet.
func (c *callers) serve(name string) *echo {
	lis, g := kit.Listen(c.t), grpc.NewServer()
	s := &echo{name: name, addr: lis.Addr().String()}
	leaderpb.RegisterCounterServer(g, s)
	s.stop = kit.Serve(c.t, g, lis)
	return s
}

// servers starts and lists n servers.
func (c *callers) servers(n int) (all []*echo) {
	for i := range n {
		s := c.serve(fmt.Sprintf("s%d", i))
		c.list(s, true)
		all = append(all, s)
	}
	return all
}

// list lists a server for all clients, or takes it out. It returns when etcd has the change.
func (c *callers) list(s *echo, in bool) {
	value, state := "", grpcresolver.State{}
	c.mu.Lock()
	delete(c.listed, s.name)
	if c.gone[s.name] = !in; in {
		value, c.listed[s.name] = entryOf(s.addr), s
	}
	for _, s := range c.listed {
		state.Endpoints = append(state.Endpoints, grpcresolver.Endpoint{Addresses: []grpcresolver.Address{{Addr: s.addr}}})
	}
	if c.resolver.InitialState(state); c.built {
		c.resolver.UpdateState(state)
	}
	c.mu.Unlock()
	c.putBoth(called+"/"+s.name, value)
}

// putBoth puts an entry for our client and for etcd's resolver, or deletes it if value is "". It returns when etcd has the change.
func (c *callers) putBoth(at, value string) {
	var both sync.WaitGroup
	for _, side := range []int{us, them} {
		both.Go(func() { c.put(c.prefix(sides[side])+at, value) })
	}
	both.Wait()
}

func entryOf(addr string) string {
	value, _ := json.Marshal(map[string]string{"Addr": addr}) // cannot fail
	return string(value)
}

// connect makes the etcd clients, and our registry.
func (c *callers) connect(opts ...runtime.Option) {
	for side := range c.etcds {
		c.etcds[side], c.meters[side] = c.client()
	}
	if whole := c.etcds[us]; c.inParts {
		c.etcds[us] = clientv3.NewCtxClient(context.Background())
		c.etcds[us].KV, c.etcds[us].Watcher, c.etcds[us].Lease = whole.KV, whole.Watcher, whole.Lease
	}
	c.registry = kit.Registry(c.t, io.Discard, c.etcds[us], append(opts, runtime.WithNamespace(c.prefix(sides[us])))...)
}

// dial returns a client of a side.
func (c *callers) dial(side int, opts ...grpc.DialOption) (conn *grpc.ClientConn) {
	opts = append(opts, kit.Insecure, grpc.WithDefaultServiceConfig(roundRobin))
	var err error
	switch side {
	case us:
		desc := &runtime.ServiceDesc{Name: "leader.Counter", Key: called, ServiceConfig: roundRobin}
		conn, err = c.registry.NewClient(desc, opts...)
	case them:
		builder, _ := resolver.NewBuilder(c.etcds[them]) // cannot fail
		conn, err = grpc.NewClient("etcd:///"+c.prefix(sides[them])+called, append(opts, grpc.WithResolvers(builder))...)
	case right:
		conn, err = grpc.NewClient("right:///leader.counter", append(opts, grpc.WithResolvers(c.resolver))...)
		conn.Connect()
		c.mu.Lock()
		c.built = true // Connect has built
		c.mu.Unlock()
	}
	kit.Must(c.t, err)
	c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// warm returns a client of each side that has reached all listed servers.
func (c *callers) warm(opts ...grpc.DialOption) (conns [3]*grpc.ClientConn) {
	c.connect()
	ctx := kit.Bounded(c.t, 30*time.Second)
	var warming sync.WaitGroup
	for side := range conns {
		conns[side] = c.dial(side, opts...)
		warming.Go(func() {
			for seen := make(map[string]bool); len(seen) < len(c.listed); {
				who, err := peek(ctx, conns[side], true)
				if ctx.Err() != nil {
					c.complain("%s reaches only %d of %d servers before the fault", sides[side], len(seen), len(c.listed))
					return
				}
				if err == nil {
					seen[who] = true
				}
			}
		})
	}
	warming.Wait()
	c.settle(1)
	return conns
}

// settle waits until our client has listed and probed the two ranges of each of n keys, so that chance does not decide whether these
// first probes meet the fault. The next ones come half a minute later.
func (c *callers) settle(n int) {
	if c.cluster.Calls().Wait(kit.Bounded(c.t, 10*time.Second), etcdtest.Range, c.prefix(sides[us]), 4*n) != nil {
		c.figure("not settled")
	}
}

// tally counts the calls of one side.
type tally struct {
	mu                       sync.Mutex
	calls, failed, misrouted int
	slowest                  time.Duration
	causes                   map[string]int       // number of failed calls, by cause
	first, last              map[string]time.Time // when each server answered
}

func (y *tally) String() string {
	return fmt.Sprintf("%d/%d/%d", y.calls, y.failed, y.misrouted)
}

// firstOf returns when a server first answered.
func (y *tally) firstOf(server string) (time.Time, bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	at, ok := y.first[server]
	return at, ok
}

// why returns the most frequent cause of failed calls.
func (y *tally) why() (cause string) {
	for text, n := range y.causes {
		if n > y.causes[cause] {
			cause = text
		}
	}
	return cause
}

// call makes a call and counts it.
func (c *callers) call(conn *grpc.ClientConn, y *tally) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	start := time.Now()
	who, err := peek(ctx, conn, false)
	c.mu.Lock()
	gone := c.gone[who]
	c.mu.Unlock()
	now := time.Now()
	y.mu.Lock()
	defer y.mu.Unlock()
	y.calls++
	y.slowest = max(y.slowest, now.Sub(start))
	if err != nil {
		y.failed++
		y.causes[fmt.Sprintf("%v: %.150s", status.Code(err), status.Convert(err).Message())]++
		return
	}
	if _, again := y.first[who]; !again {
		y.first[who] = now
	}
	if y.last[who] = now; gone {
		y.misrouted++
	}
}

// load makes calls on all sides, of n callers each, until stop is called.
func (c *callers) load(conns [3]*grpc.ClientConn, n int, every time.Duration) (tallies [3]*tally, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for side, conn := range conns {
		y := &tally{causes: make(map[string]int), first: make(map[string]time.Time), last: make(map[string]time.Time)}
		tallies[side] = y
		for range n {
			running.Go(func() {
				for ctx.Err() == nil {
					c.call(conn, y)
					pause(ctx, every)
				}
			})
		}
	}
	return tallies, func() { cancel(); running.Wait() }
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// compareCalls complains if ours loses more calls than another side, or serves fewer.
func (c *callers) compareCalls(all [3]*tally, others ...int) {
	c.figure("calls/failed/misrouted %v (plain %v, right %v)", all[us], all[them], all[right])
	ours := all[us]
	for _, other := range others {
		theirs := all[other]
		share := float64(theirs.failed) / float64(max(theirs.calls, 1))
		if float64(ours.failed) > (share*1.2+0.03)*float64(ours.calls)+5 {
			c.complain("%d of %d calls fail, of %s %d of %d: %s", ours.failed, ours.calls, sides[other], theirs.failed, theirs.calls, ours.why())
		}
		if served, most := ours.calls-ours.failed, theirs.calls-theirs.failed; float64(served) < 0.8*float64(most)-5 {
			c.complain("%d calls are served, of %s %d", served, sides[other], most)
		}
	}
}

// compareTimes complains if ours takes more than 2 s longer than plain code, and more than twice as long. Where keepalive decides, plain
// code may be lucky. Where plain code never gets there, ours may take until soon after the fault.
func (c *callers) compareTimes(what string, since time.Time, ours, plain time.Duration) {
	limit := max(2*plain, plain+2*time.Second, c.fault.notice)
	if plain == never {
		limit = max(0, c.end.Sub(since)) + soon
	}
	if c.figure("%s after %s (plain %s)", what, seconds(ours), seconds(plain)); ours > limit {
		c.complain("%s: after %s, plain %s", what, seconds(ours), seconds(plain))
	}
}

// compareMessages compares the messages to etcd since the fault began. Ours has two ranges for each of n keys, each of which it may read and
// follow again several times.
func (c *callers) compareMessages(n int) {
	ours, plain := c.meters[us].sum(), c.meters[them].sum()
	c.figure("messages %d (plain %d)", ours, plain)
	c.compareRequests(ours, plain, 20+2*12*n)
}

// endWell complains if the registry does not say, soon after the fault, that all is well.
func (c *callers) endWell() {
	for time.Since(c.end) < soon && c.wrong() != "" {
		time.Sleep(50 * ms)
	}
	if text := c.wrong(); text != "" {
		c.complain("%v after the fault, Status says: %.200s", soon, text)
	}
	c.figure("well after %s", seconds(max(0, time.Since(c.end))))
}

// wrong returns what Status says that is not so after a fault.
func (c *callers) wrong() string {
	s := c.registry.Status()
	var all []string
	if s.Etcd.Err != nil {
		all = append(all, "etcd: "+s.Etcd.Err.Error())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range s.Keys {
		switch {
		case k.Err != nil:
			all = append(all, k.Key+": "+k.Err.Error())
		case k.Provisional:
			all = append(all, k.Key+" is provisional")
		case k.Key == called && len(k.Endpoints) != len(c.listed):
			all = append(all, fmt.Sprintf("%s has %d endpoints, want %d", k.Key, len(k.Endpoints), len(c.listed)))
		}
	}
	return strings.Join(all, "; ")
}
