package main

import (
	"context"
	"time"
)

// scenario is one thing to measure.
type scenario struct {
	name, title string
	about       string // what is done, for the document
	run         func(context.Context, *bench) error
	extra       bool // not part of a run of everything

	peers   []string
	base    string   // the peer that ratios are to; "" none
	metrics []metric // columns
	targets []target
}

// metric is one figure of a run.
type metric struct {
	name  string
	ratio bool // shown beside the base peer's, too
	plot  bool
}

// target is what this project is to reach.
type target struct {
	c, metric string
	ratio     bool // of the figure to the base peer's
	limit     float64
	peer      string // "" this project
}

var scenarios = []*scenario{
	{
		name: "change", title: "one change to state",
		about: "An endpoint is added or removed, long after the change before it. The time is from just before the write is sent to etcd, by another process, until the resolver has told gRPC.",
		run:   runChange, peers: finders, base: peerFloor,
		metrics: []metric{{"p50 µs", true, true}, {"p99 µs", true, true}, {"missed", false, false}},
		targets: []target{
			{c: "10 endpoints", metric: "p50 µs", ratio: true, limit: 1.05},
			{c: "1000 endpoints", metric: "p50 µs", ratio: true, limit: 1.10},
			{c: "10 endpoints", metric: "p99 µs", ratio: true, limit: 1.5},
			{c: "1000 endpoints", metric: "p99 µs", ratio: true, limit: 1.5},
		},
	},
	{
		name: "sequence", title: "one change upon another",
		about: "An endpoint is added or removed as soon as the resolver has told gRPC of the change before it, 400 times. The time is from just before the write is sent to etcd, by another etcd client of the same process, until the resolver has told gRPC.",
		run:   runSequence, peers: finders, base: peerFloor,
		metrics: []metric{{"p50 µs", true, true}, {"p90 µs", true, false}, {"CPU µs a change", true, false}},
		targets: []target{
			{c: "10 endpoints", metric: "p50 µs", ratio: true, limit: 2},
			{c: "1000 endpoints", metric: "p50 µs", ratio: true, limit: 3},
		},
	},
	{
		name: "rollout", title: "rollout of 5,000 endpoints at full speed",
		about: "Each of 5,000 endpoints is replaced by a new one, as fast as etcd takes it: 10,000 changes. The figures are those of the process from the first change until all of its connections know the last one.",
		run:   runRollout, peers: finders, base: peerFloor,
		metrics: []metric{{"CPU ms", true, true}, {"allocated MB", true, true}, {"updates", false, false}},
		targets: []target{
			{c: "1 connection", metric: "CPU ms", ratio: true, limit: 2},
			{c: "1 connection", metric: "allocated MB", limit: 40},
			{c: "20 connections", metric: "CPU ms", ratio: true, limit: 2},
		},
	},
	{
		name: "churn", title: "500 changes a second among 1,000 endpoints",
		about: "For 3 s an endpoint comes or goes every 2 ms.",
		run:   runChurn, peers: finders, base: peerFloor,
		metrics: []metric{{"CPU ms", true, true}, {"allocated MB", true, false}, {"updates", false, false}},
		targets: []target{{c: "20 connections", metric: "CPU ms", ratio: true, limit: 1.5}},
	},
	{
		name: "cold", title: "cold start",
		about: "From the start of the resolver to its first state, on an etcd client that is connected. Kept is what the heap holds afterwards; the floor keeps decoded values and nothing for gRPC.",
		run:   runCold, peers: finders, base: peerFloor,
		metrics: []metric{{"time ms", true, true}, {"CPU ms", true, false}, {"allocated MB", true, true}, {"kept MB", true, false}},
		targets: []target{
			{c: "10,000 endpoints", metric: "time ms", ratio: true, limit: 1.2},
			{c: "10,000 endpoints", metric: "allocated MB", ratio: true, limit: 1.2},
		},
	},
	{
		name: "conns", title: "100 connections to one key",
		about: "What a process asks of etcd for 100 connections, and what each holds beyond gRPC's own. The memory of a connection is that of the 99 after the first, which are added when the first has brought what is shared.",
		run:   runConns, peers: finders[1:],
		metrics: []metric{{"lists", false, false}, {"watches", false, false}, {"goroutines a connection", false, false}, {"KB a connection", false, true}, {"shared KB", false, false}},
		targets: []target{
			{c: "1,000 endpoints", metric: "lists", limit: 1},
			{c: "1,000 endpoints", metric: "watches", limit: 1},
			{c: "1,000 endpoints", metric: "goroutines a connection", limit: 0.1},
			{c: "1,000 endpoints", metric: "KB a connection", limit: 2},
		},
	},
	{
		name: "registrations", title: "100 registrations of one process",
		about: "At a lease TTL of 10 s, counted over 20 s of rest, then closed, and the etcd client with them. Goroutines are those beyond a connected etcd client's.",
		run:   runRegistrations, peers: finders,
		metrics: []metric{{"leases", false, false}, {"keepalives a minute", false, true}, {"goroutines", false, false}, {"goroutines left", false, false}, {"keys left", false, false}},
		targets: []target{
			{metric: "leases", limit: 1},
			{metric: "keepalives a minute", limit: 18},
			{metric: "goroutines", limit: 10},
			{metric: "goroutines left", limit: 0},
		},
	},
	{
		name: "rpc", title: "unary calls over 3 backends",
		about: "Health checks by round robin, client and servers in one process, the connections taking turns of 100 calls.",
		run:   runRPC, peers: callers, base: peerStatic,
		metrics: []metric{{"µs a call", true, true}, {"CPU µs a call", true, false}, {"allocations a call", true, false}},
		targets: []target{
			{c: "3 backends", metric: "µs a call", ratio: true, limit: 1.02},
			{c: "3 backends", metric: "allocations a call", ratio: true, limit: 1.005},
		},
	},
	{
		name: "instances", title: "a call to each of 3 instances",
		about: "Health checks of three connected instances at once: by `runtime.Each`, and by a connection that is kept for each of them (static). Client and servers are one process, the two take turns of 100 rounds.",
		run:   runInstances, peers: peersOfInstances, base: peerStatic,
		metrics: []metric{{"µs a round", true, true}, {"KB a round", true, false}, {"allocations a round", true, false}},
		targets: []target{{c: "3 instances", metric: "µs a round", ratio: true, limit: 1.5}},
	},
	{
		name: "slow", title: "one of 5 backends is ten times slower",
		about: "200 callers call for 1.5 s, after 1 s of it. One backend takes 400 ms and each other 40 ms. This project picks by etcd_peak_ewma, go-zero by its p2c_ewma, kratos by its p2c.",
		run:   runSlow, peers: pickers, base: peerGoZero,
		metrics: []metric{{"p50 ms", false, false}, {"p99 ms", true, true}, {"calls to the slow one, %", false, false}},
		targets: []target{
			{c: "5 backends", metric: "p99 ms", ratio: true, limit: 1},
			{c: "5 backends", metric: "p99 ms", limit: float64(slowSlow/time.Millisecond) / 2}, // half of round robin's
		},
	},
	callsScenario,
	joinsScenario,
	startScenario,
	{
		name: "recovery", title: "recovery",
		about: "A client is cut off from etcd for 3 s, in which endpoints come and history is compacted: until it knows of them. A registration loses its key, then its lease: until the key is back. Never is not within 8 s.",
		run:   runRecovery, peers: finders[1:],
		metrics: []metric{{"after a cut with compaction, s", false, true}, {"after the lease is revoked, s", false, true}, {"after the key is deleted, s", false, true}},
		targets: []target{
			{metric: "after a cut with compaction, s", limit: 0.5},
			{metric: "after the lease is revoked, s", limit: 1},
			{metric: "after the key is deleted, s", limit: 0.1},
		},
	},
	{
		name: "away", title: "the first call while etcd is away",
		about: "With a deadline of 2 s. etcd comes back when the call has returned; then calls are made until one works. Never is not within 20 s for the first and 10 s for the second.",
		run:   runAway, peers: callers[1:],
		metrics: []metric{{"first call returns, s", false, true}, {"works after, s", false, true}},
		targets: []target{
			{metric: "first call returns, s", limit: 2.05},
			{metric: "works after, s", limit: 1},
		},
	},
	{
		name: "generator", title: "generating",
		about: "The plugin and gRPC's own generate for the same request, with the option on every service.",
		run:   runGenerator, peers: []string{peerGRPC, peerGenerator}, base: peerGRPC,
		metrics: []metric{{"user CPU s", true, true}, {"peak MB", true, true}, {"files", false, false}},
		targets: []target{
			{c: "*", metric: "user CPU s", ratio: true, limit: 0.8, peer: peerGenerator},
			{c: "*", metric: "peak MB", ratio: true, limit: 1, peer: peerGenerator},
		},
	},
	{
		name: "scale", title: "scale", extra: true,
		run: runScale, peers: []string{peerOurs},
		metrics: []metric{
			{"first state ms", false, false}, {"kept KB", false, false}, {"to state µs", false, false},
			{"CPU a change µs", false, false}, {"allocated a change KB", false, false},
			{"watches", false, false}, {"streams", false, false}, {"messages a second", false, false}, {"lists a second", false, false},
			{"bytes out a second", false, false}, {"etcd CPU %", false, false}, {"etcd RSS MB", false, false},
			{"etcd CPU a change ms", false, false}, {"to the last client ms", false, true},
		},
	},
}
