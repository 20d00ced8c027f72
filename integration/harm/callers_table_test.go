package harm

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const ms = time.Millisecond

// callerRows returns the table.
func callerRows() []row {
	return slices.Concat(ending(), notAnswering(), unwell(), leaving(), traffic(), fromEtcd(), options(), others(), times(policies, troubles), times(ways, troubles), times([]feature{{"by the leader", led}}, troubles[:2]))
}

// ending are rows in which something ends connections.
func ending() []row {
	calm, many := calls{callers: 30, every: 600 * ms}, calls{callers: 16}
	return []row{
		{name: "MaxConnectionAge 0.2 s", opts: ages(200 * ms)},
		{name: "MaxConnectionAge 0.5 s", opts: ages(500 * ms)},
		{name: "MaxConnectionAge 0.9 s", opts: ages(900 * ms)},
		{name: "MaxConnectionAge 0.2 s, one server", servers: 1, opts: ages(200 * ms)},
		{name: "MaxConnectionAge 0.3 s, and 50 ms of grace for calls of 0.1 s", prepare: slow(3, 100*ms), opts: []grpc.ServerOption{
			grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 300 * ms, MaxConnectionAgeGrace: 50 * ms})}},
		{name: "MaxConnectionAge 0.3 s, and 0.2 s to connect", opts: ages(300 * ms),
			prepare: func(w *world) { w.links(func(q *quality) { q.slow = 200 * ms }, w.servers...) }},
		{name: "MaxConnectionIdle 0.2 s", calls: calm,
			opts: []grpc.ServerOption{grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 200 * ms})}},
		{name: "GOAWAY after 20 requests, one server", servers: 1, serve: counted(20), calls: many},
		{name: "GOAWAY after 20 requests, three servers", serve: counted(20), calls: many},
		{name: "GOAWAY after each request", serve: counted(1), servers: 2, prepare: slowly},
		{name: "resets after 0.5 s", prepare: lives(500 * ms)},
		{name: "resets after 0.5 s, one server", servers: 1, prepare: lives(500 * ms)},
		{name: "a NAT that forgets after 0.4 s", prepare: forgets(400*ms, false), calls: calm},
		{name: "a NAT that forgets after 0.4 s and says nothing", prepare: forgets(400*ms, true), calls: calls{callers: 30, every: 600 * ms, deadline: 300 * ms}},
		{name: "ten resets in 1.5 s, and peace after", servers: 1, script: func(w *world) {
			for range 10 {
				if w.sleep(150 * ms) {
					w.servers[0].link.reset()
				}
			}
		}},
		{name: "servers killed in turn, at once back on their ports", script: replaces(300*ms, false)},
		{name: "servers that restart in order in turn on their ports", script: replaces(300*ms, true)},
		{name: "servers that restart in turn on their ports, which are closed for a moment", script: restarts(900*ms, false)},
		{name: "the one server restarts each 0.9 s", servers: 1, script: restarts(900*ms, false)},
		{name: "one of three answers SETTINGS and closes", prepare: slowly, serve: partly(1, settingsAndClose)},
		{name: "all answer SETTINGS and close", cold: true, prepare: slowly, serve: settingsAndClose},
		{name: "one of three closes what it accepts", serve: partly(1, raw(func(net.Conn) {}))},
		{name: "one of three speaks HTTP/1.1", serve: partly(1, raw(func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }))},
	}
}

