// Package migrationtest moves a fleet from one kind of servers and callers to another, one by one and under load. No call may fail.
package migrationtest

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"
)

var leastCalls = flag.Int("road.calls", 1000, "how many `calls` there are at least on each road; with 20,000 and more callers do not pause")

// Full reports whether roads are driven for their figures: callers do not pause, orders come one after the other, and
// frameworks have the intervals that they have by default.
func Full() bool { return *leastCalls >= 20_000 }

// Kind is one end of a road: a framework with its own servers and callers, or this project.
type Kind struct {
	// Serve starts a server, which is in etcd by the time it returns. stop ends it, once leave has taken it out of etcd and it
	// gets no calls any more; leave is nil where stop does both.
	Serve func(name string) (leave, stop func())
	// Dial starts a caller.
	Dial func() (Call, func())
}

// The fleet, and how much of it has moved when the move is undone.
const (
	servers, callers = 4, 2
	half             = 2
)

// An Order is one in which a fleet can move.
type Order struct {
	Name  string
	steps []step
}

// step replaces one server or one caller.
type step struct{ caller, back bool }

// Orders are all orders.
var Orders = []Order{
	{"servers first", slices.Concat(times(servers, step{}), times(callers, step{caller: true}))},
	{"callers first", slices.Concat(times(callers, step{caller: true}), times(servers, step{}))},
	{"undone half way", slices.Concat(
		times(servers/half, step{}), times(callers/half, step{caller: true}),
		times(callers/half, step{caller: true, back: true}), times(servers/half, step{back: true}))},
}

func times(n int, s step) []step { return slices.Repeat([]step{s}, n) }

// Run moves a fleet in each order, each time on what start returns.
func Run(t *testing.T, start func(t *testing.T) (from, to Kind)) {
	t.Helper()
	for _, order := range Orders {
		t.Run(order.Name, func(t *testing.T) {
			if !Full() {
				t.Parallel() // it mostly waits
			}
			from, to := start(t)
			move(t, order, from, to)
		})
	}
}

func move(t *testing.T, order Order, from, to Kind) {
	t.Helper()
	f := &fleet{t: t, old: &kind{from, "old"}, new: &kind{to, "new"}}
	for range servers {
		f.serve(f.old)
	}
	for range callers {
		f.dial(f.old)
	}
	each := *leastCalls / (len(order.steps) + 1)
	f.settle(each)
	for _, s := range order.steps {
		f.take(s)
		f.settle(each)
	}
	f.end()
}

// fleet is what runs at the moment.
type fleet struct {
	t        *testing.T
	old, new *kind
	servers  []server
	callers  []*caller
	started  int // servers so far
	gone     counts
}

type kind struct {
	Kind
	name string
}

type server struct {
	name        string
	kind        *kind
	leave, stop func()
}

func (f *fleet) serve(k *kind) {
	f.t.Helper()
	f.started++
	name := fmt.Sprintf("%s %d", k.name, f.started)
	leave, stop := k.Serve(name)
	f.servers = append(f.servers, server{name, k, leave, stop})
}

func (f *fleet) dial(k *kind) {
	f.t.Helper()
	f.callers = append(f.callers, newCaller(f.t, k))
}

// take puts one of the other kind in the place of a server or a caller, and lets it settle before the first goes.
func (f *fleet) take(s step) {
	f.t.Helper()
	from, to := f.old, f.new
	if s.back {
		from, to = to, from
	}
	if s.caller {
		f.dial(to)
		f.settle(0)
		f.hangUp(slices.IndexFunc(f.callers, func(c *caller) bool { return c.kind == from }))
		return
	}
	f.serve(to)
	f.settle(0)
	f.withdraw(slices.IndexFunc(f.servers, func(s server) bool { return s.kind == from }))
}

// withdraw ends a server.
func (f *fleet) withdraw(i int) {
	f.t.Helper()
	s := f.servers[i]
	f.servers = slices.Delete(f.servers, i, i+1)
	if s.leave != nil {
		s.leave()
		f.settle(0)
	}
	s.stop()
}

// hangUp ends a caller, and judges its calls.
func (f *fleet) hangUp(i int) {
	f.t.Helper()
	c := f.callers[i]
	f.callers = slices.Delete(f.callers, i, i+1)
	c.stop()
	made := c.counts()
	f.gone.calls += made.calls
	f.gone.failed += made.failed
	if made.failed > 0 {
		f.t.Errorf("the %s caller: %d of %d calls failed, the first with %v", c.kind.name, made.failed, made.calls, made.first)
	}
}

func (f *fleet) end() {
	f.t.Helper()
	for len(f.callers) > 0 {
		f.hangUp(0)
	}
	for _, s := range f.servers {
		if s.leave != nil {
			s.leave()
		}
		s.stop()
	}
	f.t.Logf("%s: %d calls, %d failed", f.t.Name(), f.gone.calls, f.gone.failed)
}

// settle waits until each caller reaches exactly the servers that there are, and all together have made so many more calls.
func (f *fleet) settle(calls int) {
	f.t.Helper()
	names := make([]string, len(f.servers))
	for i, s := range f.servers {
		names[i] = s.name
	}
	slices.Sort(names)
	for _, c := range f.callers {
		c.reaches(names)
	}
	calls += f.made()
	eventually(f.t, func() string { return fmt.Sprintf("%d of %d calls", f.made(), calls) }, func() bool { return f.made() >= calls })
}

// made is how many calls the present callers have made.
func (f *fleet) made() (calls int) {
	for _, c := range f.callers {
		calls += c.counts().calls
	}
	return calls
}

// patience is how long what should happen at once may take on a busy machine.
const patience = 30 * time.Second

// eventually polls until ok.
func eventually(t *testing.T, what func() string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what())
		}
	}
}
