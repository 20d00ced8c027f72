package balancer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/coretest"
)

// pooled is a pool with the SubConns of gRPC's that it has made, and two policies that use it. The pool has a
// lock, so it is copied by doing all again.
type pooled struct {
	done []string

	pool     *pool
	queue    []func() // what is to be delivered
	made     []*madeSubConn
	children [2]*child
	counted  [2]readiness // of children, as they were told last
	wrappers []*wrapped
	resolved map[string]bool
	now      time.Time
	broken   string
}

// madeSubConn is a SubConn of gRPC's.
type madeSubConn struct {
	balancer.SubConn
	world  *pooled
	addr   string
	tell   func(balancer.SubConnState)
	state  connectivity.State
	shared bool // by its address
}

// wrapped is a SubConn of a policy's, and what it has heard last.
type wrapped struct {
	*subConn
	name  string
	asked bool // to connect, since it was idle
	heard connectivity.State
}

// pooledConn is gRPC as the pool sees it.
type pooledConn struct {
	balancer.ClientConn
	world *pooled
}

func (c pooledConn) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	s := &madeSubConn{world: c.world, addr: addrs[0].Addr, tell: opts.StateListener, state: idle, shared: true}
	c.world.made = append(c.world.made, s)
	return s, nil
}

func (s *madeSubConn) Connect() {
	switch s.state {
	case idle:
		s.set(trying)
	case connectivity.Shutdown:
		s.world.breaks("a SubConn that is shut down does not connect: %s", s.addr)
	}
}

func (s *madeSubConn) set(state connectivity.State) {
	s.state = state
	told := balancer.SubConnState{ConnectivityState: state}
	if state == failed {
		told.ConnectionError = errors.New("refused")
	}
	s.world.queue = append(s.world.queue, func() { s.tell(told) })
}

func (s *madeSubConn) Shutdown() {
	if s.state == connectivity.Shutdown {
		s.world.breaks("a SubConn is shut down once: %s", s.addr)
	}
	s.state = connectivity.Shutdown
}

func (s *madeSubConn) UpdateAddresses(addrs []resolver.Address) { s.addr = addrs[0].Addr }

func startPooled() *pooled {
	w := &pooled{resolved: map[string]bool{"a": true, "b": true}, now: time.Unix(1000, 0)}
	w.pool = newPool(pooledConn{world: w}, func(event func()) { w.queue = append(w.queue, event) })
	for i := range w.children {
		c := &child{subConns: make(map[string][]*subConn)}
		c.toldTally = func() { w.queue = append(w.queue, func() { w.counted[i], c.tallied = c.tally, false }) }
		w.children[i] = c
	}
	return w
}

func (w *pooled) copy() *pooled {
	c := startPooled()
	for _, event := range w.done {
		c.do(event)
	}
	return c
}