// notAnswering are rows in which servers are not to be reached.
func notAnswering() []row {
	hasty := calls{callers: 12, deadline: 300 * ms}
	all := func(change func(*quality)) func(*world) {
		return func(w *world) {
			w.every(800*ms, func(int) {
				w.links(change, w.servers...)
				w.sleep(300 * ms)
				w.links(sound, w.servers...)
			})
		}
	}
	return []row{
		{name: "one of four is a black hole from the start", servers: 4, calls: hasty, prepare: first(1, hole)},
		{name: "one of four becomes a black hole", servers: 4, calls: hasty, script: after(500*ms, first(1, silent))},
		{name: "two of four become black holes", servers: 4, calls: hasty, script: after(500*ms, first(2, silent))},
		{name: "all are silent for 0.3 s, again and again", script: all(hole)},
		{name: "SYNs to one of four are dropped", servers: 4, cold: true, prepare: first(1, drop)},
		{name: "SYNs to half are dropped", servers: 4, cold: true, prepare: first(2, drop)},
		{name: "SYNs to all but one are dropped", servers: 6, cold: true, prepare: first(5, drop)},
		{name: "SYNs are dropped for 0.3 s, again and again, and connections live for 0.3 s", opts: ages(300 * ms), script: all(drop)},
		{name: "0.5 s to connect to one of two", servers: 2, cold: true, prepare: first(1, func(q *quality) { q.slow = 500 * ms })},
		{name: "half refuse from the start", servers: 4, cold: true, prepare: func(w *world) { w.servers[0].end(false); w.servers[1].end(false) }},
		{name: "half are killed", servers: 4, script: kills(2)},
		{name: "30 servers, of which 10 are dead", servers: 30, cold: true, prepare: killed(10)},
		{name: "no new connections to two of three", script: after(500*ms, func(w *world) { w.servers[0].link.lead(""); w.servers[1].link.lead("") })},
		{name: "one of three takes 0.2 s a call", prepare: slow(1, 200*ms)},
		{name: "one of three takes 0.2 s a call, least_request", ours: leastRequest, grpcs: leastRequest, prepare: slow(1, 200*ms)},
		{name: "one of three takes 0.2 s a call, peak_ewma", ours: peakEwma, prepare: slow(1, 200*ms)},
	}
}

// unwell are rows in which servers say how they are.
func unwell() []row {
	return []row{
		{name: "all are NOT_SERVING for 0.2 s each second", serve: registered(100 * ms), script: unhealthy(3, 200*ms, time.Second)},
		{name: "one is NOT_SERVING for 0.2 s each second", serve: registered(100 * ms), script: unhealthy(1, 200*ms, time.Second)},
		{name: "two of four are NOT_SERVING for a second", servers: 4, serve: registered(100 * ms), script: unhealthy(2, time.Second, 500*ms)},
		{name: "health checks, all are NOT_SERVING for 0.2 s each second", config: healthChecked, script: unhealthy(3, 200*ms, time.Second)},
		{name: "health checks, one is NOT_SERVING for 0.2 s each second", config: healthChecked, script: unhealthy(1, 200*ms, time.Second)},
		{name: "health checks, and MaxConnectionAge 0.3 s", config: healthChecked, opts: ages(300 * ms)},
		{name: "health checks, and a service that knows the empty name alone", config: healthChecked, serve: registered(100 * ms), unknown: true, cold: true},
		{name: "NOT_SERVING, one after the other", serve: registered(100 * ms), script: func(w *world) {
			w.every(300*ms, func(n int) {
				was, is := w.servers[n%3], w.servers[(n+1)%3]
				was.health.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
				is.health.SetServingStatus(service, healthpb.HealthCheckResponse_NOT_SERVING)
			})
		}},
	}
}

