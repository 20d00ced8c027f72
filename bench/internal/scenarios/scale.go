package scenarios

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

const (
	scaleCalming    = 35 * time.Second // until processes ask as rarely as they ever do
	scaleMeasured   = 30 * time.Second // how long etcd is watched while nothing happens
	scaleChanges    = 10
	processesAChild = 250 // simulated client processes in one real one
)

// ScaleEndpoints is how many endpoints the service has that a growing number of processes calls.
const ScaleEndpoints = 100

var scaleScenario = &Scenario{
	run: runScale, Extra: true,
	Scenario: report.Scenario{
		Name: "scale", Title: "scale", Page: "scaling.md",
		Peers: []string{peerOurs},
		Metrics: []metric{
			{Name: "first state ms"},
			{Name: "kept KB"},
			{Name: "to state µs"},
			{Name: "CPU a change µs"},
			{Name: "allocated a change KB"},
			{Name: "watches"},
			{Name: "streams"},
			{Name: "messages a second"},
			{Name: "lists a second"},
			{Name: "bytes out a second"},
			{Name: "etcd CPU %"},
			{Name: "etcd RSS MB"},
			{Name: "etcd CPU a change ms"},
			{Name: "to the last client ms", Plot: true},
		},
		// A request each 4 s from each of a process's watches, as it was once, made 489 messages a second.
		Targets: []target{{Case: "1000 processes", Metric: "messages a second", Limit: 48.9}},
	},
}

