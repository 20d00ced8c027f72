package worstday

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// action is what a server does.
type action func(party, context.Context) error

// operation is an action in a row. Comments name the meaning of a zero value.
type operation struct {
	name   string
	before action // nil: the process has nothing in etcd before the fault
	held   int    // the number of keys in etcd after before
	busy   bool   // entry 0 is updated twice a second
	do     action
	want   int    // the number of keys in etcd after do
	text   string // text that the value of the first key must contain; "": any value
	ends   bool   // do is the end of the process
	heavy  bool   // the operation has many entries, so only one pair of processes runs it
}

// serverRows are the operations of servers.
var serverRows = slices.Concat(rowsOf([]operation{
	{name: "close 10", before: register(0, 10), held: 10, do: party.end, ends: true},
	{
		name:   "close 1000",
		before: register(0, 1000),
		held:   1000,
		do:     party.end,
		ends:   true,
		heavy:  true,
	},
	{
		name:   "busy close 10",
		before: register(0, 10),
		held:   10,
		busy:   true,
		do:     party.end,
		ends:   true,
	},
	{name: "serve", do: party.serve, want: 1},
	{name: "register 1", do: register(0, 1), want: 1},
	{name: "register 200", do: register(0, 200), want: 200, heavy: true},
	{
		name:   "register another",
		before: register(0, 1),
		held:   1,
		do:     register(1, 2),
		want:   2,
	},
	{
		name:   "update",
		before: register(0, 1),
		held:   1,
		do:     party.update,
		want:   1,
		text:   "v2",
	},
	{
		name:   "resume",
		before: both(register(0, 2), party.pause),
		held:   1,
		do:     party.resume,
		want:   2,
	},
	{name: "serve ends", before: party.serve, held: 1, do: party.end, ends: true},
	{name: "pause", before: register(0, 2), held: 2, do: party.pause, want: 1},
	{
		name:   "busy pause",
		before: register(0, 2),
		held:   2,
		busy:   true,
		do:     party.pause,
		want:   1,
	},
	{name: "not serving", before: party.serve, held: 1, do: health(false)},
	{
		name:   "serving again",
		before: both(party.serve, health(false)),
		do:     health(true),
		want:   1,
	},
	{name: "withdraw", before: party.serve, held: 1, do: party.withdraw},
}), []row{
	{name: "hand over", held: true, run: handOver, without: "2 streams"}, // a candidate needs three
}, rowsOf([]operation{
	{name: "close 1", before: register(0, 1), held: 1, do: party.end, ends: true},
}))

func register(from, to int) action {
	return func(p party, ctx context.Context) error { return p.register(ctx, from, to) }
}

func health(serving bool) action {
	return func(p party, ctx context.Context) error { return p.health(ctx, serving) }
}

func both(first, second action) action {
	return func(p party, ctx context.Context) error {
		if err := first(p, ctx); err != nil {
			return err
		}

		return second(p, ctx)
	}
}

func rowsOf(all []operation) (rows []row) {
	for _, op := range all {
		rows = append(rows, row{
			name:  op.name,
			heavy: op.heavy,
			held:  op.held > 0,
			run:   op.run,
		})
	}

	return rows
}

// process is a party in a cell.
type process struct {
	party
	outcome
	prefix string
	meter  *meter
	writes *policy
	quit   func() // ends the updates
}

// run does the operation with some pairs of processes, and compares the
// outcomes of both sides.
func (op operation) run(c *cell) {
	pairs := 1
	if c.fault.notice > 0 && !op.heavy {
		pairs = 3
	}

	var all []*process
	for i := range 2 * pairs {
		client, meter := c.client()
		p := &process{meter: meter, quit: func() {}, writes: &policy{20, 3 * time.Second}}

		if i < pairs {
			p.prefix = c.prefix(fmt.Sprint("ours", i))
			p.party = c.newOurs(client, p.prefix)
		} else {
			p.prefix = c.prefix(fmt.Sprint("plain", i))
			p.party = &plain{
				client: client,
				prefix: p.prefix,
				batch:  c.fault.batch(),
				writes: p.writes,
				ends:   c.fault.ends(),
			}
		}

		all = append(all, p)
	}

	together(all, func(p *process) { op.prepare(c, p) })

	if c.t.Failed() {
		return
	}

	c.meet()

	together(all, func(p *process) { op.measure(c, p) })
	<-c.over

	if !op.ends {
		together(all, func(p *process) {
			p.quit()
			_ = p.end(kit.Context(c.t))
		})
	}

	op.compare(c, c.sumUp(all[:pairs]), c.sumUp(all[pairs:]), pairs)
}

// together calls do for all processes at once.
func together(all []*process, do func(*process)) {
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() { do(p) })
	}

	wg.Wait()
}

