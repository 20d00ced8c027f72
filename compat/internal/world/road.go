package world

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// roadCalls is how many calls are made at least on each road.
var roadCalls = flag.Int("road.calls", 1000, "the least number of `calls` of each order of each road")

// Kind is one end of a road: a framework with its own servers and callers, or this project.
type Kind struct {
	// Serve starts a server, which callers of both kinds may find from then on. stop ends it, once leave has taken it out of
	// etcd and it gets no calls any more; leave is nil if the server does so itself.
	Serve func(name string) (leave, stop func())
	// Dial starts a caller. call returns the name of the server that answered.
	Dial func() (call func(context.Context) (server string, err error), stop func())
}

// The fleet that moves. So many calls of a caller are under way at once.
const (
	servers = 4
	callers = 2
	atOnce  = 2
)

// Roads moves a fleet in each order. No call may fail.
func Roads(t *testing.T, start func(t *testing.T) (from, to Kind)) {
	t.Helper()
	for _, order := range []struct {
		name  string
		steps []step
	}{
		{"servers first", slices.Concat(each(servers, step{server: true}), each(callers, step{}))},
		{"callers first", slices.Concat(each(callers, step{}), each(servers, step{server: true}))},
		{"undone half way", slices.Concat(
			each(servers/2, step{server: true}), each(callers/2, step{}),
			each(callers/2, step{back: true}), each(servers/2, step{server: true, back: true}))},
	} {
		t.Run(order.name, func(t *testing.T) {
			from, to := start(t)
			f := newFleet(t, from, to)
			for range servers {
				f.addServer(f.kinds[0])
			}
			for range callers {
				f.addCaller(f.kinds[0])
			}
			f.settle(*roadCalls / (len(order.steps) + 1))
			for _, s := range order.steps {
				f.take(s)
				f.settle(*roadCalls / (len(order.steps) + 1))
			}
			f.end()
		})
	}
}

// step replaces one server or caller, by one of the kind to which the road leads or back.
type step struct{ server, back bool }

// pause is how long a caller waits between calls: not at all when there are to be many.
func pause() time.Duration {
	if *roadCalls >= 20_000 {
		return 0
	}
	return 2 * time.Millisecond
}

func each(n int, s step) []step { return slices.Repeat([]step{s}, n) }

// fleet is what runs at the moment.
type fleet struct {
	w       *World
	kinds   [2]*kind
	servers []*roadServer
	callers []*roadCaller
	started int
	calls   int // of the callers that are gone
	failed  int
}

type kind struct {
	Kind
	name string
}

type roadServer struct {
	name        string
	kind        *kind
	leave, stop func()
}

func newFleet(t *testing.T, from, to Kind) *fleet {
	t.Helper()
	return &fleet{w: &World{t: t}, kinds: [2]*kind{{from, "old"}, {to, "new"}}}
}

func (f *fleet) addServer(k *kind) {
	f.w.t.Helper()
	f.started++
	name := fmt.Sprintf("%s %d", k.name, f.started)
	leave, stop := k.Serve(name)
	f.servers = append(f.servers, &roadServer{name, k, leave, stop})
}

func (f *fleet) addCaller(k *kind) {
	f.w.t.Helper()
	f.callers = append(f.callers, startCaller(f.w, k))
}

// take replaces the first server or caller of one kind by one of the other, which comes before the first goes.
func (f *fleet) take(s step) {
	f.w.t.Helper()
	from, to := f.kinds[0], f.kinds[1]
	if s.back {
		from, to = to, from
	}
	if s.server {
		i := slices.IndexFunc(f.servers, func(r *roadServer) bool { return r.kind == from })
		gone := f.servers[i]
		f.addServer(to)
		f.settle(0)
		f.servers = slices.Delete(f.servers, i, i+1)
		if gone.leave != nil {
			gone.leave()
			f.settle(0)
		}
		gone.stop()
		return
	}
	i := slices.IndexFunc(f.callers, func(c *roadCaller) bool { return c.kind == from })
	gone := f.callers[i]
	f.addCaller(to)
	f.settle(0)
	f.callers = slices.Delete(f.callers, i, i+1)
	f.retire(gone)
}

// settle waits until each caller reaches exactly the servers that there are, and all have made n more calls together.
func (f *fleet) settle(n int) {
	f.w.t.Helper()
	want := make([]string, len(f.servers))
	for i, s := range f.servers {
		want[i] = s.name
	}
	slices.Sort(want)
	for _, c := range f.callers {
		c.reaches(want)
	}
	until := f.total() + n
	f.w.Eventually(func() string { return fmt.Sprintf("%d calls of %d", f.total(), until) }, func() bool { return f.total() >= until })
}

// total is how many calls were made.
func (f *fleet) total() int {
	total := f.calls
	for _, c := range f.callers {
		calls, _, _ := c.made()
		total += calls
	}
	return total
}

// retire stops a caller and judges its calls.
func (f *fleet) retire(c *roadCaller) {
	f.w.t.Helper()
	c.stop()
	calls, failed, first := c.made()
	f.calls += calls
	f.failed += failed
	if failed > 0 {
		f.w.t.Errorf("of %d calls of the %s caller %d failed, the first with %v", calls, c.kind.name, failed, first)
	}
}

func (f *fleet) end() {
	f.w.t.Helper()
	for _, c := range f.callers {
		f.retire(c)
	}
	f.callers = nil
	for _, s := range f.servers {
		s.stop()
	}
	f.w.t.Logf("%d calls, %d failed", f.calls, f.failed)
}

// roadCaller calls all the time.
type roadCaller struct {
	w    *World
	kind *kind
	stop func()

	mu     sync.Mutex
	calls  int
	failed int
	first  error
	recent map[string]int // calls by server, since the last look
}

func startCaller(w *World, k *kind) *roadCaller {
	c := &roadCaller{w: w, kind: k, recent: make(map[string]int)}
	call, hangUp := k.Dial()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range atOnce {
		running.Go(func() {
			for ctx.Err() == nil {
				c.count(c.once(call))
				time.Sleep(pause())
			}
		})
	}
	c.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		hangUp()
	})
	w.t.Cleanup(c.stop)
	return c
}

// once makes a call, within a time that a loaded machine needs at most.
func (c *roadCaller) once(call func(context.Context) (string, error)) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	return call(ctx)
}

func (c *roadCaller) count(server string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if err != nil {
		c.failed++
		c.first = cmp.Or(c.first, err)
		return
	}
	c.recent[server]++
}

func (c *roadCaller) made() (calls, failed int, first error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls, c.failed, c.first
}

// reaches waits until calls go to exactly these servers.
func (c *roadCaller) reaches(want []string) {
	c.w.t.Helper()
	var got []string
	begun, _, _ := c.made()
	c.w.Eventually(func() string { return fmt.Sprintf("the %s caller reaches %q, want %q", c.kind.name, got, want) }, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.calls < begun+20*len(want) {
			return false
		}
		begun = c.calls
		got = slices.Sorted(maps.Keys(c.recent))
		c.recent = make(map[string]int)
		return slices.Equal(got, want)
	})
}
