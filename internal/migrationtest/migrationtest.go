// Package migrationtest moves servers and callers from one framework to
// another, one by one and under load. No call may fail.
package migrationtest

import (
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loadtest"
)

var leastCalls = flag.Int("road.calls", 1000,
	"the minimum number of `calls` in each order of steps; with 20,000 and more, orders run one after the other")

// Full reports whether the run measures: orders run one after the other, and
// frameworks use their default intervals.
func Full() bool {
	return *leastCalls >= 20_000
}

// Call makes a call, and returns the name of the server that answered.
type Call = loadtest.Call

// Kind is what servers and callers migrate from or to: a framework, or this
// project.
type Kind struct {
	// Serve starts a server and returns once it is in etcd. withdraw removes
	// the server from etcd and waits for its last calls, and then stop ends it.
	// withdraw is nil if stop does both.
	Serve func(name string) (withdraw, stop func())

	// Dial starts a caller. The function that it returns ends the caller.
	Dial func() (Call, func())
}

// These are the numbers of servers and of callers.
const servers, callers = 4, 2

// An Order is a sequence of steps in which servers and callers move.
type Order struct {
	Name  string
	steps []step
}

// step replaces one server or one caller by one of the new kind or, if back is
// true, of the old kind.
type step struct{ caller, back bool }

// Orders has all orders.
var Orders = []Order{
	{"servers first", slices.Concat(
		times(servers, step{}),
		times(callers, step{caller: true}),
	)},
	{"callers first", slices.Concat(
		times(callers, step{caller: true}),
		times(servers, step{}),
	)},
	{"undone half way", slices.Concat(
		times(servers/2, step{}),
		times(callers/2, step{caller: true}),
		times(callers/2, step{caller: true, back: true}),
		times(servers/2, step{back: true}),
	)},
}

func times(n int, s step) []step {
	return slices.Repeat([]step{s}, n)
}

// Run moves servers and callers in each order, between the two kinds that start
// returns for this order.
func Run(t *testing.T, start func(t *testing.T) (from, to Kind)) {
	t.Helper()

	for _, order := range Orders {
		t.Run(order.Name, func(t *testing.T) {
			if !Full() {
				t.Parallel() // the test mostly waits
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
		f.replace(s)
		f.settle(each)
	}

	f.end()
}

// fleet is the state of a move: the running servers and callers.
type fleet struct {
	t        *testing.T
	old, new *kind
	servers  []server
	callers  []caller
	started  int // servers started so far
	calls    int // made by callers that have ended
}

type kind struct {
	Kind
	name string
}

type caller struct {
	*loadtest.Caller
	hangUp func()
}

type server struct {
	name           string
	kind           *kind
	withdraw, stop func()
}

func (f *fleet) serve(k *kind) {
	f.t.Helper()

	f.started++
	name := fmt.Sprintf("%s %d", k.name, f.started)
	withdraw, stop := k.Serve(name)
	f.servers = append(f.servers, server{name, k, withdraw, stop})
}

func (f *fleet) dial(k *kind) {
	f.t.Helper()

	call, hangUp := k.Dial()
	hangUp = sync.OnceFunc(hangUp)
	f.t.Cleanup(hangUp)
	f.callers = append(f.callers, caller{loadtest.Start(f.t, k.name, call), hangUp})
}

// replace starts a server or caller of one kind, waits until calls reach all
// servers, and stops a server or caller of the other kind.
func (f *fleet) replace(s step) {
	f.t.Helper()

	from := f.old
	to := f.new
	if s.back {
		from, to = to, from
	}

	if s.caller {
		f.dial(to)
		f.settle(0)
		f.hangUp(slices.IndexFunc(f.callers, func(c caller) bool {
			return c.Name == from.name
		}))

		return
	}

	f.serve(to)
	f.settle(0)
	f.stop(slices.IndexFunc(f.servers, func(s server) bool { return s.kind == from }))
}

// stop withdraws a server, and ends it.
func (f *fleet) stop(i int) {
	f.t.Helper()

	s := f.servers[i]
	f.servers = slices.Delete(f.servers, i, i+1)

	if s.withdraw != nil {
		s.withdraw()
		f.settle(0)
	}

	s.stop()
}

// hangUp ends a caller, and checks its calls.
func (f *fleet) hangUp(i int) {
	f.t.Helper()

	c := f.callers[i]
	f.callers = slices.Delete(f.callers, i, i+1)
	f.calls += c.Stop()
	c.hangUp()
}

func (f *fleet) end() {
	f.t.Helper()

	for len(f.callers) > 0 {
		f.hangUp(0)
	}

	for _, s := range f.servers {
		if s.withdraw != nil {
			s.withdraw()
		}

		s.stop()
	}

	f.t.Logf("%s: %d calls", f.t.Name(), f.calls)
}

// settle waits until each caller reaches exactly the running servers, and all
// callers together have made this number of further calls.
func (f *fleet) settle(calls int) {
	f.t.Helper()

	names := make([]string, len(f.servers))
	for i, s := range f.servers {
		names[i] = s.name
	}

	for _, c := range f.callers {
		c.Reaches(names...)
	}

	for _, c := range f.callers {
		c.More(calls / len(f.callers))
	}
}
