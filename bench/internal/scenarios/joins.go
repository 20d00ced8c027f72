package scenarios

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

// What the scenario joins does.
const (
	joinsChanges = 40                    // instances that come and go
	joinsStay    = 25 * time.Millisecond // of each
	joinsApart   = 15 * time.Millisecond
	joinsCallers = 4
	joinsSlack   = 5 * time.Millisecond // from when a withdrawal is seen until calls must heed it
)

// metricAfter is the number of calls to instances that were known to be withdrawn for joinsSlack.
var metricAfter = fmt.Sprintf("calls after %d ms", joinsSlack.Milliseconds())

var joinsScenario = &Scenario{
	run: runJoins,
	Scenario: report.Scenario{
		Name:  "joins",
		Title: "an instance comes and goes",
		About: fmt.Sprintf("Beside 3 and 100 instances, one is put to etcd, and %v later its key is deleted while it goes on serving; %d times, each time at another address. %d callers call without a pause. "+
			"Times are from the write until the first call arrives at the instance, and the last. "+
			"Calls after %[4]v are those that began %[4]v or more after another watch in the client's process had seen its key deleted. "+
			"An instance that got no call is missed, and left out of the times.",
			joinsStay, joinsChanges, joinsCallers, joinsSlack),
		Peers: etcdCallers, Base: peerEtcd,
		Metrics: []metric{
			{Name: "first call p50 ms", Ratio: true, Plot: true},
			{Name: "first call p90 ms"},
			{Name: "last call p50 ms", Ratio: true},
			{Name: "last call p90 ms", Plot: true},
			{Name: metricAfter},
			{Name: "missed"},
			{Name: "failed"},
		},
		Targets: []target{
			{Case: "3 instances", Metric: "first call p50 ms", Limit: 1.1, Of: etcdCallers[1:]},
			{Case: "100 instances", Metric: "first call p50 ms", Limit: 1.1, Of: etcdCallers[1:]},
			{Case: "3 instances", Metric: "last call p50 ms", Limit: 1.1, Of: etcdCallers[1:]},
			{Case: "3 instances", Metric: metricAfter, Limit: 0},
			{Case: "100 instances", Metric: metricAfter, Limit: 0},
		},
	},
}

// runJoins measures how soon calls follow a change.
func runJoins(ctx context.Context, b *bench) error {
	return b.withBackends(func(etcd *server, farm *farm) error {
		for _, size := range []int{3, 100} {
			err := b.measure(ctx, fmt.Sprintf("%d instances", size), etcdCallers, func(peer string) (map[string]float64, error) {
				return b.joinAndLeave(ctx, etcd, farm, peer, size)
			})
			if err != nil {
				return fmt.Errorf("%d instances: %w", size, err)
			}
		}
		return nil
	})
}

func (b *bench) joinAndLeave(ctx context.Context, etcd *server, farm *farm, peer string, size int) (map[string]float64, error) {
	if err := etcd.clear(ctx); err != nil {
		return nil, err
	}
	// Those that stay come last, so that the number of a backend is that of its withdrawal.
	style := styleAt(peer, serviceKey, farm.addr)
	if err := putAll(ctx, etcd.client, style, joinsChanges, joinsChanges+size); err != nil {
		return nil, err
	}
	p, err := b.spawnTo(params{Role: "joins", Peer: peer, Endpoints: etcd.endpoints(), Key: serviceKey, Conns: joinsCallers}, "ready", patience)
	if err != nil {
		return nil, err
	}
	defer p.end()
	var came, went [joinsChanges]time.Time
	for i := range joinsChanges {
		key, value := style(i)
		came[i] = time.Now()
		if _, err := etcd.client.Put(ctx, key, value); err != nil {
			return nil, err
		}
		time.Sleep(joinsStay)
		went[i] = time.Now()
		if _, err := etcd.client.Delete(ctx, key); err != nil {
			return nil, err
		}
		time.Sleep(joinsApart)
	}
	values, err := p.finish(patience)
	if err != nil {
		return nil, err
	}
	seen, err := farm.visits(0, joinsChanges)
	if err != nil {
		return nil, err
	}
	addVisits(values, seen, came[:], went[:])
	return values, nil
}

// addVisits adds how soon the instances were called, and for how long. One that got no call before it went is missed:
// it has no time to its first call, and none to its last if it was never called. Without any there is no figure.
func addVisits(values map[string]float64, seen []visits, came, went []time.Time) {
	var first, last []float64
	for i, v := range seen {
		if v.First == 0 || v.First > went[i].UnixNano() {
			values["missed"]++
		} else {
			first = append(first, float64(v.First-came[i].UnixNano())/1e6)
		}
		if v.Last != 0 {
			last = append(last, max(0, float64(v.Last-went[i].UnixNano())/1e6))
		}
		values[metricAfter] += float64(v.Stale)
	}
	addPercentiles(values, "first call", first)
	addPercentiles(values, "last call", last)
}

// addPercentiles adds those of times in milliseconds, if there are any.
func addPercentiles(values map[string]float64, of string, took []float64) {
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	values[of+" p50 ms"], values[of+" p90 ms"] = results.Percentile(took, 50), results.Percentile(took, 90)
}

func childJoins(c *child) (map[string]float64, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	dial, err := dialerOf(c.Peer, client, nil)
	if err != nil {
		return nil, err
	}
	conn, err := dial(c.Key)
	if err != nil {
		return nil, err
	}
	callers := callWithoutPause(conn, c.Conns)
	seer, err := c.client()
	if err != nil {
		return nil, err
	}
	go see(seer, c.Key, callers)
	time.Sleep(400 * time.Millisecond)
	if _, failed, err := callers.take(); failed > 0 {
		return nil, fmt.Errorf("%d calls failed at first: %w", failed, err)
	}
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	_, failed, _ := callers.take() // the number is what is asked for
	return map[string]float64{"failed": float64(failed), "missed": 0, metricAfter: 0}, nil
}

// see has callers send along how many withdrawals calls must heed, as a watch beside the peer's sees them.
func see(client *clientv3.Client, key string, callers *pauseless) {
	var known atomic.Int64
	for resp := range client.Watch(context.Background(), key+"/", clientv3.WithPrefix(), clientv3.WithFilterPut()) {
		for range resp.Events {
			time.AfterFunc(joinsSlack, func() {
				text := strconv.FormatInt(known.Add(1), 10)
				callers.text.Store(&text)
			})
		}
	}
}
