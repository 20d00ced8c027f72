package bench

import (
	"slices"
	"time"
)

const (
	turnCalls = 100            // measured calls
	turnWarm  = turnCalls / 10 // calls before them, so that no turn pays for the pause
)

// rpc compares calls to servers in the caller's process. The peers take turns of some hundred calls.
var rpc = &scenario{"RPC", "servers", []int{3}, finders, func(r *run) (map[string]figures, error) {
	return inTurns(r, params{Role: "rpc", Conns: r.size}, r.part(80), (*proc).ask, medians)
}}

// medians returns the median of each unit.
func medians(all []figures) figures {
	values := make(figures)
	for unit := range all[0] {
		var of []float64
		for _, one := range all {
			of = append(of, one[unit])
		}
		slices.Sort(of)
		values[unit] = of[len(of)/2]
	}
	return values
}

// childRPC makes the calls of a turn at each request and reports the time of one.
func childRPC(c *child) (figures, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	if _, c.Backends, err = serve(c.Conns, 0); err != nil {
		return nil, err
	}
	etcd := &server{client: client}
	if err := etcd.putAll(styleAt(c.Peer, c.Key, func(i int) string { return c.Backends[i] }), 0, c.Conns); err != nil {
		return nil, err
	}
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	callAll(conn, 1, 300*time.Millisecond) // until all servers are in use
	values := figures{}
	for {
		if err := c.meet(values); err != nil {
			return nil, err
		}
		var before usage
		for i := range turnWarm + turnCalls {
			if i == turnWarm {
				before = used()
			}
			if err := check(conn); err != nil {
				return nil, err
			}
		}
		values = before.since(turnCalls)
	}
}