func (op operation) prepare(c *cell, p *process) {
	var err error
	if op.before != nil {
		err = op.before(p, kit.Context(c.t))
	}

	shown := func() bool { return c.shows(p, op.held, "") }
	if err != nil || !until(time.Now().Add(kit.Soon), shown) {
		c.t.Errorf("%s before the fault: %v, or etcd does not have %d keys", p.prefix, err, op.held)
		return
	}

	*p.writes = c.fault.writes()

	if !op.busy {
		return
	}

	busy, cancel := context.WithCancel(background)
	var updates sync.WaitGroup
	updates.Go(func() {
		for busy.Err() == nil {
			_ = p.update(busy)
			kit.Pause(busy, 500*ms)
		}
	})

	p.quit = func() {
		cancel()
		updates.Wait()
	}
}

// measure does the operation, and waits until etcd shows the wanted state.
func (op operation) measure(c *cell, p *process) {
	deadline := c.start.Add(c.fault.lasts + 25*time.Second)
	ctx, cancel := context.WithDeadline(background, deadline)
	defer cancel()

	var doing sync.WaitGroup
	doing.Go(func() {
		if op.ends {
			p.quit()
		}

		once := policy{1, time.Until(deadline)}
		if _, ours := p.party.(*ours); ours && c.fault.refuses && op.want > 0 {
			// the runtime returns a rejection at once, so the process retries
			once = c.fault.writes()
		}

		p.err = once.do(ctx, func(ctx context.Context) error { return op.do(p, ctx) })
		p.returned = time.Since(c.start)

		if p.err != nil || op.ends {
			time.AfterFunc(2*time.Second, cancel) // a later effect does not count
		}
	})

	for p.state = never; p.state == never && ctx.Err() == nil; {
		if c.shows(p, op.want, op.text) {
			p.state = time.Since(c.start)
		} else {
			time.Sleep(min(200*ms, 10*ms+time.Since(c.start)/20))
		}
	}

	doing.Wait()
}

// shows reports whether etcd has n keys of a process, with text in the first.
func (c *cell) shows(p *process, n int, text string) bool {
	ctx, cancel := context.WithTimeout(background, time.Second)
	defer cancel()

	resp, err := c.judge.Get(ctx, p.prefix, clientv3.WithPrefix(), clientv3.WithLimit(1))

	return err == nil &&
		resp.Count == int64(n) &&
		(text == "" || strings.Contains(string(resp.Kvs[0].Value), text))
}

// compare complains where the outcome of our processes is worse than that of
// plain code.
func (op operation) compare(c *cell, ours, plain outcome, pairs int) {
	c.figure("failed, left %d, %d/%d (plain %d, %d/%d)", ours.failed, ours.keys, ours.leases,
		plain.failed, plain.keys, plain.leases)

	if ours.failed > plain.failed {
		c.complain("%d of %d fail, plain %d: %.200v", ours.failed, pairs, plain.failed, ours.err)
	}

	if ours.keys > plain.keys || ours.leases > plain.leases {
		c.complain("%d keys and %d leases are left, plain %d and %d", ours.keys, ours.leases,
			plain.keys, plain.leases)
	}

	if plain.failed > 0 {
		return
	}

	if ours.failed == 0 {
		// plain code has surely done the operation when it returns
		c.compareTime("in etcd", ours.state, max(plain.state, plain.returned), c.fault.luck)
		c.compareTime("returned", ours.returned, plain.returned, c.fault.luck)
	}

	c.compareRequests(ours.messages, plain.messages, 100*pairs+2*max(op.held, op.want))
}

// outcome is the result of one process, or of several processes: their longest
// times, and the sums of their counts.
type outcome struct {
	err                            error
	state                          time.Duration // until etcd shows the wanted state
	returned                       time.Duration
	failed, messages, keys, leases int
}

func (c *cell) sumUp(all []*process) (o outcome) {
	for _, p := range all {
		if p.err != nil {
			o.failed++
			o.err = p.err
		}

		o.state = max(o.state, p.state)
		o.returned = max(o.returned, p.returned)
		o.messages += p.meter.sum()
	}

	until(time.Now().Add(2*time.Second), func() bool { // requests that hung may still arrive
		o.keys, o.leases = c.remaining(all)
		return o.keys+o.leases == 0
	})

	return o
}

// remaining counts the keys and leases that processes have in etcd.
func (c *cell) remaining(all []*process) (keys, leases int) {
	for _, p := range all {
		resp, err := c.judge.Get(kit.Context(c.t), p.prefix, clientv3.WithPrefix(),
			clientv3.WithCountOnly())
		kit.Must(c.t, err)
		keys += int(resp.Count)

		// the leases that the client asked for, even if the answer was lost
		p.meter.mu.Lock()
		granted := slices.Clone(p.meter.leases)
		p.meter.mu.Unlock()

		for _, id := range granted {
			ttl, err := c.judge.TimeToLive(kit.Context(c.t), id)
			kit.Must(c.t, err)

			if ttl.TTL > 0 {
				leases++
			}
		}
	}

	return keys, leases
}
