package worstday

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// action is a method of a party, or several.
type action func(party, context.Context) error

// operation is what a server does in a row. Comments name the meaning of a zero value.
type operation struct {
	name   string
	before action // nil: the process has nothing in etcd before the fault
	held   int    // keys after before
	busy   bool   // entry 0 is updated twice a second
	do     action // nil: nothing, the entries come back after the fault
	want   int    // keys after do
	text   string // in the value of the first key; "": any
	ends   bool   // do is the end of the process
	heavy  bool   // with many entries: one pair of processes
}

func registered(n int) action {
	return func(p party, ctx context.Context) error { return p.register(ctx, 0, n) }
}

func turning(serving bool) action {
	return func(p party, ctx context.Context) error { return p.health(ctx, serving) }
}

// inTurn does one after the other.
func inTurn(first, second action) action {
	return func(p party, ctx context.Context) error {
		if err := first(p, ctx); err != nil {
			return err
		}
		return second(p, ctx)
	}
}

// serverRows are the operations of servers.
var serverRows = []row{
	operation{name: "serve", do: party.serve, want: 1}.row(),
	operation{name: "announce", do: party.announce, want: 1}.row(),
	operation{name: "register 1", do: registered(1), want: 1}.row(),
	operation{name: "register 200", do: registered(200), want: 200, heavy: true}.row(),
	operation{name: "register another", before: registered(1), held: 1, want: 2,
		do: func(p party, ctx context.Context) error { return p.register(ctx, 1, 2) }}.row(),
	operation{name: "stay 10", before: registered(10), held: 10, want: 10}.row(),
	operation{name: "update", before: registered(1), held: 1, do: party.update, want: 1, text: "v2"}.row(),
	operation{name: "pause", before: registered(2), held: 2, do: party.pause, want: 1}.row(),
	operation{name: "resume", before: inTurn(registered(2), party.pause), held: 1, do: party.resume, want: 2}.row(),
	operation{name: "not serving", before: party.serve, held: 1, do: turning(false)}.row(),
	operation{name: "serving again", before: inTurn(party.serve, turning(false)), do: turning(true), want: 1}.row(),
	operation{name: "withdraw", before: party.announce, held: 1, do: party.withdraw}.row(),
	operation{name: "serve ends", before: party.serve, held: 1, do: party.stop, ends: true}.row(),
	operation{name: "close 1", before: registered(1), held: 1, do: party.end, ends: true}.row(),
	operation{name: "close 10", before: registered(10), held: 10, do: party.end, ends: true}.row(),
	operation{name: "close 1000", before: registered(1000), held: 1000, do: party.end, ends: true, heavy: true}.row(),
	operation{name: "busy pause", before: registered(2), held: 2, busy: true, do: party.pause, want: 1}.row(),
	operation{name: "busy close 10", before: registered(10), held: 10, busy: true, do: party.end, ends: true}.row(),
	row{name: "hand over", held: true, run: handOver},
}

func (op operation) row() row { return row{name: op.name, held: op.held > 0, run: op.run} }

// process is a party in a cell, and what came of its operation.
type process struct {
	party
	prefix   string
	meter    *meter
	writes   *policy
	quit     context.CancelFunc // ends the updates
	updates  sync.WaitGroup
	err      error
	state    time.Duration // until etcd shows the wanted state
	returned time.Duration
	sent     int // messages
}

// newProcess returns a process of a side, with a number.
func (c *cell) newProcess(side string, number int) *process {
	client, meter := c.client()
	p := &process{prefix: c.prefix(fmt.Sprintf("%s%d", side, number)), meter: meter, quit: func() {}}
	p.writes = &policy{20, 3 * time.Second} // until the fault
	if side == "ours" {
		p.party = &ours{t: c.t, registry: quiet(c.t, client, p.prefix), writes: p.writes, refused: c.fault.refuses}
	} else {
		p.party = &plain{client: client, prefix: p.prefix, writes: p.writes, ends: c.fault.ends()}
	}
	return p
}

// startUpdates updates entry 0 until quit.
func (p *process) startUpdates() {
	ctx, cancel := context.WithCancel(context.Background())
	p.quit = func() { cancel(); p.updates.Wait() }
	p.updates.Go(func() {
		for ctx.Err() == nil {
			_ = p.update(ctx)
			select {
			case <-time.After(500 * ms):
			case <-ctx.Done():
			}
		}
	})
}

// run does the operation with some pairs of processes, and compares the worst of each side.
func (op operation) run(c *cell) {
	pairs := 1
	if c.fault.notice > 0 && !op.heavy {
		pairs = 3
	}
	var all []*process
	for _, side := range []string{"ours", "plain"} {
		for i := range pairs {
			all = append(all, c.newProcess(side, i))
		}
	}
	together(all, func(p *process) { op.prepare(c, p) })
	if c.t.Failed() {
		return
	}
	c.meet()
	together(all, func(p *process) { op.measure(c, p) })
	<-c.over
	if !op.ends {
		together(all, func(p *process) { p.quit(); _ = p.end(kit.Bounded(c.t, kit.Soon)) })
	}
	op.compare(c, all[:pairs], all[pairs:])
}