// leaving are rows in which servers go, and others come.
func leaving() []row {
	back := func(w *world) { w.sleep(300 * ms); w.each(func(s *server) { s.restart(true, 0) }) }
	// successor has the second server take the place of the first, and be reached a second later.
	successor := func(w *world) {
		next := w.servers[1]
		next.link.set(silent)
		w.sleep(300 * ms)
		next.start()
		next.list(true)
		var reached = make(chan struct{})
		go func() { defer close(reached); w.sleep(time.Second); next.link.set(sound) }()
		w.servers[0].end(true)
		<-reached
	}
	return []row{
		{name: "all leave in order, and are back", serve: registered(2 * time.Second), script: back, lasts: 5 * time.Second},
		{name: "the one server leaves in order, and is back", servers: 1, serve: registered(2 * time.Second), script: back, lasts: 5 * time.Second},
		{name: "two servers leave in order in turn, and are back", servers: 2, serve: registered(500 * ms), script: restarts(200*ms, true)},
		{name: "all leave in order with a drain delay of 5 s, and are back", serve: registered(5 * time.Second), script: back, lasts: 12 * time.Second},
		{name: "a rollout of one, whose successor is reached a second later", servers: 2, unlisted: later(2), serve: registered(1500 * ms), script: successor},
		{name: "a rollout of all, one after the other", servers: 6, unlisted: later(6), script: rollout(500 * ms)},
		{name: "a rollout of all, by servers of the registrar", servers: 6, unlisted: later(6), serve: registered(300 * ms), script: func(w *world) {
			for i := range 3 {
				w.sleep(200 * ms)
				w.servers[3+i].start()
				w.servers[3+i].list(true)
				w.servers[i].end(true)
				w.servers[i].list(false)
			}
		}},
		{name: "all addresses are replaced at once", servers: 6, unlisted: later(6), script: func(w *world) {
			w.sleep(500 * ms)
			for i, s := range w.servers {
				if i >= 3 {
					s.start()
					s.put()
				}
			}
			for _, s := range w.servers[:3] {
				s.remove()
			}
			w.sleep(500 * ms)
			for _, s := range w.servers[:3] {
				s.end(true)
			}
		}},
		{name: "all addresses are replaced at once, and the old servers are dead", servers: 6, unlisted: later(6), script: func(w *world) {
			w.sleep(500 * ms)
			for _, s := range w.servers[3:] {
				s.start()
			}
			for i, s := range w.servers[:3] {
				s.end(false)
				w.servers[3+i].put()
				s.remove()
			}
		}},
		{name: "all addresses are replaced while the clients are idle", servers: 6, unlisted: later(6), dial: idle, calls: bursts, script: func(w *world) {
			w.every(700*ms, func(n int) {
				from, to := w.servers[:3], w.servers[3:]
				if n%2 == 1 {
					from, to = to, from
				}
				for i := range 3 {
					to[i].start()
					to[i].put()
					from[i].remove()
					from[i].end(false)
				}
			})
		}},
		{name: "kill -9 of one of three", script: after(300*ms, kills(1))},
		{name: "kill -9 of one of two", servers: 2, script: after(300*ms, kills(1))},
		{name: "kill -9 of all, which are back after 0.5 s", script: after(500*ms, func(w *world) { w.each(func(s *server) { s.restart(false, 500*ms) }) })},
		{name: "the one server is killed, and is back elsewhere", servers: 2, unlisted: later(2), script: func(w *world) {
			w.sleep(300 * ms)
			w.servers[0].end(false)
			w.servers[1].start()
			w.servers[1].put()
			w.sleep(500 * ms)
			w.servers[0].remove()
		}},
		{name: "the last entry is deleted by hand, its server serves, and is back", script: func(w *world) {
			for _, s := range w.servers {
				s.remove()
			}
			w.sleep(time.Second)
			for _, s := range w.servers {
				s.put()
			}
		}},
		{name: "servers exchange their addresses", script: func(w *world) {
			w.every(400*ms, func(int) {
				a, b := w.servers[0].link, w.servers[1].link
				_, ofA, _ := a.now()
				_, ofB, _ := b.now()
				a.lead(ofB)
				b.lead(ofA)
				a.reset()
				b.reset()
			})
		}},
	}
}

var (
	idle   = []grpc.DialOption{grpc.WithIdleTimeout(200 * ms)}
	bursts = calls{callers: 30, every: 600 * ms}
)

// traffic are rows about calls of other kinds.
func traffic() []row {
	stream := calls{messages: 10, every: 250 * ms, callers: 16}
	return []row{
		{name: "bursts from idle", dial: idle, calls: bursts},
		{name: "bursts from idle, one of three is dead", dial: idle, calls: bursts, prepare: killed(1)},
		{name: "bursts from idle, to connect takes 0.2 s", dial: idle, calls: bursts, prepare: func(w *world) { w.links(func(q *quality) { q.slow = 200 * ms }, w.servers...) }},
		{name: "streams, and MaxConnectionAge 0.3 s", calls: stream, prepare: slow(3, 20*ms), opts: ages(300 * ms)},
		{name: "streams, and resets after 0.5 s", calls: stream, prepare: both(slow(3, 20*ms), lives(500*ms))},
		{name: "streams, and a rollout of all", calls: stream, servers: 6, unlisted: later(6), prepare: slow(6, 20*ms), script: rollout(500 * ms)},
		{name: "a deadline of 0.1 s, and one of three that takes longer", calls: calls{deadline: 100 * ms}, prepare: slow(1, 300*ms)},
		{name: "wait for ready, and MaxConnectionAge 0.2 s", calls: calls{wait: true}, opts: ages(200 * ms)},
		{name: "wait for ready, the one server is killed each 0.5 s", servers: 1, calls: calls{wait: true}, script: restarts(500*ms, false)},
		{name: "wait for ready, and nobody for a second", calls: calls{wait: true, callers: 12}, cold: true, servers: 2,
			prepare: func(w *world) { w.each(func(s *server) { s.end(false) }) },
			script:  after(time.Second, func(w *world) { w.each(func(s *server) { s.start() }) })},
		{name: "retries, and resets after 0.3 s", config: retried, prepare: lives(300 * ms)},
		{name: "retries, and one of three that says UNAVAILABLE", config: retried, prepare: errs(1, codes.Unavailable)},
		{name: "one stream at a time on a connection", opts: []grpc.ServerOption{grpc.MaxConcurrentStreams(1)}, prepare: slow(3, 10*ms), calls: calls{callers: 8}},
		{name: "one of three says RESOURCE_EXHAUSTED", prepare: errs(1, codes.ResourceExhausted)},
	}
}

