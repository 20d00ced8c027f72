package scenarios

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

var connsScenario = &Scenario{
	run: runConns,
	Scenario: report.Scenario{
		Name: "conns", Title: "100 connections to one key",
		About: "What a process asks of etcd for 100 connections, and what each holds beyond gRPC's own. The memory of a connection is that of the 99 after the first.",
		Peers: finders[1:],
		Metrics: []metric{
			{Name: "lists"},
			{Name: "pages"},
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
		p, err := b.spawn(params{Role: "conns", Peer: peer, Key: serviceKey, Endpoints: cluster.Endpoints(), Size: size, Conns: conns})
		if err != nil {
			return err
		}
		defer p.end()
		values, err := p.values(patience)
		if err != nil {
			return err
		}
		values["pages"] = float64(cluster.Calls().Count(etcdtest.Range, serviceKey))
		for _, call := range cluster.Calls().All() {
			if call.Op == etcdtest.Range && strings.HasPrefix(call.Key, serviceKey) && !strings.HasSuffix(call.Key, "\x00") {
				values["lists"]++ // a page that follows begins just behind a key
			}
		}
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
