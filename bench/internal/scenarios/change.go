package scenarios

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

// gRPCsPart is why a change takes longer, beside the floor's, than it should.
const gRPCsPart = "the floor has neither gRPC's hand-over nor a policy that plans the calls of all endpoints"

var changeScenario = &Scenario{
	run: runChange,
	Scenario: report.Scenario{
		Name: "change", Title: "one change to state",
		About: "An endpoint is added or removed, long after the change before it. The time is from just before the write, by another process, until gRPC has handed the new state to the load balancing policy, and in this project until that plans the calls by it. The floor has no gRPC.",
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
		for round := range b.Rounds {
			if err := b.change(ctx, etcd, size, round); err != nil {
				return fmt.Errorf("%d endpoints, round %d: %w", size, round, err)
			}
		}
	}
	return nil
}

func (b *bench) change(ctx context.Context, etcd *server, size, round int) error {
	const warm, counted = 20, 120
	if err := etcd.clear(ctx); err != nil {
		return err
	}
	changers := make([]*changer, len(finders))
	for i, peer := range finders {
		c := &changer{client: etcd.client, style: styleOf(peer, keyOf(i)), size: size}
		var err error
		c.child, err = b.ready(ctx, etcd, params{Role: "arrivals", Peer: peer, Key: keyOf(i), Size: size, Conns: 1})
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
