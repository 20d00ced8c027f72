package bench

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

const (
	callsServing  = 3                    // the number of endpoints that serve
	callsPace     = 2 * time.Millisecond // the time between changes
	callsMeasured = 3 * time.Second      // after a warm-up, which takes a third as long
	callsCallers  = 4
)

// calls measures a client that calls without a pause while endpoints are added
// and removed. A few endpoints, in another process, serve. All other addresses
// refuse connections at once. The floor knows only the addresses that serve.
var calls = &scenario{"Calls", "endpoints", []int{1000}, finders, runCalls}

func runCalls(r *run) (results, error) {
	var backends []string
	p, err := r.start(params{Role: "backends", Conns: callsServing}, &backends)
	if err != nil {
		return nil, err
	}
	defer p.end()

	return r.measureEach(1, func(peer string) (figures, error) {
		return r.callsDuringChurn(peer, backends)
	})
}

func (r *run) callsDuringChurn(peer string, backends []string) (figures, error) {
	if err := r.etcd.clear(); err != nil {
		return nil, err
	}

	addr := func(i int) string {
		if i < 0 {
			return backends[-1-i]
		}

		// no process serves port 1, tcpmux
		return fmt.Sprintf("127.2.%d.%d:1", i>>8, i&255)
	}

	style := styleAt(peer, serviceKey, addr)
	if err := r.etcd.putAll(style, -len(backends), r.size); err != nil {
		return nil, err
	}

	p := params{
		Role:     "calls",
		Peer:     peer,
		Key:      serviceKey,
		Backends: backends,
		Conns:    callsCallers,
		Lasts:    r.lasting(callsMeasured),
	}

	child, err := r.ready(p)
	if err != nil {
		return nil, err
	}
	defer child.end()

	replaced := int(p.Lasts * 3 / 2 / callsPace / 2)

	var churn errgroup.Group
	churn.Go(func() error { return r.etcd.rollout(style, r.size, replaced, callsPace) })
	values, err := child.ask()

	return values, errors.Join(err, churn.Wait())
}

// childBackends serves until it is killed.
func childBackends(c *child) figures {
	_, addrs := serve(c.Conns, 0)
	c.meet(addrs)

	return nil
}

func childCalls(c *child) figures {
	var dialer net.Dialer
	var dials atomic.Int64
	conn := c.dial(grpc.WithContextDialer(
		func(ctx context.Context, addr string) (net.Conn, error) {
			dials.Add(1)
			return dialer.DialContext(ctx, "tcp", addr)
		}))

	callAll(conn, c.Conns, 300*time.Millisecond)
	c.meet("ready")
	callAll(conn, c.Conns, c.Lasts/3)

	before := used()
	dialed := dials.Load()
	took, failed := callAll(conn, c.Conns, c.Lasts)

	if len(took) == 0 {
		log.Fatal("no call succeeded")
	}

	cost := before.since(len(took))
	values := latencies(took)
	values["cpu-ns/op"] = cost["cpu-ns/op"]
	values["calls/s"] = 1e9 / cost["ns/op"]
	values["dials/s"] = float64(dials.Load()-dialed) / time.Since(before.at).Seconds()
	values["failed"] = float64(failed)

	return values
}

// callAll makes calls from several callers, without a pause, for the duration
// lasts. It returns the durations of the successful calls and the number of
// failed calls.
func callAll(
	conn *grpc.ClientConn,
	callers int,
	lasts time.Duration,
) (took []time.Duration, failed int) {
	var g sync.WaitGroup
	var mu sync.Mutex
	record := func(lasted time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()

		if err == nil {
			took = append(took, lasted)
		} else {
			failed++
		}
	}

	end := time.Now().Add(lasts)
	for range callers {
		g.Go(func() {
			for began := time.Now(); began.Before(end); began = time.Now() {
				err := check(conn)
				record(time.Since(began), err)

				if err != nil {
					// keeps go-zero's breaker from staying open
					time.Sleep(time.Millisecond)
				}
			}
		})
	}

	g.Wait()

	return took, failed
}

const (
	turnCalls = 100            // measured calls
	turnWarm  = turnCalls / 10 // unmeasured calls before them: the first calls after a pause are slow
)

// rpc compares calls to servers in the caller's process. The peers take turns
// of a hundred calls.
var rpc = &scenario{"RPC", "servers", []int{3}, finders, runRPC}

func runRPC(r *run) (results, error) {
	turn := func(p *proc, _ int) (figures, error) { return p.ask() }
	return inTurns(r, params{Role: "rpc", Conns: r.size}, r.part(80), turn, medians)
}

// medians returns the median of each unit.
func medians(all []figures) figures {
	values := make(figures)
	for unit := range all[0] {
		var sorted []float64
		for _, one := range all {
			sorted = append(sorted, one[unit])
		}

		slices.Sort(sorted)
		values[unit] = sorted[len(sorted)/2]
	}

	return values
}

// childRPC makes the calls of a turn each time the parent asks, and reports the
// figures for one call.
func childRPC(c *child) figures {
	_, c.Backends = serve(c.Conns, 0)

	etcd := &server{client: c.client()}
	style := styleAt(c.Peer, c.Key, func(i int) string { return c.Backends[i] })
	must(etcd.putAll(style, 0, c.Conns))

	conn := c.dial()
	callAll(conn, 1, 300*time.Millisecond) // long enough for all servers to be in use

	values := figures{}
	for {
		c.meet(values)

		var before usage
		for i := range turnWarm + turnCalls {
			if i == turnWarm {
				before = used()
			}

			must(check(conn))
		}

		values = before.since(turnCalls)
	}
}

// policyOf maps peers to their load balancing policies. All except round_robin
// prefer servers that answer fast.
var policyOf = map[string]string{
	peerFloor:  "round_robin",
	peerOurs:   "etcd_peak_ewma",
	peerGoZero: "p2c_ewma",
}

const (
	slowCallers  = 200
	slowUsual    = 40 * time.Millisecond
	slowSlow     = 10 * slowUsual
	slowWarm     = 500 * time.Millisecond
	slowMeasured = time.Second
)

// slow compares how policies handle one server that is ten times slower than
// the others.
var slow = &scenario{
	"Slow", "servers", []int{5}, []string{peerFloor, peerOurs, peerGoZero}, runSlow,
}

func runSlow(r *run) (results, error) {
	return r.measureEach(1, func(peer string) (values figures, err error) {
		p, err := r.start(params{
			Role:  "slow",
			Peer:  peer,
			Size:  r.size,
			Conns: r.part(slowCallers),
			Lasts: r.lasting(slowMeasured),
		}, &values)
		if err == nil {
			p.end()
		}

		return values, err
	})
}

func childSlow(c *child) figures {
	slow, first := serve(1, slowSlow)
	_, others := serve(c.Size-1, slowUsual)
	conn := fixedConn(append(first, others...), policyOf[c.Peer])
	callAll(conn, c.Conns, slowWarm)

	before := slow[0].calls.Load()
	took, failed := callAll(conn, c.Conns, c.Lasts)

	if failed > 0 {
		log.Fatalf("%d calls failed", failed)
	}

	values := latencies(took)
	values["slow-%"] = float64(slow[0].calls.Load()-before) / float64(len(took)) * 100

	return values
}
