package balancer

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// TestLastResort_IsCalledWhileNothingElseCan follows one call through fleets in which nothing that may be called can be reached (H2, H4).
func TestLastResort_IsCalledWhileNothingElseCan(t *testing.T) {
	none := errors.New("etcd: no endpoint is registered")
	for _, tt := range []struct {
		name, config string // of the second state
		fleet        []string
		hangs, want  string
	}{
		{"all have left", `{}`, nil, "", "a:1"},
		{"a successor connects", `{}`, []string{"n v1"}, "n:1", "a:1"},
		{"a successor is connected to", `{}`, []string{"n v1"}, "", "n:1"},
		{"the only other is drained, and not connected to", `{"drain":["d"]}`, []string{"d v1", "n v1"}, "n:1", "a:1"},
		{"a strict lane has it no longer", `{` + strictRed + `}`, []string{"n v2"}, "n:1", ""},
		{"a group of a split has it no longer", `{` + byVersion + `}`, []string{"n v2"}, "", "n:1"},
		{"another zone has one", `{"preferZone":true}`, []string{"n v1 y"}, "", "n:1"},
	} {
		p, cc := newTestPolicy(t)
		cc.hangs = map[string]bool{tt.hangs: true}
		client := &attr.Client{Zone: "x"}
		_ = hand(p, mustConfig(t, `{}`), &attr.State{Client: client, Endpoints: ends("a v1")})
		settle(p, cc)
		s := &attr.State{Client: client, Endpoints: ends(tt.fleet...)}
		if len(tt.fleet) == 0 {
			s.Err = none
		}
		_ = hand(p, mustConfig(t, tt.config), s)
		settle(p, cc)
		ctx := context.Background()
		if tt.want == "" {
			ctx = calloptions.WithLane(ctx, "red")
		}
		if got, err := cc.pick(ctx, "/s.A/M"); got != tt.want {
			t.Errorf("%s: a call goes to %q, %v, want %q", tt.name, got, err, tt.want)
		}
		if tt.want != "a:1" {
			continue
		}
		cc.last("a:1").set(connectivity.Idle, nil)
		settle(p, cc)
		if got, err := cc.pick(ctx, "/s.A/M"); err == nil || cc.last("a:1").connects != 1 || s.Err != nil && !errors.Is(err, s.Err) {
			t.Errorf("%s: once its connection has ended a call goes to %q, %v, and it is connected to %d times", tt.name, got, err, cc.last("a:1").connects)
		}
	}
}

// TestLastResort_KeepsLanes has all that is left be in lanes that are not strict.
func TestLastResort_KeepsLanes(t *testing.T) {
	p, cc := newTestPolicy(t)
	config := mustConfig(t, `{"route":[{"label":"version"}]}`)
	for _, fleet := range [][]string{{"a v1", "b v2"}, nil} {
		_ = hand(p, config, &attr.State{Client: &attr.Client{}, Endpoints: ends(fleet...)})
		settle(p, cc)
	}
	for lane, want := range map[string]string{"v1": "a:1", "v2": "b:1"} {
		if got, err := cc.pick(calloptions.WithLane(t.Context(), lane), "/s.A/M"); got != want {
			t.Errorf("a call of %s goes to %q, %v", lane, got, err)
		}
	}
	if got, err := cc.pick(t.Context(), "/s.A/M"); got == "" {
		t.Errorf("a call without a lane: %v", err)
	}
}

// TestLastResort_IsAllThatHasJustLeft has instances leave one after the other, as those do that share a cause: all of them take calls.
func TestLastResort_IsAllThatHasJustLeft(t *testing.T) {
	p, cc := newTestPolicy(t)
	for _, fleet := range [][]string{{"a", "b", "c"}, {"b", "c"}, {"c"}, nil} {
		_ = hand(p, mustConfig(t, `{}`), &attr.State{Client: &attr.Client{}, Endpoints: ends(fleet...)})
		settle(p, cc)
	}
	called := map[string]bool{}
	for range 6 {
		addr, _ := cc.pick(t.Context(), "/s.A/M")
		called[addr] = true
	}
	if len(called) != 3 {
		t.Errorf("calls go to %v", called)
	}
}

// TestLastResort_TheDrainedComeLast has what is drained be connected to once nothing else can be called, and not before.
func TestLastResort_TheDrainedComeLast(t *testing.T) {
	p, cc := newTestPolicy(t)
	now := time.Now()
	p.now = func() time.Time { return now }
	cc.hangs = map[string]bool{"b:1": true}
	update := func(config string, fleet ...string) {
		_ = hand(p, mustConfig(t, config), &attr.State{Client: &attr.Client{}, Endpoints: ends(fleet...)})
		settle(p, cc)
	}
	expect := func(when, want string) {
		t.Helper()
		if got, err := cc.pick(t.Context(), "/s.A/M"); got != want {
			t.Errorf("%s: a call goes to %q, %v, want %q", when, got, err, want)
		}
	}
	update(`{"drain":["a"]}`, "a", "b")
	expect("while b connects", "")
	now = now.Add(knownWithin)
	p.do(func() { p.core.reselect(now) })
	settle(p, cc)
	expect("while b hangs", "a:1")
	cc.last("b:1").set(connectivity.Ready, nil)
	settle(p, cc)
	expect("once b is ready", "b:1")
	update(`{"drain":["a"]}`, "a", "c")
	expect("once b has left", "c:1")
	cc.hangs["c:1"] = true
	cc.last("c:1").set(connectivity.Idle, nil)
	settle(p, cc)
	expect("while c connects again, beside b, which is still connected", "b:1")
}

// TestLastResort_RecoversThoughUnwellWhenItLeft has the only server leave etcd while its health check says NOT_SERVING, as one does that
// withdraws itself for that: once it is well, its calls go to it, in etcd again or not (H4).
func TestLastResort_RecoversThoughUnwellWhenItLeft(t *testing.T) {
	p, cc := newTestPolicy(t)
	update := func(fleet ...string) {
		_ = hand(p, mustConfig(t, `{}`), &attr.State{Client: &attr.Client{}, Endpoints: ends(fleet...), Health: "acme.User"})
		settle(p, cc)
	}
	update("a")
	conn := cc.last("a:1")
	conn.health(balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: errors.New("NOT_SERVING")})
	settle(p, cc)
	update()
	if conn.health == nil {
		t.Fatal("the connection is closed")
	}
	conn.health(balancer.SubConnState{ConnectivityState: connectivity.Ready})
	settle(p, cc)
	if got, err := cc.pick(t.Context(), "/s.A/M"); got != "a:1" {
		t.Errorf("a call goes to %q, %v, want a:1", got, err)
	}
}