func (w *pooled) breaks(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

// do has an event happen, "connect 0a", and then what follows from it. It reports false if it cannot happen.
func (w *pooled) do(event string) bool {
	w.done = append(w.done, event)
	verb, name, _ := strings.Cut(event, " ")
	if !w.happen(verb, name) {
		return false
	}
	w.deliver()
	after, _ := w.pool.sweep(func(addr string) bool { return w.resolved[addr] }, w.now)
	for _, f := range after {
		f()
	}
	w.deliver()
	return true
}

// deliver delivers what is queued, as the policy's goroutine does.
func (w *pooled) deliver() {
	for len(w.queue) > 0 {
		event := w.queue[0]
		w.queue = w.queue[1:]
		event()
	}
}

func (w *pooled) happen(verb, name string) bool {
	switch verb {
	case "new":
		return w.open(name)
	case "ready":
		return w.becomes(name, ready, trying)
	case "fails":
		return w.becomes(name, failed, trying)
	case "idle":
		return w.becomes(name, idle, ready, failed)
	case "resolver":
		w.resolved[name] = !w.resolved[name]
		w.pool.resolved()
		return true
	case "linger":
		w.now = w.now.Add(linger)
		return true
	case "release":
		owner := w.children[name[0]-'0']
		could := !owner.released
		owner.ended = true
		w.pool.release(owner)
		return could
	}
	at := slices.IndexFunc(w.wrappers, func(o *wrapped) bool { return o.name == name && !o.shut })
	if at < 0 {
		return false
	}
	switch c := w.wrappers[at]; verb {
	case "connect":
		could := !c.asked
		c.asked = true
		c.Connect()
		return could
	case "shutdown":
		c.Shutdown()
	case "move": // gRPC's SubConn becomes its own
		before := len(w.made)
		c.UpdateAddresses([]resolver.Address{{Addr: "b"}})
		for _, s := range w.made[before:] {
			s.shared = false
		}
		return len(w.made) > before
	}
	return true
}

// open makes a SubConn for a policy, "0a".
func (w *pooled) open(name string) bool {
	if slices.ContainsFunc(w.wrappers, func(o *wrapped) bool { return o.name == name && !o.shut }) {
		return false
	}
	c := &wrapped{name: name, heard: idle}
	sc, err := w.pool.newSubConn(w.children[name[0]-'0'], []resolver.Address{{Addr: name[1:]}}, balancer.NewSubConnOptions{
		StateListener: func(s balancer.SubConnState) {
			if c.heard == connectivity.Shutdown {
				w.breaks("what is shut down hears no more: %s", c.name)
			}
			c.heard = s.ConnectivityState
			c.asked = c.asked && c.heard != idle
		},
	})
	c.subConn = sc
	if err == nil {
		w.wrappers = append(w.wrappers, c)
	}
	return err == nil
}

// becomes has the SubConn of an address change its state.
func (w *pooled) becomes(addr string, to connectivity.State, from ...connectivity.State) bool {
	for _, s := range w.made {
		if s.addr == addr && slices.Contains(from, s.state) {
			s.set(to)
			return true
		}
	}
	return false
}

// key tells states apart.
func (w *pooled) key() string {
	var b strings.Builder
	number := make(map[*madeSubConn]int)
	for _, s := range w.made {
		if s.state == connectivity.Shutdown {
			continue
		}
		number[s] = len(number)
		fmt.Fprint(&b, s.addr, s.state, s.shared)
		for e := range w.pool.all {
			if e.conn == s {
				until, unused := w.pool.unused[e]
				fmt.Fprint(&b, e.key, e.state.ConnectivityState, unused, until.IsZero(), until.Sub(w.now), ";")
			}
		}
	}
	for _, c := range w.wrappers {
		if !c.shut {
			at := c.at.Load().conn.(*madeSubConn)
			fmt.Fprint(&b, c.name, c.addr, number[at], c.connected, c.failed, c.asked, c.heard, ";")
		}
	}
	fmt.Fprint(&b, w.resolved, w.children[0].released, w.children[1].released, w.pool.due, w.pool.next.IsZero(), w.pool.next.Sub(w.now), len(w.pool.shared))
	return b.String()
}

// settle has the policies end, and time pass.
func (w *pooled) settle() string {
	for _, event := range []string{"release 0", "release 1"} {
		if !w.children[event[len(event)-1]-'0'].released {
			w.do(event)
			return event
		}
	}
	for _, s := range w.made {
		if s.state != connectivity.Shutdown {
			w.do("linger")
			return "time passes"
		}
	}
	return ""
}

var poolRules = []coretest.Rule[pooled]{
	{Name: "always", Broken: func(_, w *pooled) string { return w.broken }},
	{Name: "P7: one connection an address", Broken: func(_, w *pooled) string {
		open := make(map[string]bool)
		for _, s := range w.made {
			if !s.shared || s.state == connectivity.Shutdown {
				continue
			}
			if open[s.addr] {
				return "two to " + s.addr
			}
			open[s.addr] = true
		}
		return ""
	}},
	{Name: "P3: nothing of a departed endpoint is left", Broken: func(_, w *pooled) string {
		for _, s := range w.made {
			used := slices.ContainsFunc(w.wrappers, func(c *wrapped) bool { return !c.shut && c.real() == s })
			if !used && s.state != connectivity.Shutdown && !(s.shared && w.resolved[s.addr]) {
				return s.addr
			}
		}
		if n := len(w.children[0].subConns) + len(w.children[1].subConns); n > len(w.wrappers) {
			return fmt.Sprintf("%d lists of SubConns", n)
		}
		return ""
	}},
	{Name: "what is used is open, and tells its users how it is", Broken: func(_, w *pooled) string {
		for _, c := range w.wrappers {
			s := c.real().(*madeSubConn)
			ended := c.owner.ended // it is told nothing
			switch {
			case c.shut:
				if !ended && c.heard != connectivity.Shutdown {
					return c.name + " does not know that it is shut down"
				}
			case s.state == connectivity.Shutdown:
				return c.name + " is used, and its SubConn is shut down"
			case c.asked && c.heard != s.state, !c.asked && c.heard != idle:
				return fmt.Sprintf("%s has heard %v, and its SubConn is %v", c.name, c.heard, s.state)
			}
		}
		return ""
	}},
	{Name: "a policy's tally is of the SubConns that it has heard are ready", Broken: func(_, w *pooled) string {
		for i, c := range w.children {
			ready := 0
			for _, o := range w.wrappers {
				if o.owner == c && !o.shut && o.heard == connectivity.Ready {
					ready++
				}
			}
			if w.counted[i] != (readiness{ready: ready}) {
				return fmt.Sprintf("%d has %d that are ready, counted %v", i, ready, w.counted[i])
			}
		}
		return ""
	}},
}

func TestWalkPool(t *testing.T) {
	w := coretest.World[pooled]{
		Start: startPooled, Copy: (*pooled).copy, Key: (*pooled).key,
		Rules: poolRules, Settle: (*pooled).settle, Within: 4,
	}
	for _, event := range []string{
		"new 0a", "new 1a", "new 1b", "connect 0a", "connect 1a", "connect 1b", "shutdown 0a", "shutdown 1a", "shutdown 1b", "move 0a",
		"ready a", "fails a", "idle a", "ready b", "resolver a", "resolver b", "linger", "release 0", "release 1",
	} {
		w.Events = append(w.Events, coretest.Event[pooled]{Name: event, Do: func(w *pooled) bool { return w.do(event) }})
	}
	coretest.Walk(t, 6, w)
}
