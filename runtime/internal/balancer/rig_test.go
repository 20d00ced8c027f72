package balancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

var seedOfTests = maphash.MakeSeed()

// The configs of several tests.
const (
	ringHash   = `{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`
	ring       = `"childPolicy":[` + ringHash + `]`
	peakConfig = `"childPolicy":[{"etcd_peak_ewma":{}}]`
)

// rig is a policy over a fake of gRPC, for a client in zone x. The policy's
// clock is now, which only the test moves. The policy's timers are real, and
// wait until times by that clock. These are a day ahead, so no timer fires
// during a test.
type rig struct {
	*fakeConn
	t      testing.TB
	policy *policy
	client *model.Client
	now    time.Time
}

func inputOf(c *config, client planner.Client, endpoints []*model.Backend) *input {
	return newInput(&model.State{
		KeyState: model.KeyState{Known: true, Endpoints: endpoints},
		Name:     "acme/user",
		Client:   &model.Client{Client: client},
	}, c)
}

func newRig(t testing.TB) *rig {
	t.Helper()

	cc := &fakeConn{
		down:   make(map[string]error),
		hangs:  make(map[string]bool),
		silent: make(map[string]bool),
		unwell: make(map[string]error),
	}

	r := &rig{
		fakeConn: cc,
		t:        t,
		policy:   newPolicy(cc, balancer.BuildOptions{}),
		client:   &model.Client{Client: planner.Client{Zone: "x", Seed: seedOfTests}},
		now:      time.Now().Add(24 * time.Hour),
	}

	r.policy.now = func() time.Time { return r.now }
	r.policy.queue.start = func() { cc.queue(func() { r.policy.do(func() {}) }) }
	t.Cleanup(r.policy.Close)

	return r
}

// update gives the policy the JSON fields of a config and endpoints by
// [endpointsOf], and waits until the policy settles.
func (r *rig) update(config string, specs ...string) {
	r.t.Helper()
	r.updateState(config, model.State{KeyState: known(specs...)})
}

func (r *rig) updateState(config string, s model.State) {
	r.t.Helper()
	r.send(config, s)
	r.settle()
}

// send gives the policy the JSON fields of a config and a state.
func (r *rig) send(config string, s model.State) {
	r.t.Helper()

	if s.Client == nil {
		s.Client = r.client
	}

	state := model.SetState(resolver.State{Endpoints: model.GRPC(s.Endpoints)}, &s)
	err := r.policy.UpdateClientConnState(balancer.ClientConnState{
		ResolverState:  state,
		BalancerConfig: mustConfig(r.t, "{"+config+"}"),
	})
	if err != nil {
		r.t.Errorf("UpdateClientConnState with the config %q returned %v, want nil", config, err)
	}
}

func (r *rig) settle() {
	r.pump(func() { r.policy.do(func() {}) })
}

// pass advances the clock by d.
func (r *rig) pass(d time.Duration) {
	r.now = r.now.Add(d)
	r.policy.do(func() {})
	r.settle()
}

// set changes the state of the newest connection to an instance.
func (r *rig) set(instance string, state connectivity.State) {
	r.last(instance+":1").set(state, errRefused)
	r.settle()
}

// refuse makes instances refuse connections from now on, and ends their
// existing connections.
func (r *rig) refuse(instances ...string) {
	for _, name := range instances {
		r.down[name+":1"] = errRefused

		if s := r.last(name + ":1"); s != nil {
			s.set(connectivity.Idle, nil)
		}
	}

	r.settle()
}

// revive ends the backoff of failed connections, and all refusals.
func (r *rig) revive() {
	clear(r.down)

	for _, s := range r.open() {
		if s.state == connectivity.TransientFailure {
			s.set(connectivity.Idle, nil)
		}
	}

	r.settle()
}

// where makes a call of a method that all endpoints serve. It returns the
// instance that takes the call, "waits", or the error's text.
func (r *rig) where(ctx context.Context) string {
	return r.whereBy(ctx, "/s.A/M")
}

func (r *rig) whereBy(ctx context.Context, method string) string {
	instance, end, err := r.begin(ctx, method)
	switch {
	case errors.Is(err, balancer.ErrNoSubConnAvailable):
		return "waits"
	case err != nil:
		return err.Error()
	}

	end(nil)

	return instance
}

// reachAll makes ring_hash connect to every endpoint.
func (r *rig) reachAll() {
	for _, conn := range r.policy.core.conns {
		r.policy.core.plan.arrive(conn)
	}

	r.settle()
}

// soonBy makes a call as whereBy does. If the call waits, soonBy makes it again
// once the connections that it started are ready.
func (r *rig) soonBy(ctx context.Context, method string) string {
	got := r.whereBy(ctx, method)
	r.settle()

	if got == "waits" {
		return r.whereBy(ctx, method)
	}

	return got
}

// expect fails the test unless where returns want.
func (r *rig) expect(ctx context.Context, when, want string) {
	r.t.Helper()

	if got := r.where(ctx); got != want {
		r.t.Errorf("%s: a call goes to %q, want %q", when, got, want)
	}
}

// all returns the instances, or error texts, of 60 calls of a method. The first
// call may start a connection.
func (r *rig) all(ctx context.Context, method string) string {
	seen := make(map[string]bool)
	for range 60 {
		if got := r.whereBy(ctx, method); got != "waits" {
			seen[got] = true
		}

		r.settle()
	}

	return strings.Join(slices.Sorted(maps.Keys(seen)), "")
}

// lane, keyed and named return the contexts of calls in a lane, of calls with
// an affinity key, and of calls that name an instance.
func lane(name string) context.Context {
	return calloptions.WithLane(context.Background(), name)
}

func keyed(key any) context.Context {
	return calloptions.WithAffinity(context.Background(), fmt.Sprint(key))
}

func named(instance string) context.Context {
	return calloptions.WithTarget(context.Background(), calloptions.Target{Instance: instance})
}

// endpointsOf makes endpoints from specs of the form "name version zone
// methods", with "-" for an empty field.
func endpointsOf(specs ...string) []*model.Backend {
	var all []*model.Backend
	for _, spec := range specs {
		f := append(strings.Fields(strings.ReplaceAll(spec, "-", `""`)), `""`, `""`, `""`)
		for i := range f {
			f[i] = strings.ReplaceAll(f[i], `""`, "")
		}

		all = append(all, backend(endpoint.Endpoint{
			Instance: f[0], Addr: f[0] + ":1", Version: f[1], Zone: f[2],
			Metadata: map[string]string{endpoint.MethodsName: f[3]},
		}))
	}

	return all
}

func backend(e endpoint.Endpoint) *model.Backend {
	return model.New(e, endpoint.EndpointJSON)
}

// known returns the state of a key with the endpoints of specs.
func known(specs ...string) model.KeyState {
	return model.KeyState{Known: true, Endpoints: endpointsOf(specs...)}
}

func mustConfig(t testing.TB, text string) *config {
	t.Helper()

	c, err := parseConfig(json.RawMessage(text))
	if err != nil {
		t.Fatal(err)
	}

	return c
}