// fromEtcd are rows in which etcd does something, or its content does.
func fromEtcd() []row {
	writes := func(key, value string) func(*world) {
		return func(w *world) {
			_, err := w.cluster.Admin().Put(w.t.Context(), w.namespace+key, value)
			must(w.t, err)
		}
	}
	return []row{
		{name: "etcd refuses", script: after(500*ms, func(w *world) { w.etcd.lead(""); w.etcd.reset() })},
		{name: "etcd is silent", script: after(500*ms, func(w *world) { w.etcd.set(silent) })},
		{name: "etcd is silent, and MaxConnectionAge 0.2 s", opts: ages(200 * ms), script: func(w *world) { w.etcd.set(silent) }},
		{name: "etcd is silent, and one of three is killed", script: func(w *world) { w.etcd.set(silent); w.sleep(300 * ms); w.servers[0].end(false) }},
		{name: "etcd is silent, bursts from idle", dial: idle, calls: bursts, script: func(w *world) { w.etcd.set(silent) }},
		{name: "etcd restarts", ownEtcd: true, script: func(w *world) { must(w.t, w.cluster.Restart()) }},
		{name: "etcd is wiped, and filled again", ownEtcd: true, script: func(w *world) {
			must(w.t, w.cluster.Wipe())
			for _, s := range w.servers {
				s.write()
			}
		}},
		{name: "etcd is restored from a backup of before a server came", ownEtcd: true, servers: 4, unlisted: func(i int) bool { return i == 3 }, script: func(w *world) {
			backup, err := w.cluster.Backup()
			must(w.t, err)
			w.servers[3].start()
			w.servers[3].put()
			w.sleep(300 * ms)
			must(w.t, w.cluster.RestoreBackup(backup))
			w.servers[3].write()
		}},
		{name: "etcd wakes up a second after the client", cold: true, calls: calls{wait: true},
			prepare: func(w *world) { w.etcd.set(silent) }, script: after(time.Second, func(w *world) { w.etcd.set(sound) }),
			asked: "docs/discovery.md#while-etcd-is-away: a process that has never heard from etcd knows no address"},
		{name: "the policy flips each 0.3 s", script: func(w *world) {
			w.every(300*ms, func(n int) {
				w.live([]string{serviceConfig(leastRequest, ""), serviceConfig(pickFirst, ""), serviceConfig(peakEwma, ""), serviceConfig(ringHash, ""), ""}[n%5])
			})
		}, calls: calls{deadline: time.Second}},
		{name: "the subset flips each 0.3 s", servers: 10, script: func(w *world) {
			w.every(300*ms, func(n int) { w.live(serviceConfig(below(fmt.Sprintf(`"subset":%d`, 1+n%4), ""), "")) })
		}},
		{name: "a drain moves from server to server", script: func(w *world) {
			w.every(300*ms, func(n int) { w.live(serviceConfig(below(fmt.Sprintf(`"drain":["s%d"]`, n%3), ""), "")) })
		}},
		{name: "all are drained", script: func(w *world) { w.live(serviceConfig(below(`"drain":["s0","s1","s2"]`, ""), "")) }},
		{name: "health checks by a live config, of a name that nobody knows", script: func(w *world) { w.live(`{"healthCheckConfig":{"serviceName":"nobody"}}`) },
			asked: "docs/traffic.md#health: the servers must know the name, or every call fails"},
		{name: "a broken live config", script: writes("_grpc_config/"+key, `{"loadBalancingConfig":`)},
		{name: "an entry that is no endpoint", prepare: writes(key+"/x", "what is this")},
		{name: "an entry where nobody is", prepare: writes(key+"/x", `{"Addr":"10.9.9.9:9"}`)},
		{name: "two entries of one address", prepare: func(w *world) { writes(key+"/x", fmt.Sprintf(`{"Addr":%q}`, w.servers[0].addr))(w) }},
		{name: "an entry that comes and goes", script: func(w *world) {
			w.every(50*ms, func(n int) {
				if s := w.servers[0]; n%2 == 0 {
					s.remove()
				} else {
					s.put()
				}
			})
		}},
		{name: "metadata changes each 50 ms", script: func(w *world) {
			w.every(50*ms, func(n int) {
				w.servers[n%3].tags = map[string]any{"n": n}
				w.servers[n%3].write()
			})
		}},
	}
}

