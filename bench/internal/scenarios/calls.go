package scenarios

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

// What the scenario calls does.
const (
	callsBackends = 3                    // that serve
	callsSize     = 1000                 // endpoints, those included
	callsPace     = 2 * time.Millisecond // from one change to the next
	callsWarm     = time.Second
	callsMeasured = 3 * time.Second
	callsCallers  = 4
)

// gRPCTries is why calls beside churn cost more than those to a list that stays.
const gRPCTries = "gRPC tries each new address"

var callsScenario = &Scenario{
	run: runCalls,
	Scenario: report.Scenario{
		Name:  "calls",
		Title: "calls while 1,000 endpoints churn",
		About: fmt.Sprintf("%d of 1,000 endpoints serve, in another process; at each other address nobody listens, and a connection is refused at once. "+
			"Of these one comes or goes every %v while %d callers call without a pause, for %v after %v of it. Static knows the %[1]d that serve. "+
			"CPU is the client process's, and attempts are those to connect.",
			callsBackends, callsPace, callsCallers, callsMeasured, callsWarm),
		Peers: callers, Base: peerStatic,
		Metrics: []metric{
			{Name: "p50 µs", Ratio: true, Plot: true},
			{Name: "p99 µs", Ratio: true, Plot: true},
			{Name: "calls a second", Ratio: true, More: true},
			{Name: "CPU µs a call", Ratio: true, Plot: true},
			{Name: "attempts a second"},
			{Name: "failed"},
		},
		Targets: []target{
			{Case: "1,000 endpoints", Metric: "p50 µs", Limit: 1.05, Of: []string{peerStatic}, Reason: gRPCTries},
			{Case: "1,000 endpoints", Metric: "p99 µs", Limit: 1.5, Of: []string{peerStatic}, Reason: gRPCTries},
			{Case: "1,000 endpoints", Metric: "calls a second", Limit: 0.95, Of: []string{peerStatic}, Reason: gRPCTries},
		},
	},
}

// runCalls measures the calls of a client while endpoints that it does not need come and go.
func runCalls(ctx context.Context, b *bench) error {
	return b.withBackends(func(etcd *server, farm *farm) error {
		return b.measure(ctx, "1,000 endpoints", callers, func(peer string) (map[string]float64, error) {
			return b.callsDuringChurn(ctx, etcd, farm, peer)
		})
	})
}

func (b *bench) callsDuringChurn(ctx context.Context, etcd *server, farm *farm, peer string) (map[string]float64, error) {
	if err := etcd.clear(ctx); err != nil {
		return nil, err
	}
	style := styleAt(peer, serviceKey, func(i int) string {
		if i < 0 {
			return farm.addr(-i)
		}
		return fmt.Sprintf("127.2.%d.%d:1", i>>8, i&255) // port 1 is tcpmux's, which nobody serves
	})
	const others = callsSize - callsBackends
	if err := putAll(ctx, etcd.client, style, -callsBackends, others); err != nil {
		return nil, err
	}
	p, err := b.spawnTo(params{
		Role: "calls", Peer: peer, Endpoints: etcd.endpoints(), Key: serviceKey, Conns: callsCallers,
		Backends: farm.addrs(callsBackends + 1)[1:], Limit: callsMeasured,
	}, "ready", patience)
	if err != nil {
		return nil, err
	}
	defer p.end()
	const lasts = callsWarm + callsMeasured + 100*time.Millisecond
	var churn errgroup.Group
	churn.Go(func() error { return etcd.rollout(ctx, style, others, int(lasts/callsPace/2), callsPace) })
	time.Sleep(callsWarm)
	values, err := p.finish(patience)
	if err != nil {
		return nil, err
	}
	return values, churn.Wait()
}

func childCalls(c *child) (map[string]float64, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	dial, err := dialerOf(c.Peer, client, c.Backends)
	if err != nil {
		return nil, err
	}
	var attempts atomic.Int64
	conn, err := dial(c.Key, countDials(&attempts))
	if err != nil {
		return nil, err
	}
	callers := callWithoutPause(conn, c.Conns)
	time.Sleep(300 * time.Millisecond)
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	_, _, _ = callers.take() // what was before does not count
	before, tried := used(), attempts.Load()
	time.Sleep(c.Limit)
	after := used()
	tried = attempts.Load() - tried
	took, failed, err := callers.take()
	if len(took) == 0 {
		return nil, fmt.Errorf("none of %d calls returned well: %w", failed, err)
	}
	lasted := after.at.Sub(before.at).Seconds()
	return map[string]float64{
		"p50 µs": results.Percentile(took, 50), "p99 µs": results.Percentile(took, 99),
		"calls a second":    float64(len(took)) / lasted,
		"CPU µs a call":     us(after.cpu-before.cpu) / float64(len(took)),
		"attempts a second": float64(tried) / lasted,
		"failed":            float64(failed),
	}, nil
}

// pauseless is callers that call without a pause, until the process ends.
type pauseless struct {
	each []pauselessCaller
	text atomic.Pointer[string] // of the calls that begin
}

type pauselessCaller struct {
	mu     sync.Mutex
	took   []float64 // µs, of calls that returned well
	failed int
	err    error // the last
}

// callWithoutPause starts n callers. Only a call that fails is followed by a pause.
func callWithoutPause(conn *grpc.ClientConn, n int) *pauseless {
	p := &pauseless{each: make([]pauselessCaller, n)}
	p.text.Store(new(string))
	for i := range p.each {
		go func() {
			for {
				began := time.Now()
				err := checkAs(context.Background(), conn, *p.text.Load())
				p.each[i].note(time.Since(began), err)
				if err != nil {
					time.Sleep(time.Millisecond) // lest it keeps go-zero's breaker open
				}
			}
		}()
	}
	return p
}

func (c *pauselessCaller) note(took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed, c.err = c.failed+1, err
		return
	}
	c.took = append(c.took, us(took))
}

// take returns how many microseconds each call took that returned well since take was called last, sorted,
// and what became of the others.
func (p *pauseless) take() (took []float64, failed int, err error) {
	for i := range p.each {
		c := &p.each[i]
		c.mu.Lock()
		took = append(took, c.took...)
		failed += c.failed
		if c.err != nil {
			err = c.err
		}
		c.took, c.failed, c.err = c.took[:0], 0, nil
		c.mu.Unlock()
	}
	slices.Sort(took)
	return took, failed, err
}
