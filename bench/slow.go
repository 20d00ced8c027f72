package bench

import (
	"fmt"
	"time"
)

// policyOf maps peers to their load balancing policies. All but the floor's measure the duration of calls.
var policyOf = map[string]string{peerFloor: "round_robin", peerOurs: "etcd_peak_ewma", peerGoZero: "p2c_ewma"}

const (
	slowCallers  = 200
	slowUsual    = 40 * time.Millisecond
	slowSlow     = 10 * slowUsual
	slowWarm     = 500 * time.Millisecond
	slowMeasured = time.Second
)

// slow compares how policies handle one server that is ten times slower than the others.
var slow = &scenario{"Slow", "servers", []int{5}, []string{peerFloor, peerOurs, peerGoZero}, func(r *run) (map[string]figures, error) {
	return r.each(1, func(peer string) (values figures, err error) {
		p, err := r.start(params{Role: "slow", Peer: peer, Size: r.size, Conns: r.part(slowCallers), Lasts: r.lasting(slowMeasured)}, &values)
		if err == nil {
			p.end()
		}
		return values, err
	})
}}

func childSlow(c *child) (figures, error) {
	slow, first, err := serve(1, slowSlow)
	if err != nil {
		return nil, err
	}
	_, others, err := serve(c.Size-1, slowUsual)
	if err != nil {
		return nil, err
	}
	conn, err := fixedConn(append(first, others...), policyOf[c.Peer])
	if err != nil {
		return nil, err
	}
	callAll(conn, c.Conns, slowWarm)
	before := slow[0].calls.Load()
	took, failed := callAll(conn, c.Conns, c.Lasts)
	if failed > 0 {
		return nil, fmt.Errorf("%d calls failed", failed)
	}
	values := latencies(took)
	values["slow-%"] = float64(slow[0].calls.Load()-before) / float64(len(took)) * 100
	return values, nil
}