// options are rows about what a user turns on.
func options() []row {
	limited := func(n int) func(*world) []runtime.Option {
		return func(*world) []runtime.Option {
			return []runtime.Option{runtime.WithLimits(runtime.Limits{Connections: n})}
		}
	}
	kill := func(w *world) { // those that serve ours
		w.sleep(500 * ms)
		for _, s := range w.servers {
			if w.us.served(s.name) {
				s.end(false)
			}
		}
	}
	return []row{
		subset(row{name: "subset of 2 of 10, whose two die", servers: 10, script: kill}),
		subset(row{name: "subset of 2 of 10, whose two swallow SYNs", servers: 10, swallow: 2, cold: true, lasts: 6 * time.Second}),
		subset(row{name: "subset of 2 of 10, and a rollout", servers: 20, unlisted: later(20), script: rollout(200 * ms)}),
		{name: "four connections, and the first four swallow SYNs", servers: 5, swallow: 4, cold: true, registry: limited(4), lasts: 6 * time.Second},
		{name: "four connections to 12 servers, and MaxConnectionAge 0.3 s", servers: 12, registry: limited(4), opts: ages(300 * ms)},
		{name: "four connections to 12 servers, of which those in use die", servers: 12, registry: limited(4), script: kill},
		{name: "slow start, and restarts in turn", serve: registered(100 * ms), ours: below(`"slowStart":{"window":"5s"}`, ""), script: restarts(400*ms, false)},
		{name: "a bound of 8 calls under way, and one of three hangs", ours: below(`"maxConcurrentRequests":8`, ""), calls: calls{callers: 12, deadline: 300 * ms}, prepare: first(1, hole)},
		{name: "a bound of one call under way", ours: below(`"maxConcurrentRequests":1`, ""), calls: calls{callers: 12}, prepare: slow(3, 40*ms),
			asked: "docs/traffic.md#a-bound-of-calls-under-way: where all are full a call fails at once"},
		{name: "two of three are drained, and the third dies", ours: below(`"drain":["s1","s2"]`, ""), script: after(500*ms, kills(1))},
		{name: "peak_ewma, one of two errs at once with Unknown", servers: 2, ours: peakEwma, prepare: erring(1, codes.Unknown)},
		{name: "peak_ewma, one of four errs with Unknown", servers: 4, ours: peakEwma, prepare: erring(1, codes.Unknown)},
		{name: "peak_ewma, one of four errs with Unimplemented", servers: 4, ours: peakEwma, prepare: erring(1, codes.Unimplemented)},
		{name: "peak_ewma, one of four errs with Unauthenticated", servers: 4, ours: peakEwma, prepare: erring(1, codes.Unauthenticated)},
		{name: "peak_ewma, two of four err with Unknown", servers: 4, ours: peakEwma, prepare: erring(2, codes.Unknown)},
		{name: "peak_ewma, two of four err with Unavailable", servers: 4, ours: peakEwma, prepare: erring(2, codes.Unavailable)},
		zoned(row{name: "the zone dies", servers: 4, script: func(w *world) { w.sleep(500 * ms); w.servers[0].end(false); w.servers[2].end(false) }}),
	}
}

