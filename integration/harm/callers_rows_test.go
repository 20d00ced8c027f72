package harm

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const ms = time.Millisecond

// rows is the table of TestCallers. Each row has one kind of fault.
var rows = slices.Concat(ending, notAnswering, ended, fromEtcd, options)

var (
	hasty  = calls{callers: 12, deadline: 300 * ms}
	bursts = calls{callers: 30, every: 600 * ms}
	idle   = []grpc.DialOption{grpc.WithIdleTimeout(200 * ms)}
)

// ending holds rows in which connections end, or the one server restarts.
var ending = []row{
	{name: "MaxConnectionAge 0.2 s", opts: ages(200 * ms)},
	{name: "MaxConnectionAge 50 ms, one server", servers: 1, opts: ages(50 * ms)},
	{
		name:  "MaxConnectionIdle 0.2 s",
		calls: bursts,
		opts: []grpc.ServerOption{
			grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 200 * ms}),
		},
	},
	{name: "resets after 0.5 s, one server", servers: 1, script: resets},
	{
		name:    "ten resets in 1.5 s, and peace after",
		servers: 1,
		script: func(w *world) {
			for range 10 {
				if w.sleep(150 * ms) {
					w.servers[0].link.reset()
				}
			}
		},
	},
	{
		name:    "the one server restarts each 0.6 s",
		servers: 1,
		script: func(w *world) {
			w.every(600*ms, func(int) { w.servers[0].restart(false, 0) })
		},
	},
	{name: "calls wait, MaxConnectionAge 0.2 s", calls: calls{wait: true}, opts: ages(200 * ms)},
	named(row{name: "by name, MaxConnectionAge 0.2 s", opts: ages(200 * ms)}),
	{
		name:  "by the leader, MaxConnectionAge 0.2 s",
		opts:  ages(200 * ms),
		serve: registered(100 * ms),
		way: way{
			leader:  true,
			allowed: func(s *server, _ int) bool { return s == s.w.leading() },
		},
	},
	row{
		name:     "in a zone, MaxConnectionAge 0.2 s",
		servers:  4,
		opts:     ages(200 * ms),
		ours:     `{"etcd":{"preferZone":true}}`,
		registry: []runtime.Option{runtime.WithZone("a")},
	}.tagged("zone", "a"),
	row{
		name:    "in a lane, MaxConnectionAge 0.2 s",
		servers: 4,
		opts:    ages(200 * ms),
		ours:    `{"etcd":{"route":[{"label":"lane"}]}}`,
		way: way{ours: func(ctx context.Context, _ int) context.Context {
			return runtime.WithLane(ctx, "pr-7")
		}},
	}.tagged("lane", "pr-7"),
	affine(row{name: "by affinity, resets after 0.5 s", servers: 4, script: resets}),
}

// notAnswering holds rows in which some servers cannot be reached or are
// unhealthy.
var notAnswering = []row{
	{
		name:    "one of four becomes a black hole",
		servers: 4,
		calls:   hasty,
		script:  after(500*ms, first(1, hole)),
	},
	{name: "SYNs to all but one are dropped", servers: 6, cold: true, prepare: first(5, drop)},
	affine(row{
		name:    "by affinity, SYNs to one are dropped",
		servers: 4,
		cold:    true,
		prepare: first(1, drop),
	}),
	{name: "30 servers, of which 10 are dead", servers: 30, cold: true, prepare: killed(10)},
	{name: "bursts from idle, one of three is dead", dial: idle, calls: bursts, prepare: killed(1)},
	{
		name:  "all are NOT_SERVING for 0.2 s, again and again",
		serve: registered(100 * ms),
		script: func(w *world) {
			w.every(500*ms, func(int) {
				w.report(healthpb.HealthCheckResponse_NOT_SERVING, w.servers...)
				w.sleep(200 * ms)
				w.report(healthpb.HealthCheckResponse_SERVING, w.servers...)
			})
		},
	},
	{
		name:  "NOT_SERVING, one after the other",
		serve: registered(100 * ms),
		script: func(w *world) {
			w.every(300*ms, func(n int) {
				w.report(healthpb.HealthCheckResponse_SERVING, w.servers[n%3])
				w.report(healthpb.HealthCheckResponse_NOT_SERVING, w.servers[(n+1)%3])
			})
		},
	},
	{
		name:    "a proxy cuts health watches, one server",
		servers: 1,
		ours:    checked,
		grpcs:   checked,
		opts:    cutsWatches,
	},
	{name: "a proxy cuts health watches", ours: checked, grpcs: checked, opts: cutsWatches},
}

