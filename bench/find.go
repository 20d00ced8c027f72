package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/zeromicro/go-zero/core/discov"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// patience is how long a child may take to get ready.
const patience = 30 * time.Second

// marks is how many endpoints are added at once at the end of a scenario, so that their number
// tells that a connection has heard everything.
const marks = 100

// open has c's peer follow the service with its connections, and waits until all know all of it.
func (c *child) open() (*group, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	open, err := openerOf(c.Peer, c.Key, client)
	if err != nil {
		return nil, err
	}
	return c.all(open)
}

// openProbed is open through gRPC.
func (c *child) openProbed() (*group, error) {
	p := installProbe(c.Key)
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	open, err := p.openerOf(c.Peer, client)
	if err != nil {
		return nil, err
	}
	return c.all(open)
}

// all opens c's connections, and waits until all know all of the service.
func (c *child) all(open opener) (*group, error) {
	g := &group{}
	if err := open(g, c.Conns); err != nil {
		return nil, err
	}
	if _, ok := within(g.expect(c.Size), patience); !ok {
		return nil, fmt.Errorf("not all of %d connections have %d endpoints", c.Conns, c.Size)
	}
	return g, nil
}

// gRPCsPart is why a change takes longer than the floor's by more than it should.
const gRPCsPart = "gRPC's own hand-over is in it, which the floor has not"

var changeScenario = &scenario{
	run: runChange,
	Scenario: report.Scenario{
		Name: "change", Title: "one change to state",
		About: "An endpoint is added or removed, long after the change before it. The time is from just before the write is sent to etcd, by another process, until gRPC has told the policy that connects. The floor has no gRPC.",
		Peers: finders, Base: peerFloor,
		Metrics: []metric{
			{Name: "p50 µs", Ratio: true, Plot: true},
			{Name: "p99 µs", Ratio: true, Plot: true},
			{Name: "missed"},
		},
		Targets: []target{
			{Case: "10 endpoints", Metric: "p50 µs", Limit: 1.10, Of: []string{peerFloor}, Reason: gRPCsPart},
			{Case: "1000 endpoints", Metric: "p50 µs", Limit: 1.10, Of: []string{peerFloor}, Reason: gRPCsPart},
			{Case: "10 endpoints", Metric: "p99 µs", Limit: 1.5, Of: []string{peerFloor}},
			{Case: "1000 endpoints", Metric: "p99 µs", Limit: 1.5, Of: []string{peerFloor}},
		},
	},
}

// runChange times single changes. All peers are there at once, each with a service of its own, and
// take turns from one change to the next, so that what else the machine does hits them alike; the
// changes of one service are far enough apart that nobody gathers them.
func runChange(ctx context.Context, b *bench) error {
	etcd, err := startEtcd(b.dir)
	if err != nil {
		return err
	}
	defer etcd.close()
	for _, size := range []int{10, 1000} {
		for round := range b.rounds {
			if err := b.change(ctx, etcd, size, round); err != nil {
				return fmt.Errorf("%d endpoints, round %d: %w", size, round, err)
			}
		}
	}
	return nil
}

func (b *bench) change(ctx context.Context, etcd *server, size, round int) error {
	const warm, counted = 20, 240
	if err := etcd.clear(ctx); err != nil {
		return err
	}
	changers := make([]*changer, len(finders))
	for i, peer := range finders {
		c := &changer{client: etcd.client, style: styleOf(peer, keyOf(i)), size: size}
		var err error
		c.child, err = ready(ctx, etcd, params{Role: "arrivals", Peer: peer, Key: keyOf(i), Size: size, Conns: 1})
		if err != nil {
			return fmt.Errorf("%s: %w", peer, err)
		}
		defer c.child.end()
		changers[i] = c
	}
	apart := (15*time.Millisecond + time.Duration(size)*25*time.Microsecond) / time.Duration(len(finders))
	for turn := range warm + counted {
		if turn == warm {
			for _, c := range changers {
				c.sent = nil
			}
		}
		for i := range changers {
			time.Sleep(apart)
			if err := changers[(i+round)%len(changers)].change(ctx); err != nil {
				return err
			}
		}
	}
	time.Sleep(10 * apart)
	for i, peer := range finders {
		took, missed, err := changers[i].took()
		if err != nil {
			return fmt.Errorf("%s: %w", peer, err)
		}
		b.record(fmt.Sprintf("%d endpoints", size), peer, round, map[string]float64{
			"p50 µs": results.Percentile(took, 50), "p99 µs": results.Percentile(took, 99), "missed": float64(missed),
		})
	}
	return nil
}