// others are rows with several faults at once, and with rare ones.
func others() []row {
	ejects := func(policy string) string {
		return `{"outlier_detection_experimental":{"interval":"0.2s","maxEjectionPercent":50,"failurePercentageEjection":{"threshold":80,"enforcementPercentage":100,"minimumHosts":2,"requestVolume":3},"childPolicy":[` + policy + `]}}`
	}
	west := func(r row) row { // calls are at home in the first two of four servers; the others are in the other region
		r.servers, r.unlisted, r.way = 4, later(4), way{allowed: func(s *server, _ int) bool { return s.i < 2 }}
		r.registry = func(w *world) []runtime.Option {
			other := runtime.NewRegistry(w.cluster.Admin(), runtime.WithNamespace("west/"+w.namespace))
			w.closers = append(w.closers, func() { closeRegistry(other) })
			for _, s := range w.servers[2:] {
				s.start()
				must(w.t, other.Add(w.t.Context(), key, runtime.Endpoint{Addr: s.addr}))
			}
			return []runtime.Option{runtime.WithFallback(other)}
		}
		return r
	}
	strict := laned(row{name: "in a strict lane, MaxConnectionAge 0.3 s", servers: 4, opts: ages(300 * ms)})
	strict.ours = below(`"route":[{"lane":"pr-7","match":{"lane":"pr-7"},"strict":true}]`, "")
	spills := zoned(row{name: "in a zone of which all are to be ready, MaxConnectionAge 0.3 s", servers: 8, opts: ages(300 * ms)})
	spills.ours = below(`"preferZone":true,"zoneMinPercent":100`, "")
	spills.asked = "docs/traffic.md#zones: below that share of ready instances calls leave the zone in proportion"
	few := zoned(row{name: "in a zone, in a subset of 2, resets after 0.5 s", servers: 12, prepare: lives(500 * ms)})
	few.ours = below(`"preferZone":true,"subset":2`, "")
	base := laned(row{name: "in a lane, and calls of the base, resets after 0.5 s", servers: 4, prepare: lives(500 * ms)})
	base.way = way{allowed: func(s *server, _ int) bool { return s.tags["lane"] == nil }}
	heavy := func(i int) map[string]any { return map[string]any{"weight": 1 + 99*(i%2)} }
	return []row{
		west(row{name: "at home of two regions, MaxConnectionAge 0.3 s", opts: ages(300 * ms)}),
		west(row{name: "at home of two regions, resets after 0.5 s", prepare: lives(500 * ms)}),
		strict, spills, few, base,
		{name: "outlier detection, and MaxConnectionAge 0.3 s", ours: ejects(below(`"preferZone":true`, "")), grpcs: ejects(`{"round_robin":{}}`), opts: ages(300 * ms)},
		{name: "outlier detection, and one of three errs", ours: ejects(below(`"preferZone":true`, "")), grpcs: ejects(`{"round_robin":{}}`), prepare: errs(1, codes.Unavailable)},
		{name: "outlier detection comes and goes", script: func(w *world) {
			w.every(300*ms, func(n int) { w.live([]string{serviceConfig(ejects(`{"round_robin":{}}`), ""), ""}[n%2]) })
		}},
		{name: "outlier detection comes and goes, and to connect takes 0.2 s", prepare: func(w *world) { w.links(func(q *quality) { q.slow = 200 * ms }, w.servers...) }, script: func(w *world) {
			w.every(600*ms, func(n int) { w.live([]string{serviceConfig(ejects(`{"round_robin":{}}`), ""), ""}[n%2]) })
		}},
		{name: "a crash loop of all at once", script: func(w *world) {
			w.every(700*ms, func(int) { w.each(func(s *server) { s.restart(false, 50*ms) }) })
		}},
		{name: "pick_first, the first dies and is back, again and again", ours: pickFirst, grpcs: pickFirst, script: func(w *world) { w.every(500*ms, func(n int) { w.servers[0].restart(false, 100*ms) }) }},
		{name: "peak_ewma, one of two dies, and is back", servers: 2, ours: peakEwma, script: after(300*ms, func(w *world) { w.servers[0].restart(false, 200*ms) })},
		{name: "peak_ewma, one of three becomes a black hole", ours: peakEwma, calls: calls{callers: 12, deadline: 300 * ms}, script: after(500*ms, first(1, hole))},
		{name: "least_request, one of three becomes a black hole", ours: leastRequest, grpcs: leastRequest, calls: calls{callers: 12, deadline: 300 * ms}, script: after(500*ms, first(1, hole))},
		{name: "weights of 1 and 100, and the heavy one dies", servers: 2, tags: heavy, ours: weighted, script: after(300*ms, func(w *world) { w.servers[1].end(false) })},
		{name: "one of three is another service's by now", prepare: errs(1, codes.Unimplemented)},
		{name: "a split in halves, and one half dies", servers: 4, tags: tag("version", "v1", "v2"),
			ours:   below(`"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":1}]`, ""),
			script: func(w *world) { w.sleep(500 * ms); w.servers[1].end(false); w.servers[3].end(false) }},
		{name: "a split moves to v2, whose servers end connections", servers: 4, tags: tag("version", "v1", "v2"), opts: ages(300 * ms), script: func(w *world) {
			w.every(400*ms, func(n int) {
				w.live(serviceConfig(below(fmt.Sprintf(`"split":[{"match":{"version":"v1"},"weight":%d},{"match":{"version":"v2"},"weight":%d}]`, 1+n%2*98, 99-n%2*98), ""), ""))
			})
		}},
		{name: "etcd stutters, and a rollout of all", servers: 6, unlisted: later(6), script: func(w *world) {
			var rolling sync.WaitGroup
			rolling.Go(func() { rollout(500 * ms)(w) })
			w.every(200*ms, func(n int) { w.etcd.set([]func(*quality){silent, sound}[n%2]) })
			rolling.Wait()
		}},
		{name: "nothing arrives for 0.5 s, and connections are reset then", script: after(500*ms, func(w *world) {
			w.links(silent, w.servers...)
			w.sleep(500 * ms)
			w.links(sound, w.servers...)
			for _, s := range w.servers {
				s.link.reset()
			}
		})},
		{name: "wait for ready, one server, MaxConnectionAge 0.3 s, and 0.1 s to connect", servers: 1, calls: calls{wait: true}, opts: ages(300 * ms),
			prepare: func(w *world) { w.links(func(q *quality) { q.slow = 100 * ms }, w.servers...) }},
		{name: "servers become NOT_SERVING before they leave", serve: registered(300 * ms), script: func(w *world) {
			w.every(300*ms, func(n int) {
				s := w.servers[n%3]
				s.health.SetServingStatus(service, healthpb.HealthCheckResponse_NOT_SERVING)
				w.sleep(200 * ms)
				s.restart(true, 0)
			})
		}},
		{name: "one is drained, one NOT_SERVING, one leaves", serve: registered(2 * time.Second), ours: below(`"drain":["s0"]`, ""), script: func(w *world) {
			w.sleep(300 * ms)
			w.servers[1].health.SetServingStatus(service, healthpb.HealthCheckResponse_NOT_SERVING)
			w.sleep(300 * ms)
			w.servers[2].restart(true, 0)
		}},
	}
}