// runScale grows the number of endpoints for one client, then the number of client processes, then
// puts etcd's grpc-proxy between.
func runScale(ctx context.Context, b *bench) error {
	etcd, err := startEtcd(b.dir)
	if err != nil {
		return err
	}
	for round := range b.Rounds {
		for _, size := range []int{10, 100, 1000, 10_000} {
			if err := b.grow(ctx, etcd, size, round); err != nil {
				etcd.close()
				return fmt.Errorf("%d endpoints: %w", size, err)
			}
		}
	}
	etcd.close()
	for round := range b.Rounds {
		if err := b.fleets(ctx, round); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}

// grow measures one connection to a service of so many endpoints.
func (b *bench) grow(ctx context.Context, etcd *server, size, round int) error {
	if err := etcd.clear(ctx); err != nil {
		return err
	}
	p, err := b.ready(ctx, etcd, params{
		Role: "grow", Peer: peerOurs, Key: serviceKey, Size: size, Conns: 1, Changes: scaleChanges, Limit: patience,
	})
	if err != nil {
		return err
	}
	defer p.end()
	sent, err := addOneByOne(ctx, etcd.client, size, []*proc{p}, 700*time.Millisecond)
	if err != nil {
		return err
	}
	values, err := p.values(patience)
	if err != nil {
		return err
	}
	values["to state µs"] = lastArrival(sent, []map[string]float64{values}) * 1e6
	dropArrivals(values)
	b.record(strconv.Itoa(size)+" endpoints", peerOurs, round, values)
	return nil
}

// addOneByOne adds endpoints, and returns when each was sent.
func addOneByOne(ctx context.Context, client *clientv3.Client, size int, children []*proc, apart time.Duration) ([]time.Time, error) {
	for _, p := range children {
		if err := p.tell(); err != nil {
			return nil, err
		}
	}
	var sent []time.Time
	for i := range scaleChanges {
		time.Sleep(apart)
		sent = append(sent, time.Now())
		if err := putAll(ctx, client, styleOf(peerOurs, serviceKey), size+i, size+i+1); err != nil {
			return nil, err
		}
	}
	return sent, nil
}

// lastArrival is the median over the changes of how long each took to the last client, in seconds.
func lastArrival(sent []time.Time, children []map[string]float64) float64 {
	var took []float64
	for i, at := range sent {
		last := 0.0
		for _, values := range children {
			last = max(last, values["at "+strconv.Itoa(i)])
		}
		took = append(took, (last-float64(at.UnixNano()))/1e9)
	}
	return results.Median(took)
}

func dropArrivals(values map[string]float64) {
	for i := range scaleChanges {
		delete(values, "at "+strconv.Itoa(i))
	}
}

// arrivalsOf waits for one endpoint more after the other, and adds when each had arrived everywhere.
func arrivalsOf(c *child, g *group, values map[string]float64) error {
	for i := range c.Changes {
		at, ok := within(g.expect(c.Size+i+1), c.Limit)
		if !ok {
			return fmt.Errorf("change %d did not arrive", i)
		}
		values["at "+strconv.Itoa(i)] = float64(at.UnixNano())
	}
	return nil
}

func childGrow(c *child) (map[string]float64, error) {
	open, err := c.warmOpener()
	if err != nil {
		return nil, err
	}
	held, began, g := live(), time.Now(), &group{}
	if err := open(g, c.Conns); err != nil {
		return nil, err
	}
	at, ok := within(g.expect(c.Size), patience)
	if !ok {
		return nil, errors.New("not all endpoints arrived")
	}
	values := map[string]float64{"first state ms": ms(at.Sub(began))}
	settle()
	values["kept KB"] = (live() - held) / 1e3
	before := used()
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	if err := arrivalsOf(c, g, values); err != nil {
		return nil, err
	}
	after := used()
	values["CPU a change µs"] = us(after.cpu-before.cpu) / scaleChanges
	values["allocated a change KB"] = float64(after.allocated-before.allocated) / scaleChanges / 1e3
	runtime.KeepAlive(g)
	return values, nil
}

// fleets measures what so many client processes, each with one connection, are to etcd. Every fleet has an etcd of its
// own. All rest at the same time, which takes next to nothing; then one after the other has changes to follow.
func (b *bench) fleets(ctx context.Context, round int) error {
	all := []*fleet{{processes: 1}, {processes: 10}, {processes: 100}, {processes: 1000}, {processes: 100, proxied: true}}
	for _, f := range all {
		defer f.end()
		if err := b.startFleet(ctx, f, round); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	if err := sleep(ctx, scaleCalming); err != nil {
		return err
	}
	var resting errgroup.Group
	for _, f := range all {
		resting.Go(func() error { return f.etcd.atRest(ctx, f.values) })
	}
	if err := resting.Wait(); err != nil {
		return err
	}
	for _, f := range all {
		if err := f.change(ctx); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		b.record(f.String(), peerOurs, round, f.values)
	}
	return nil
}

// fleet is client processes of one etcd.
type fleet struct {
	processes int
	proxied   bool
	etcd      *counted
	children  []*proc
	values    map[string]float64
}

// String is the fleet's case in the results.
func (f *fleet) String() string {
	if f.proxied {
		return strconv.Itoa(f.processes) + " processes behind grpc-proxy"
	}
	return strconv.Itoa(f.processes) + " processes"
}

func (f *fleet) end() {
	for _, p := range f.children {
		p.end()
	}
	if f.etcd != nil {
		f.etcd.close()
	}
}

// startFleet starts a fleet's etcd and its processes, and waits until these know the endpoints.
func (b *bench) startFleet(ctx context.Context, f *fleet, round int) (err error) {
	f.values = make(map[string]float64)
	if f.etcd, err = b.startCounted(fmt.Sprintf("%s/scale-%d-%s", b.dir, round, report.Slug(f.String())), f.proxied); err != nil {
		return err
	}
	if err := putAll(ctx, f.etcd.client, styleOf(peerOurs, serviceKey), 0, ScaleEndpoints); err != nil {
		return err
	}
	f.children, err = b.startProcesses(f.etcd.endpoint, f.processes)
	return err
}

// change adds what changes take and cost, when the fleet has been at rest.
func (f *fleet) change(ctx context.Context) error {
	before, err := f.etcd.stats()
	if err != nil {
		return err
	}
	sent, err := addOneByOne(ctx, f.etcd.client, ScaleEndpoints, f.children, time.Second)
	if err != nil {
		return err
	}
	var arrivals []map[string]float64
	for _, p := range f.children {
		arrived, err := p.values(patience)
		if err != nil {
			return err
		}
		arrivals = append(arrivals, arrived)
	}
	after, err := f.etcd.stats()
	if err != nil {
		return err
	}
	f.values["to the last client ms"] = lastArrival(sent, arrivals) * 1e3
	idle := f.values["etcd CPU %"] / 100 * (after["at"] - before["at"])
	f.values["etcd CPU a change ms"] = max(0, after["cpu"]-before["cpu"]-idle) * 1e3 / scaleChanges
	return nil
}

// startProcesses starts children with n simulated client processes between them, and waits until
// all know the endpoints.
func (b *bench) startProcesses(endpoint string, n int) (children []*proc, err error) {
	for left := n; left > 0; left -= processesAChild {
		p, err := b.spawn(params{
			Role: "processes", Peer: peerOurs, Key: serviceKey, Endpoints: []string{endpoint},
			Size: ScaleEndpoints, Conns: min(left, processesAChild), Changes: scaleChanges, Limit: patience,
		})
		if err != nil {
			return children, err
		}
		children = append(children, p)
	}
	for _, p := range children {
		if err := p.await("ready", 2*patience); err != nil {
			return children, err
		}
	}
	return children, nil
}

// childProcesses is several client processes in one, which share nothing.
func childProcesses(c *child) (map[string]float64, error) {
	g := &group{}
	var starting errgroup.Group
	starting.SetLimit(20)
	for range c.Conns {
		starting.Go(func() error {
			client, err := c.client()
			if err != nil {
				return err
			}
			open, err := openerOf(c.Peer, c.Key, client)
			if err != nil {
				return err
			}
			return open(g, 1)
		})
	}
	if err := starting.Wait(); err != nil {
		return nil, err
	}
	if _, ok := within(g.expect(c.Size), patience); !ok {
		return nil, errors.New("not all processes know the endpoints")
	}
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	return values, arrivalsOf(c, g, values)
}
