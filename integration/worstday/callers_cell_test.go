package worstday

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	grpcresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// The clients that a row about callers compares.
const (
	us    = iota // our client
	them         // etcd's own resolver, with round_robin
	right        // the addresses that are right before the fault, with round_robin and without etcd
)

var sides = [3]string{"ours", "plain", "the right addresses"}

const (
	called     = "leader/counter" // the key of the servers
	roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`

	// how long the registry may take to report the start or the end of an
	// outage
	soon = 15 * time.Second
)

// callers is a cell of a row about callers. Its servers are in etcd twice, for
// our client and for etcd's resolver.
type callers struct {
	*cell
	etcds    [2]*clientv3.Client // by side: us and them
	meters   [2]*meter
	registry *runtime.Registry

	mu     sync.Mutex
	listed map[string]*echo
}

// aboutCallers returns the function of a row about callers.
func aboutCallers(run func(*callers)) func(*cell) {
	return func(c *cell) { run(&callers{cell: c, listed: map[string]*echo{}}) }
}

// aboutN returns the function of a row about callers with n keys or n clients.
func aboutN(n int, run func(*callers, int)) func(*cell) {
	return aboutCallers(func(c *callers) { run(c, n) })
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

// Watch sends the server's name and keeps the stream open.
func (s *echo) Watch(
	_ *leaderpb.AddRequest,
	stream grpc.ServerStreamingServer[leaderpb.AddResponse],
) error {
	if err := stream.Send(&leaderpb.AddResponse{Server: s.name}); err != nil {
		return err
	}

	<-stream.Context().Done()

	return nil
}

func peek(
	ctx context.Context,
	conn grpc.ClientConnInterface,
	wait bool,
) (server string, err error) {
	reply, err := leaderpb.NewCounterClient(conn).Peek(ctx, &leaderpb.AddRequest{},
		grpc.WaitForReady(wait))
	return reply.GetServer(), err
}

// serve starts a server, which is not listed yet.
func (c *callers) serve(name string) *echo {
	lis := kit.Listen(c.t)
	g := grpc.NewServer()
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

// list puts the entries of a server into etcd, or deletes them. It returns when
// etcd has the change.
func (c *callers) list(s *echo, in bool) {
	value := ""

	c.mu.Lock()
	delete(c.listed, s.name)

	if in {
		value = entryOf(s.addr)
		c.listed[s.name] = s
	}

	c.mu.Unlock()

	c.putBoth(called+"/"+s.name, value)
}

// putBoth puts an entry for our client and for etcd's resolver, or deletes it
// if value is "". It returns when etcd has the change.
func (c *callers) putBoth(at, value string) {
	var both sync.WaitGroup
	for _, side := range []int{us, them} {
		both.Go(func() { c.put(c.prefix(sides[side])+at, value) })
	}

	both.Wait()
}

func entryOf(addr string) string {
	return fmt.Sprintf(`{"Addr":%q}`, addr)
}

// connect makes the etcd clients, and our registry.
func (c *callers) connect(opts ...runtime.Option) {
	for side := range c.etcds {
		c.etcds[side], c.meters[side] = c.client()
	}

	c.registry = kit.Registry(c.t, io.Discard, c.etcds[us],
		append(opts, runtime.WithNamespace(c.prefix(sides[us])))...)
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
		conn, err = grpc.NewClient("etcd:///"+c.prefix(sides[them])+called,
			append(opts, grpc.WithResolvers(builder))...)

	case right:
		var state grpcresolver.State
		for _, s := range c.listed {
			state.Endpoints = append(state.Endpoints,
				grpcresolver.Endpoint{Addresses: []grpcresolver.Address{{Addr: s.addr}}})
		}

		builder := manual.NewBuilderWithScheme("right")
		builder.InitialState(state)
		conn, err = grpc.NewClient("right:///leader.counter",
			append(opts, grpc.WithResolvers(builder))...)
	}

	kit.Must(c.t, err)
	c.t.Cleanup(func() { _ = conn.Close() })

	return conn
}

// warm starts calls on all sides, as load does. It waits until the calls of
// each side have reached all servers or, if there are fewer callers than
// servers, as many servers as there are callers.
func (c *callers) warm(
	n int,
	every time.Duration,
	use usage,
	opts ...grpc.DialOption,
) (all [3]*tally, stop func()) {
	c.connect()
	all, stop = c.load(n, every, use, opts...)

	names := slices.Sorted(maps.Keys(c.listed))
	for side, y := range all {
		kit.Eventually(c.t, sides[side]+" to reach the servers", func() bool {
			_, missing := y.since(time.Time{}, names...)
			return missing <= max(0, len(names)-n)
		})
	}

	c.settle(1)

	return all, stop
}

// settle waits until our client has listed and probed both ranges of each of n
// keys. Otherwise chance would decide whether the first probes meet the fault.
// The next probes come half a minute later.
func (c *callers) settle(n int) {
	ctx := kit.Bounded(c.t, 10*time.Second)
	if c.cluster.Calls().Wait(ctx, etcdtest.Range, c.prefix(sides[us]), 4*n) != nil {
		c.figure("not settled")
	}
}

// tally counts the calls of one side under the fault. It records when each
// server answers, and when any server answers.
type tally struct {
	*times
	calls, failed int
	err           error // of the last failed call
}

const anyServer = "any"

func (y *tally) String() string {
	return fmt.Sprintf("%d/%d", y.calls, y.failed)
}

func (y *tally) answered(server string) {
	y.see(server)
	y.see(anyServer)
}

// usage is what a caller does again and again with a connection: a call or a
// stream. It returns soon after ctx has ended.
type usage func(ctx context.Context, conn *grpc.ClientConn, y *tally) error

func oneCall(_ context.Context, conn *grpc.ClientConn, y *tally) error {
	ctx, cancel := context.WithTimeout(background, 2*time.Second)
	defer cancel()

	server, err := peek(ctx, conn, false)
	if err == nil {
		y.answered(server)
	}

	return err
}

// oneStream keeps a stream open until it breaks.
func oneStream(ctx context.Context, conn *grpc.ClientConn, y *tally) error {
	s, err := leaderpb.NewCounterClient(conn).Watch(ctx, &leaderpb.AddRequest{},
		grpc.WaitForReady(true))
	for err == nil {
		var reply *leaderpb.AddResponse
		reply, err = s.Recv()
		if err == nil {
			y.answered(reply.GetServer())
		}
	}

	if ctx.Err() != nil {
		return nil
	}

	return err
}

// load makes n callers of each side use a connection until stop is called. It
// counts the uses that end after the start of the fault.
func (c *callers) load(
	n int,
	every time.Duration,
	use usage,
	opts ...grpc.DialOption,
) (all [3]*tally, stop func()) {
	ctx, cancel := context.WithCancel(background)

	var running sync.WaitGroup
	for side := range all {
		conn := c.dial(side, opts...)
		y := &tally{times: newTimes()}
		all[side] = y

		for range n {
			running.Go(func() {
				for ; ctx.Err() == nil; kit.Pause(ctx, every) {
					y.count(c.begun, use(ctx, conn, y))
				}
			})
		}
	}

	stop = func() {
		cancel()
		running.Wait()
	}

	c.t.Cleanup(stop)

	return all, stop
}

func (y *tally) count(begun <-chan struct{}, err error) {
	y.mu.Lock()
	defer y.mu.Unlock()

	select {
	case <-begun:
		y.calls++

		if err != nil {
			y.failed++
			y.err = err
		}

	default:
	}
}

// compareCalls complains if our client loses more calls than another side, or
// has fewer successful calls. some is part of the tolerance, in lost calls.
func (c *callers) compareCalls(all [3]*tally, some float64, others ...int) {
	c.figure("calls/failed %v (plain %v, right %v)", all[us], all[them], all[right])

	ours := all[us]
	for _, other := range others {
		theirs := all[other]
		share := float64(theirs.failed) / float64(max(theirs.calls, 1))
		if float64(ours.failed) > (share*1.2+0.03)*float64(ours.calls)+some {
			c.complain("%d of %d calls fail, of %s %d of %d: %.200v", ours.failed, ours.calls,
				sides[other], theirs.failed, theirs.calls, ours.err)
		}

		served := ours.calls - ours.failed
		most := theirs.calls - theirs.failed

		if float64(served) < 0.8*float64(most)-5 {
			c.complain("%d calls are served, of %s %d", served, sides[other], most)
		}
	}
}

// compareSeen compares when each side has first seen all of some things. If the
// time depends on keepalive, plain code may be lucky, so our side has the time
// notice in any case. If plain code never sees all, our side has until soon
// after the fault.
func (c *callers) compareSeen(what string, ours, plain *times, start time.Time, all ...string) {
	our, missing := ours.since(start, all...)
	their, theirs := plain.since(start, all...)
	c.compareTime(what, our, min(their, c.fault.lasts+soon), c.fault.notice)

	if missing > theirs {
		c.complain("%s: never for %d of %d, plain %d", what, missing, len(all), theirs)
	}
}

// await waits until both sides have seen all. It waits longer for our side, so
// that the cell can report how late our side was.
func (c *callers) await(ours, plain *times, all ...string) {
	<-c.over
	seen := func(x *times) bool {
		_, missing := x.since(c.end, all...)
		return missing == 0
	}

	until(c.end.Add(soon/2), func() bool { return seen(ours) && seen(plain) })
	until(c.end.Add(soon), func() bool { return seen(ours) })
}

// finish compares the numbers of messages to etcd since the start of the fault,
// and waits until the registry's status is correct. Our client has two ranges
// for each of n keys, and may list and watch each range again several times.
func (c *callers) finish(n int) {
	c.compareRequests(c.meters[us].sum(), c.meters[them].sum(), 20+2*12*n)
	c.endWell(c.wrong)
}

// endWell complains unless wrong returns "" within the time soon after the
// fault.
func (c *callers) endWell(wrong func() string) {
	var text string
	if !until(c.end.Add(soon), func() bool {
		text = wrong()
		return text == ""
	}) {
		c.complain("%v after the fault, %s", soon, text)
	}

	c.figure("well after %s", seconds(max(0, time.Since(c.end))))
}

// wrong describes what is incorrect in Status after the fault, or returns "".
func (c *callers) wrong() string {
	s := c.registry.Status()
	if s.Etcd.Err != nil {
		return fmt.Sprintf("Status says of etcd: %.150v", s.Etcd.Err)
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	for _, k := range s.Keys {
		if k.Err != nil || k.Provisional || k.Key == called && len(k.Endpoints) != len(c.listed) {
			return fmt.Sprintf("Status says of %s: %d endpoints of %d, provisional: %t, %.150v",
				k.Key, len(k.Endpoints), len(c.listed), k.Provisional, k.Err)
		}
	}

	return ""
}