// cutsWatches holds options for a server whose only streams are health watches.
var cutsWatches = []grpc.ServerOption{grpc.StreamInterceptor(cutWatch)}

// cutWatch sends SERVING on a health watch after 50 ms, and fails 300 ms later.
func cutWatch(
	_ any,
	stream grpc.ServerStream,
	_ *grpc.StreamServerInfo,
	_ grpc.StreamHandler,
) error {
	time.Sleep(50 * ms)

	err := stream.SendMsg(&healthpb.HealthCheckResponse{
		Status: healthpb.HealthCheckResponse_SERVING,
	})
	if err != nil {
		return err
	}

	time.Sleep(300 * ms)

	return status.Error(codes.Unavailable, "cut")
}

// ended holds rows in which servers end, and return or are replaced.
var ended = []row{
	{
		name:   "all leave in order, and are back",
		serve:  registered(time.Second),
		script: leaveAndReturn,
	},
	{
		name:    "the one server leaves in order, and is back",
		servers: 1,
		serve:   registered(time.Second),
		script:  leaveAndReturn,
	},
	{
		name:    "the one server leaves in order while clients are idle, and is back",
		servers: 1,
		serve:   registered(time.Second),
		dial:    idle,
		calls:   bursts,
		script:  leaveAndReturn,
	},
	named(row{
		name:   "by name, all leave in order, and are back",
		serve:  registered(time.Second),
		script: leaveAndReturn,
	}),
	{
		name:     "a rollout of one, whose successor is reached a second later",
		servers:  2,
		unlisted: 1,
		serve:    registered(1500 * ms),
		script: func(w *world) {
			next := w.servers[1]
			next.link.set(silent)
			w.sleep(300 * ms)
			next.start()
			next.list(true)

			reached := make(chan struct{})
			go func() {
				defer close(reached)

				w.sleep(time.Second)
				next.link.set(sound)
			}()

			w.servers[0].end(true)
			<-reached
		},
	},
	{
		name:     "all addresses are replaced, one after the other",
		servers:  6,
		unlisted: 3,
		script: func(w *world) {
			for i := 0; i < 3 && w.sleep(500*ms); i++ {
				w.servers[3+i].start()
				w.servers[3+i].put()
				w.sleep(200 * ms)
				w.servers[i].remove()
				w.servers[i].end(true)
			}
		},
	},
	{
		name: "kill -9 of all, which are back after 0.5 s",
		script: after(500*ms, func(w *world) {
			w.each(func(s *server) { s.restart(false, 500*ms) })
		}),
	},
	{
		name: "an entry that comes and goes",
		script: func(w *world) {
			s := w.servers[0]
			w.every(50*ms, func(n int) {
				if n%2 == 0 {
					s.remove()
				} else {
					s.put()
				}
			})
		},
	},
}

func leaveAndReturn(w *world) {
	w.sleep(300 * ms)
	w.each(func(s *server) { s.restart(true, 0) })
}

// fromEtcd holds the row in which the live config changes.
var fromEtcd = []row{
	{
		name: "the live config flips each 0.3 s",
		script: func(w *world) {
			configs := []string{leastRequest, pickFirst, peakEwma, ringHash,
				`{"etcd":{"drain":["s0"]}}`, `{"etcd":{"subset":1}}`, ""}
			w.every(300*ms, func(n int) { w.live(configs[n%7]) })
		},
	},
}