// together does the same with all processes at once.
func together(all []*process, do func(*process)) {
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() { do(p) })
	}
	wg.Wait()
}

func (op operation) prepare(c *cell, p *process) {
	if op.before == nil {
		op.before = func(party, context.Context) error { return nil }
	}
	if err := op.before(p, kit.Bounded(c.t, kit.Soon)); err != nil {
		c.t.Errorf("%s before the fault: %v", p.prefix, err)
		return
	}
	for deadline := time.Now().Add(kit.Soon); !c.shows(p, op.held, ""); time.Sleep(20 * ms) {
		if time.Now().After(deadline) {
			c.t.Errorf("%s before the fault: etcd does not have %d keys", p.prefix, op.held)
			return
		}
	}
	*p.writes = c.fault.writes()
	if op.busy {
		p.startUpdates()
	}
}

// measure does the operation, and waits until etcd shows the wanted state.
func (op operation) measure(c *cell, p *process) {
	from := c.start
	if op.do == nil {
		<-c.over
		from = c.end
	}
	patience := c.fault.lasts + 25*time.Second
	done := make(chan struct{})
	go func() {
		defer close(done)
		if op.do == nil {
			return
		}
		if op.ends {
			p.quit()
		}
		p.err = op.do(p, kit.Bounded(c.t, patience))
		p.returned = time.Since(from)
	}()
	p.state = never
	deadline := from.Add(patience)
	for time.Now().Before(deadline) {
		if c.shows(p, op.want, op.text) {
			p.state = time.Since(from)
			break
		}
		select {
		case <-done:
			if p.err != nil || op.ends {
				deadline = min2(deadline, time.Now().Add(2*time.Second))
			}
			time.Sleep(20 * ms)
		case <-time.After(min(200*ms, 10*ms+time.Since(from)/20)):
		}
	}
	<-done
	p.sent = p.meter.sum()
}

func min2(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// shows reports whether etcd has n keys of a process, with text in the first.
func (c *cell) shows(p *process, n int, text string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	resp, err := c.judge.Get(ctx, p.prefix, clientv3.WithPrefix(), clientv3.WithLimit(1))
	return err == nil && resp.Count == int64(n) && (text == "" || strings.Contains(string(resp.Kvs[0].Value), text))
}

// compare complains where the worst of ours is worse than the worst of plain code.
func (op operation) compare(c *cell, ours, plain []*process) {
	o, p := c.outcome(ours), c.outcome(plain)
	c.figure("ours %v | plain %v", o, p)
	if o.failed > p.failed {
		c.complain("%d of %d fail, plain %d: %.200v", o.failed, len(ours), p.failed, o.err)
	}
	if o.keys > p.keys || o.leases > p.leases {
		c.complain("%d keys and %d leases are left, plain %d and %d", o.keys, o.leases, p.keys, p.leases)
	}
	if p.failed > 0 {
		return
	}
	if o.failed == 0 {
		c.compareTime("in etcd", o.state, max(p.state, p.returned), c.fault.luck) // plain code knows when it returns
		c.compareTime("returned", o.returned, p.returned, c.fault.luck)
	}
	c.compareRequests(o.sent, p.sent, 40*len(ours)+2*max(op.held, op.want))
}

// outcome is the worst of some processes.
type outcome struct {
	failed          int
	err             error
	state, returned time.Duration
	keys, leases    int
	sent            int
}

func (o outcome) String() string {
	return fmt.Sprintf("%d failed, in etcd %s, returned %s, left %d/%d, sent %d", o.failed, seconds(o.state), seconds(o.returned), o.keys, o.leases, o.sent)
}

func (c *cell) outcome(all []*process) outcome {
	var o outcome
	for _, p := range all {
		if p.err != nil {
			o.failed++
			o.err = p.err
		}
		o.state, o.returned = max(o.state, p.state), max(o.returned, p.returned)
		o.sent += p.sent
	}
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(100 * ms) { // what hung may still arrive
		o.keys, o.leases = 0, 0
		for _, p := range all {
			keys, leases := c.left(p)
			o.keys, o.leases = o.keys+keys, o.leases+leases
		}
		if o.keys+o.leases == 0 || time.Now().After(deadline) {
			return o
		}
	}
}

// left counts the keys and leases that a process has in etcd.
func (c *cell) left(p *process) (keys, leases int) {
	resp, err := c.judge.Get(kit.Bounded(c.t, kit.Soon), p.prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if c.must(err); err == nil {
		keys = int(resp.Count)
	}
	for _, id := range p.meter.granted() {
		ttl, err := c.judge.TimeToLive(kit.Bounded(c.t, kit.Soon), clientv3.LeaseID(id))
		if c.must(err); err == nil && ttl.TTL > 0 {
			leases++
		}
	}
	return keys, leases
}
