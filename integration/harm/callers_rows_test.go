package harm

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// The faults that rows have in common.

// ages has servers end connections in order when they are this old.
func ages(d time.Duration) []grpc.ServerOption {
	return []grpc.ServerOption{grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: d})}
}

func hole(q *quality)   { q.hole = true }
func drop(q *quality)   { q.drop = true }
func silent(q *quality) { q.drop, q.hole = true, true }
func sound(q *quality)  { *q = quality{} }

func lives(d time.Duration) func(*world) {
	return func(w *world) { w.links(func(q *quality) { q.life = d }, w.servers...) }
}

func forgets(d time.Duration, mute bool) func(*world) {
	return func(w *world) { w.links(func(q *quality) { q.forget, q.mute = d, mute }, w.servers...) }
}

// first returns what changes the links of the first n servers.
func first(n int, change func(*quality)) func(*world) {
	return func(w *world) { w.links(change, w.servers[:n]...) }
}

// after does something after a while.
func after(d time.Duration, do func(*world)) func(*world) {
	return func(w *world) {
		if w.sleep(d) {
			do(w)
		}
	}
}

// restarts restarts the servers in turn.
func restarts(d time.Duration, inOrder bool) func(*world) {
	return func(w *world) {
		w.every(d, func(n int) { w.servers[n%len(w.servers)].restart(inOrder, 0) })
	}
}

// replaces restarts the servers in turn, and their ports are never closed.
func replaces(d time.Duration, inOrder bool) func(*world) {
	return func(w *world) {
		w.every(d, func(n int) { w.servers[n%len(w.servers)].replace(inOrder) })
	}
}

// kills kills the first n servers; their entries stay for a second.
func kills(n int) func(*world) {
	return func(w *world) {
		for _, s := range w.servers[:n] {
			s.end(false)
		}
		if w.sleep(time.Second) {
			for _, s := range w.servers[:n] {
				s.remove()
			}
		}
	}
}

// later has the second half of n servers not run at first, for [rollout].
func later(n int) func(int) bool { return func(i int) bool { return i >= n/2 } }

// rollout starts a server of the second half, and ends one of the first in order, one after the other.
func rollout(d time.Duration) func(*world) {
	return func(w *world) {
		for i, n := 0, len(w.servers)/2; i < n && w.sleep(d); i++ {
			w.servers[n+i].start()
			w.servers[n+i].put()
			if !w.sleep(d / 2) {
				return
			}
			w.servers[i].remove()
			w.servers[i].end(true)
		}
	}
}

// unhealthy has the first n servers be NOT_SERVING for a while, again and again.
func unhealthy(n int, down, each time.Duration) func(*world) {
	return func(w *world) {
		w.every(each, func(int) {
			for _, s := range w.servers[:n] {
				s.health.SetServingStatus(service, healthpb.HealthCheckResponse_NOT_SERVING)
			}
			w.sleep(down)
			for _, s := range w.servers[:n] {
				s.health.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
			}
		})
	}
}

// errs has the first n servers fail each call at once.
func errs(n int, code codes.Code) func(*world) {
	return func(w *world) {
		for _, s := range w.servers[:n] {
			s.code.Store(uint32(code))
		}
	}
}

const (
	pickFirst    = `{"pick_first":{}}`
	leastRequest = `{"least_request_experimental":{"choiceCount":2}}`
	ringHash     = `{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`
	peakEwma     = `{"etcd_peak_ewma":{}}`
	weighted     = `{"etcd_weighted":{}}`

	healthChecked = `,"healthCheckConfig":{"serviceName":"` + service + `"}`
	retried       = `,"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.01s","maxBackoff":"0.1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]`
)

// below returns the policy etcd with fields and a policy below; "": round_robin.
func below(fields, policy string) string {
	if policy == "" {
		policy = `{"round_robin":{}}`
	}
	return `{"etcd":{` + fields + `,"childPolicy":[` + policy + `]}}`
}

// The ways of a call.

// tag gives every second server a value.
func tag(name, even, odd string) func(int) map[string]any {
	return func(i int) map[string]any {
		value := even
		if i%2 == 1 {
			value = odd
		}
		if value == "" {
			return nil
		}
		return map[string]any{name: value}
	}
}

func tagged(name, value string) func(*server, int) bool {
	return func(s *server, _ int) bool { return s.tags[name] == value }
}

func inZone(zone string) func(*world) []runtime.Option {
	return func(*world) []runtime.Option { return []runtime.Option{runtime.WithZone(zone)} }
}

// zoned calls from zone a, in which every second server is.
func zoned(r row) row {
	r.ours, r.tags, r.registry = below(`"preferZone":true`, ""), tag("zone", "a", "b"), inZone("a")
	r.way = way{allowed: tagged("zone", "a")}
	return r
}

// laned calls for a lane, in which every second server is.
func laned(r row) row {
	r.ours, r.tags = below(`"route":[{"label":"lane"}]`, ""), tag("lane", "pr-7", "")
	r.way = way{allowed: tagged("lane", "pr-7"), ours: func(ctx context.Context, _ int) context.Context { return runtime.WithLane(ctx, "pr-7") }}
	return r
}

// split calls version v1, which every second server has.
func split(r row) row {
	r.ours, r.tags = below(`"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":0}]`, ""), tag("version", "v1", "v2")
	r.way = way{allowed: tagged("version", "v1")}
	return r
}

// named calls each server by its name.
func named(r row) row {
	r.way = way{
		kinds: max(r.servers, 3), allowed: func(s *server, kind int) bool { return s.i == kind },
		ours: func(ctx context.Context, kind int) context.Context {
			return runtime.WithTarget(ctx, fmt.Sprintf("s%d", kind))
		},
	}
	return r
}

// affine calls for twenty users.
func affine(r row) row {
	user := func(kind int) string { return fmt.Sprintf("user-%d", kind) }
	r.ours, r.grpcs = ringHash, ringHash
	r.way = way{
		kinds: 20, owned: true,
		ours: func(ctx context.Context, kind int) context.Context { return runtime.WithAffinity(ctx, user(kind)) },
		grpcs: func(ctx context.Context, kind int) context.Context {
			sum := sha256.Sum256([]byte(user(kind))) // as ours sends it, so that both have the same owners
			return metadata.AppendToOutgoingContext(ctx, "etcd-affinity", fmt.Sprintf("%x", sum[:8]))
		},
	}
	return r
}

// led calls the leader.
func led(r row) row {
	r.serve = registered(100 * time.Millisecond)
	r.way = way{leader: true, allowed: func(s *server, _ int) bool { return s == s.w.leading() }}
	return r
}

func subset(r row) row {
	r.ours = below(`"subset":2`, "")
	return r
}

func selected(r row) row {
	r.tags, r.dialOurs = tag("tier", "gold", "tin"), []grpc.DialOption{runtime.WithSelector(func(e runtime.Endpoint) bool { return e.Metadata["tier"] == "gold" })}
	r.way = way{allowed: tagged("tier", "gold")}
	return r
}

func by(policy, grpcs string) func(row) row {
	return func(r row) row {
		r.ours, r.grpcs = policy, grpcs
		return r
	}
}