// ready starts a child on a service of so many endpoints, and waits until it knows them.
func ready(ctx context.Context, etcd *server, p params) (*proc, error) {
	if err := putAll(ctx, etcd.client, styleOf(p.Peer, p.Key), 0, p.Size); err != nil {
		return nil, err
	}
	p.Endpoints = etcd.endpoints()
	return spawnTo(p, "ready", patience)
}

// changer adds an endpoint to a service and removes it, in turns.
type changer struct {
	client *clientv3.Client
	style  style
	size   int
	child  *proc
	added  bool
	sent   []change
}

type change struct {
	at   time.Time
	size int // of the service then
}

func (c *changer) change(ctx context.Context) (err error) {
	key, value := c.style(c.size)
	sent := change{time.Now(), c.size}
	if c.added {
		_, err = c.client.Delete(ctx, key)
	} else {
		sent.size++
		_, err = c.client.Put(ctx, key, value)
	}
	c.added = !c.added
	c.sent = append(c.sent, sent)
	return err
}

// took returns how long each change took to arrive, in microseconds, sorted. One that did not before
// the next but one counts as if it had arrived then.
func (c *changer) took() (took []float64, missed int, err error) {
	arrivals, err := c.child.finish(patience)
	if err != nil {
		return nil, 0, err
	}
	for i, sent := range c.sent[:len(c.sent)-2] {
		late := float64(c.sent[i+2].at.Sub(sent.at))
		arrived := false
		for n := 0; !arrived && n < len(arrivals)/2; n++ {
			since := arrivals["at "+strconv.Itoa(n)] - float64(sent.at.UnixNano())
			if arrived = 0 <= since && since < late && arrivals["size "+strconv.Itoa(n)] == float64(sent.size); arrived {
				late = since
			}
		}
		if !arrived {
			missed++
		}
		took = append(took, late/1e3)
	}
	slices.Sort(took)
	return took, missed, nil
}

func childArrivals(c *child) (map[string]float64, error) {
	g, err := c.openProbed()
	if err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	last := c.Size
	g.mu.Lock()
	g.each = func(at time.Time, size int) {
		if size == last {
			return
		}
		last = size
		n := strconv.Itoa(len(values) / 2)
		values["at "+n], values["size "+n] = float64(at.UnixNano()), float64(size)
	}
	g.mu.Unlock()
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.each = nil
	return values, nil
}

var sequenceScenario = &scenario{
	run: runSequence,
	Scenario: report.Scenario{
		Name: "sequence", Title: "one change upon another",
		About: "An endpoint is added or removed as soon as the change before it has arrived, 400 times. The time is from just before the write is sent to etcd, by another etcd client of the same process, until gRPC has told the policy that connects. The floor has no gRPC.",
		Peers: finders, Base: peerFloor,
		Metrics: []metric{
			{Name: "p50 µs", Ratio: true, Plot: true},
			{Name: "p90 µs", Ratio: true},
			{Name: "CPU µs a change", Ratio: true},
		},
		Targets: []target{
			{Case: "10 endpoints", Metric: "p50 µs", Limit: 2, Of: []string{peerFloor}},
			{Case: "100 endpoints", Metric: "p50 µs", Limit: 2, Of: []string{peerFloor}},
			{Case: "1000 endpoints", Metric: "p50 µs", Limit: 3, Of: []string{peerFloor}},
			{Case: "1000 endpoints", Metric: "p50 µs", Ahead: true, Of: []string{peerEtcd}},
		},
	},
}