// slow has the first n servers take a while for each call.
func slow(n int, d time.Duration) func(*world) {
	return func(w *world) {
		for _, s := range w.servers[:n] {
			s.delay.Store(int64(d))
		}
	}
}

// erring has the first n servers err at once, and the others take a while that is long even on a busy machine.
func erring(n int, code codes.Code) func(*world) {
	return func(w *world) {
		slow(len(w.servers), 50*ms)(w)
		slow(n, 0)(w)
		errs(n, code)(w)
	}
}

func both(a, b func(*world)) func(*world) { return func(w *world) { a(w); b(w) } }

// killed has the first n servers be dead before there are clients.
func killed(n int) func(*world) {
	return func(w *world) {
		for _, s := range w.servers[:n] {
			s.end(false)
		}
	}
}

// feature is what rows have in common.
type feature struct {
	name string
	of   func(row) row
}

var (
	policies = []feature{
		{"pick_first", by(pickFirst, pickFirst)}, {"least_request", by(leastRequest, leastRequest)}, {"ring_hash", affine},
		{"weighted", by(weighted, "")}, {"peak_ewma", by(peakEwma, "")},
		{"slow start", by(below(`"slowStart":{"window":"5s"}`, weighted), "")},
	}
	ways = []feature{
		{"in a zone", zoned}, {"in a lane", laned}, {"in a split", split}, {"by name", named}, {"selected", selected}, {"in a subset", subset},
	}
	troubles = []row{
		{name: "MaxConnectionAge 0.3 s", servers: 4, opts: ages(300 * ms)},
		{name: "resets after 0.5 s", servers: 4, prepare: lives(500 * ms)},
		{name: "one dies", servers: 4, script: after(300*ms, kills(1))},
		{name: "one swallows SYNs from the start", servers: 4, cold: true, prepare: first(1, drop)},
	}
)

// times returns each trouble with each feature.
func times(features []feature, troubles []row) []row {
	var rows []row
	for _, f := range features {
		for _, trouble := range troubles {
			trouble.name = f.name + ", " + trouble.name
			rows = append(rows, f.of(trouble))
		}
	}
	return rows
}