// options holds rows in which our client has an option or a policy that is not
// a default.
var options = []row{
	{
		name:    "subset of 2 of 10, whose two die",
		servers: 10,
		ours:    `{"etcd":{"subset":2}}`,
		script: after(500*ms, func(w *world) {
			for _, s := range w.servers {
				if w.us.served(s.name) {
					s.end(false)
				}
			}
		}),
	},
	{
		name:    "subset of 2 of 10, whose two swallow SYNs",
		servers: 10,
		ours:    `{"etcd":{"subset":2}}`,
		swallow: 2,
		cold:    true,
		lasts:   6 * time.Second,
	},
	{
		name:     "four connections, and the first four swallow SYNs",
		servers:  5,
		swallow:  4,
		cold:     true,
		lasts:    6 * time.Second,
		registry: fourConnections,
	},
	{
		name:   "peak_ewma, one of three becomes a black hole",
		ours:   peakEwma,
		calls:  hasty,
		script: after(500*ms, first(1, hole)),
	},
}

var fourConnections = []runtime.Option{runtime.WithLimits(runtime.Limits{Connections: 4})}

// Faults that several rows share.

// ages returns options by which servers gracefully close connections of age d.
func ages(d time.Duration) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: d}),
	}
}

func hole(q *quality) {
	q.hole = true
}

func drop(q *quality) {
	q.drop = true
}

func silent(q *quality) {
	q.drop = true
	q.hole = true
}

func sound(q *quality) {
	*q = quality{}
}

// resets resets the connections of one server after another, of each server
// every 0.5 s.
func resets(w *world) {
	w.every(500*ms/time.Duration(len(w.servers)), func(n int) {
		w.servers[n%len(w.servers)].link.reset()
	})
}

// first returns a function that applies change to the links of the first n
// servers.
func first(n int, change func(*quality)) func(*world) {
	return func(w *world) { w.links(change, w.servers[:n]...) }
}

// after returns a function that sleeps for d and then calls do.
func after(d time.Duration, do func(*world)) func(*world) {
	return func(w *world) {
		if w.sleep(d) {
			do(w)
		}
	}
}

// killed returns a function that stops the first n servers.
func killed(n int) func(*world) {
	return func(w *world) {
		for _, s := range w.servers[:n] {
			s.end(false)
		}
	}
}

const (
	pickFirst    = `{"pick_first":{}}`
	leastRequest = `{"least_request_experimental":{"choiceCount":2}}`
	ringHash     = `{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`
	peakEwma     = `{"etcd_peak_ewma":{}}`

	// serviceConfig puts this text into its list of policies; the text closes
	// the list and adds a healthCheckConfig
	checked = `{"round_robin":{}}],"healthCheckConfig":{"serviceName":"leader.Counter"},"methodConfig":[`
)

// The functions below change which servers may answer the calls of a row.

// tagged gives every second server the metadata name and value, and allows only
// these servers to answer.
func (r row) tagged(name, value string) row {
	r.tags = map[string]any{name: value}
	r.way.allowed = func(s *server, _ int) bool { return s.i%2 == 0 }

	return r
}

// named makes calls that name one of three servers.
func named(r row) row {
	r.way = way{
		kinds:   3,
		allowed: func(s *server, kind int) bool { return s.i == kind },
		ours: func(ctx context.Context, kind int) context.Context {
			return runtime.WithTarget(ctx, fmt.Sprintf("s%d", kind))
		},
	}

	return r
}

// affine makes calls with the affinities of twenty users, with ring hash in
// both clients.
func affine(r row) row {
	user := func(kind int) string { return fmt.Sprintf("user-%d", kind) }
	r.ours = ringHash
	r.grpcs = ringHash
	r.way = way{
		kinds: 20,
		owned: true,
		ours: func(ctx context.Context, kind int) context.Context {
			return runtime.WithAffinity(ctx, user(kind))
		},
		grpcs: func(ctx context.Context, kind int) context.Context {
			// our client sends the same hash, so both map a user to the same
			// server
			sum := sha256.Sum256([]byte(user(kind)))
			return metadata.AppendToOutgoingContext(ctx, "etcd-affinity",
				fmt.Sprintf("%x", sum[:8]))
		},
	}

	return r
}