// runSequence times changes of which each is made when the one before it has arrived.
func runSequence(ctx context.Context, b *bench) error {
	etcd, err := startEtcd(b.dir)
	if err != nil {
		return err
	}
	defer etcd.close()
	for _, size := range []int{10, 100, 1000} {
		err := b.each(ctx, finders, func(peer string, round int) error {
			if err := etcd.clear(ctx); err != nil {
				return err
			}
			p, err := ready(ctx, etcd, params{Role: "sequence", Peer: peer, Key: serviceKey, Size: size, Conns: 1, Changes: 400})
			if err != nil {
				return err
			}
			defer p.end()
			values, err := p.finish(patience)
			if err != nil {
				return err
			}
			b.record(fmt.Sprintf("%d endpoints", size), peer, round, values)
			return nil
		})
		if err != nil {
			return fmt.Errorf("%d endpoints: %w", size, err)
		}
	}
	return nil
}

func childSequence(c *child) (map[string]float64, error) {
	g, err := c.openProbed()
	if err != nil {
		return nil, err
	}
	writer, err := c.client()
	if err != nil {
		return nil, err
	}
	defer writer.Close()
	if _, err := writer.Get(context.Background(), "bench/warm/"); err != nil {
		return nil, err
	}
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	changer := &changer{client: writer, style: styleOf(c.Peer, c.Key), size: c.Size}
	took := make([]float64, c.Changes)
	before := used()
	for i := range took {
		want := c.Size
		if !changer.added {
			want++
		}
		arrived, sent := g.expect(want), time.Now()
		if err := changer.change(context.Background()); err != nil {
			return nil, err
		}
		at, ok := within(arrived, patience)
		if !ok {
			return nil, fmt.Errorf("change %d did not arrive within %v", i, patience)
		}
		took[i] = us(at.Sub(sent))
	}
	cpu := used().cpu - before.cpu
	slices.Sort(took)
	return map[string]float64{
		"p50 µs": results.Percentile(took, 50), "p90 µs": results.Percentile(took, 90),
		"CPU µs a change": us(cpu) / float64(len(took)),
	}, nil
}

var rolloutScenario = &scenario{
	run: runRollout,
	Scenario: report.Scenario{
		Name: "rollout", Title: "rollout of 5,000 endpoints at full speed",
		About: "Each of 5,000 endpoints is replaced by a new one, as fast as etcd takes it: 10,000 changes. The figures are those of the process from the first change until all of its connections know the last one.",
		Peers: finders, Base: peerFloor,
		Metrics: []metric{
			{Name: "CPU ms", Ratio: true, Plot: true},
			{Name: "allocated MB", Ratio: true, Plot: true},
			{Name: "updates"},
		},
		Targets: []target{
			{Case: "1 connection", Metric: "CPU ms", Limit: 2, Of: []string{peerFloor}},
			{Case: "1 connection", Metric: "allocated MB", Limit: 40},
			{Case: "20 connections", Metric: "CPU ms", Limit: 2, Of: []string{peerFloor}},
		},
	},
}

// runRollout replaces all of 5,000 endpoints as fast as etcd goes.
func runRollout(ctx context.Context, b *bench) error {
	const size = 5000
	return b.follow(ctx, []int{1, 20}, size, func(ctx context.Context, etcd *server, style style) (int, error) {
		return size, etcd.rollout(ctx, style, size, size, 0)
	})
}

var churnScenario = &scenario{
	run: runChurn,
	Scenario: report.Scenario{
		Name: "churn", Title: "500 changes a second among 1,000 endpoints",
		About: "For 3 s an endpoint comes or goes every 2 ms.",
		Peers: finders, Base: peerFloor,
		Metrics: []metric{
			{Name: "CPU ms", Ratio: true, Plot: true},
			{Name: "allocated MB", Ratio: true},
			{Name: "updates"},
		},
		Targets: []target{{Case: "20 connections", Metric: "CPU ms", Limit: 1.5, Of: []string{peerFloor}}},
	},
}

// runChurn changes 500 of 1,000 endpoints a second.
func runChurn(ctx context.Context, b *bench) error {
	const size, replaced = 1000, 750
	return b.follow(ctx, []int{20}, size, func(ctx context.Context, etcd *server, style style) (int, error) {
		return replaced, etcd.rollout(ctx, style, size, replaced, 2*time.Millisecond)
	})
}

// follow measures what connections spend on following changes, which change makes; it returns how
// many endpoints it has put.
func (b *bench) follow(ctx context.Context, conns []int, size int, change func(context.Context, *server, style) (int, error)) error {
	etcd, err := startEtcd(b.dir)
	if err != nil {
		return err
	}
	defer etcd.close()
	for _, n := range conns {
		c := "1 connection"
		if n > 1 {
			c = fmt.Sprintf("%d connections", n)
		}
		err := b.each(ctx, finders, func(peer string, round int) error {
			const limit = 8 * time.Second
			if err := etcd.clear(ctx); err != nil {
				return err
			}
			p, err := ready(ctx, etcd, params{Role: "follow", Peer: peer, Key: serviceKey, Size: size, Final: size + marks, Conns: n, Limit: limit})
			if err != nil {
				return err
			}
			defer p.end()
			if err := p.tell(); err != nil {
				return err
			}
			style := styleOf(peer, serviceKey)
			put, err := change(ctx, etcd, style)
			if err != nil {
				return err
			}
			if err := putAll(ctx, etcd.client, style, size+put, size+put+marks); err != nil {
				return err
			}
			values, err := p.values(2 * limit)
			if err != nil {
				return err
			}
			b.record(c, peer, round, values)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func childFollow(c *child) (map[string]float64, error) {
	g, err := c.open()
	if err != nil {
		return nil, err
	}
	updates := 0
	g.mu.Lock()
	g.each = func(time.Time, int) { updates++ }
	g.mu.Unlock()
	arrived := g.expect(c.Final)
	runtime.GC()
	before := used()
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	_, ok := within(arrived, c.Limit)
	after := used()
	values := map[string]float64{
		"CPU ms":       ms(after.cpu - before.cpu),
		"allocated MB": float64(after.allocated-before.allocated) / 1e6,
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	values["updates"] = float64(updates)
	if !ok {
		values[cutShort] = 1
	}
	return values, nil
}

var coldScenario = &scenario{
	run: runCold,
	Scenario: report.Scenario{
		Name: "cold", Title: "cold start",
		About: "From the start of the resolver to its first state, on an etcd client that is connected. Kept is what the heap holds afterwards; the floor keeps decoded values and nothing for gRPC.",
		Peers: finders, Base: peerFloor,
		Metrics: []metric{
			{Name: "time ms", Ratio: true, Plot: true},
			{Name: "CPU ms", Ratio: true},
			{Name: "allocated MB", Ratio: true, Plot: true},
			{Name: "kept MB", Ratio: true},
		},
		Targets: []target{
			{Case: "10,000 endpoints", Metric: "time ms", Limit: 1.2, Of: []string{peerFloor}},
			{Case: "10,000 endpoints", Metric: "allocated MB", Limit: 1.2, Of: []string{peerFloor}},
		},
	},
}

// runCold times how long a connection takes to know 10,000 endpoints, from a client that is
// connected already.
func runCold(ctx context.Context, b *bench) error {
	etcd, err := startEtcd(b.dir)
	if err != nil {
		return err
	}
	defer etcd.close()
	return b.each(ctx, finders, func(peer string, round int) error {
		if err := etcd.clear(ctx); err != nil {
			return err
		}
		p, err := ready(ctx, etcd, params{Role: "cold", Peer: peer, Key: serviceKey, Size: 10_000, Conns: 1})
		if err != nil {
			return err
		}
		defer p.end()
		values, err := p.finish(patience)
		if err != nil {
			return err
		}
		b.record("10,000 endpoints", peer, round, values)
		return nil
	})
}

func childCold(c *child) (map[string]float64, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	if err := warm(c.Peer, client); err != nil {
		return nil, err
	}
	open, err := openerOf(c.Peer, c.Key, client)
	if err != nil {
		return nil, err
	}
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	held := live()
	g := &group{}
	arrived := g.expect(c.Size)
	before := used()
	if err := open(g, c.Conns); err != nil {
		return nil, err
	}
	if _, ok := within(arrived, patience); !ok {
		return nil, errors.New("not all endpoints arrived")
	}
	after := used()
	values := map[string]float64{
		"time ms":      ms(after.at.Sub(before.at)),
		"CPU ms":       ms(after.cpu - before.cpu),
		"allocated MB": float64(after.allocated-before.allocated) / 1e6,
		"kept MB":      (live() - held) / 1e6,
	}
	runtime.KeepAlive(g)
	return values, nil
}

// warm connects a peer to etcd.
func warm(peer string, client *clientv3.Client) error {
	if _, err := client.Get(context.Background(), "bench/warm/"); err != nil || peer != peerGoZero {
		return err
	}
	// It has a client of its own, which it makes for the first key.
	_, err := discov.NewSubscriber(client.Endpoints(), "bench/warm")
	return err
}

var connsScenario = &scenario{
	run: runConns,
	Scenario: report.Scenario{
		Name: "conns", Title: "100 connections to one key",
		About: "What a process asks of etcd for 100 connections, and what each holds beyond gRPC's own. The memory of a connection is that of the 99 after the first, which are added when the first has brought what is shared.",
		Peers: finders[1:],
		Metrics: []metric{
			{Name: "lists"},
			{Name: "watches"},
			{Name: "goroutines a connection"},
			{Name: "KB a connection", Plot: true},
			{Name: "shared KB"},
		},
		Targets: []target{
			{Case: "1,000 endpoints", Metric: "lists", Limit: 1},
			{Case: "1,000 endpoints", Metric: "watches", Limit: 1},
			{Case: "1,000 endpoints", Metric: "goroutines a connection", Limit: 0.1},
			{Case: "1,000 endpoints", Metric: "KB a connection", Limit: 2},
		},
	},
}

// runConns counts what 100 connections to one key ask of etcd and cost.
func runConns(ctx context.Context, b *bench) error {
	const size, conns = 1000, 100
	return b.each(ctx, finders[1:], func(peer string, round int) error {
		cluster, err := etcdtest.New(filepath.Join(b.dir, strconv.Itoa(len(b.runs))))
		if err != nil {
			return err
		}
		defer cluster.Close()
		if err := putAll(ctx, cluster.Admin(), styleOf(peer, serviceKey), 0, size); err != nil {
			return err
		}
		p, err := spawn(params{Role: "conns", Peer: peer, Key: serviceKey, Endpoints: cluster.Endpoints(), Size: size, Conns: conns})
		if err != nil {
			return err
		}
		defer p.end()
		values, err := p.values(patience)
		if err != nil {
			return err
		}
		values["lists"] = float64(cluster.Calls().Count(etcdtest.Range, serviceKey))
		values["watches"] = float64(cluster.Calls().Count(etcdtest.Watch, serviceKey))
		b.record("1,000 endpoints", peer, round, values)
		return nil
	})
}

func childConns(c *child) (map[string]float64, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	if err := warm(peerEtcd, client); err != nil { // for all: go-zero's own client is a cost of its own
		return nil, err
	}
	open, err := openerOf(c.Peer, c.Key, client)
	if err != nil {
		return nil, err
	}
	goroutines := runtime.NumGoroutine()
	g := &group{}
	first, err := hold(c, g, open, 1)
	if err != nil {
		return nil, err
	}
	rest, err := hold(c, g, open, c.Conns-1)
	if err != nil {
		return nil, err
	}
	values := map[string]float64{
		"goroutines a connection": float64(runtime.NumGoroutine()-goroutines) / float64(c.Conns),
		"KB a connection":         math.Max(0, rest/float64(c.Conns-1)/1e3),
		"shared KB":               first / 1e3,
	}
	runtime.KeepAlive(g)
	return values, nil
}

// hold opens n connections more and returns what they hold on the heap, their stubs included.
func hold(c *child, g *group, open opener, n int) (float64, error) {
	before := live()
	if err := open(g, n); err != nil {
		return 0, err
	}
	if _, ok := within(g.expect(c.Size), patience); !ok {
		return 0, fmt.Errorf("not all of %d connections have %d endpoints", n, c.Size)
	}
	settle()
	return live() - before, nil
}

// settle waits until the number of goroutines stays the same for a while.
func settle() {
	last, since := runtime.NumGoroutine(), time.Now()
	for began := time.Now(); time.Since(began) < 5*time.Second && time.Since(since) < 300*time.Millisecond; {
		time.Sleep(20 * time.Millisecond)
		if n := runtime.NumGoroutine(); n != last {
			last, since = n, time.Now()
		}
	}
}
