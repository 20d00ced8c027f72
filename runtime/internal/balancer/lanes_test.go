package balancer

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

const byLabel = `"route":[{"label":"version"}]`

// TestPicksOfLanes has the endpoints of lanes be ready, fail and connect.
func TestPicksOfLanes(t *testing.T) {
	p, cc := newTestPolicy(t)
	refused := errors.New("refused")
	cc.down = map[string]error{"c:1": refused, "d:1": refused}
	update := func(config string) {
		_ = hand(p, mustConfig(t, "{"+config+"}"), &attr.State{Client: &attr.Client{}, Endpoints: fleet()})
		settle(p, cc)
	}
	ends := func(ctx context.Context) string {
		t.Helper()
		all := map[string]bool{}
		for range 30 {
			got, err := cc.pick(ctx, "/s.A/M")
			if err != nil {
				return err.Error()
			}
			all[got[:1]] = true
		}
		text := ""
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			if all[name] {
				text += name
			}
		}
		return text
	}
	plain := context.Background()
	red, green := calloptions.WithLane(plain, "red"), calloptions.WithLane(plain, "green")
	byHeader := metadata.AppendToOutgoingContext(plain, "x-lane", "red")
	expect := func(name string, ctx context.Context, want string) {
		t.Helper()
		if got := ends(ctx); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	update(looseRed)
	expect("the base", plain, "abe")
	expect("a lane that fails", red, "abe")
	expect("an unknown lane", green, "abe")
	update(strictRed)
	expect("a strict lane that fails", red, `etcd: no endpoint of "" in the lane "red", which is strict, is ready: refused`)
	cc.mu.Lock()
	cc.down = nil
	cc.mu.Unlock()
	for _, s := range cc.open() {
		if s.addrs[0].Addr == "c:1" || s.addrs[0].Addr == "d:1" {
			s.set(connectivity.Idle, nil)
		}
	}
	settle(p, cc)
	expect("a strict lane", red, "cd")
	expect("the base beside it", plain, "abe")
	update(looseRed + `,"laneHeader":"x-lane"`)
	expect("a lane", red, "cd")
	expect("a lane by a header", byHeader, "cd")
	expect("a lane by both", calloptions.WithLane(byHeader, "green"), "abe")
	_, _ = cc.pick(calloptions.WithTarget(plain, calloptions.Target{Instance: "c"}), "/s.A/M")
	settle(p, cc)
	expect("a target in a lane", calloptions.WithTarget(calloptions.WithLane(plain, "green"), calloptions.Target{Instance: "c"}), "c")
	update(byLabel)
	expect("a label", calloptions.WithLane(plain, "v1"), "ab")
	expect("another", calloptions.WithLane(plain, "v2"), "cd")
	expect("what has none", plain, "e")
	update(`"route":[{"label":"version","strict":true}]`)
	expect("a strict label of which there is nothing", calloptions.WithLane(plain, "v3"), `etcd: no endpoint of "" is in the lane "v3", which is strict`)
	update(`"route":[{"label":"version","strict":true}],"laneHeader":"x-lane"`)
	for _, value := range []string{"", "no lane", strings.Repeat("x", serviceconfig.MaxLane+1)} {
		expect("a header that is no lane", metadata.AppendToOutgoingContext(plain, "x-lane", value), "e")
	}
}

// TestANewLaneIsWaitedFor has calls of a lane wait for its answer while it connects, and no longer: also where another plan
// follows, or what it serves changes.
func TestANewLaneIsWaitedFor(t *testing.T) {
	p, cc := newTestPolicy(t)
	cc.hangs = map[string]bool{"c:1": true}
	now := time.Now()
	p.now = func() time.Time { return now }
	pass := func() { now = now.Add(5 * time.Second); p.do(func() { p.core.reselect(now) }) }
	update := func(config string, specs ...string) func() {
		return func() {
			_ = hand(p, mustConfig(t, "{"+config+"}"), &attr.State{Client: &attr.Client{}, Endpoints: ends(specs...)})
		}
	}
	set := func(states ...connectivity.State) func() { // of the lane's connection
		return func() {
			for _, state := range states {
				for _, s := range cc.open() {
					if s.addrs[0].Addr == "c:1" {
						s.set(state, errors.New("refused"))
					}
				}
				settle(p, cc)
			}
		}
	}
	const another, waits = looseRed + `,"preferZone":true`, "no SubConn is available"
	for _, tt := range []struct {
		name string
		do   func()
		want string
	}{
		{"new", update(looseRed, "a v1", "c v2"), waits},
		{"hangs", pass, "a:1"},
		{"answers", set(connectivity.Ready), "c:1"},
		{"is told again", pass, "c:1"},
		{"connects anew", set(connectivity.Idle), waits},
		{"hangs meanwhile", pass, "a:1"},
		{"another plan", update(another, "a v1", "c v2"), "a:1"},
		{"hangs in it", pass, "a:1"},
		{"says something else", update(another, "a v1", "c v2 - s.A/M"), "a:1"},
		{"is back", set(connectivity.Ready), "c:1"},
		{"fails", set(connectivity.Idle, connectivity.TransientFailure), "a:1"},
		{"another plan while it fails", update(looseRed, "a v1", "c v2"), "a:1"},
		{"is tried again", set(connectivity.Idle, connectivity.Connecting), "a:1"},
		{"is back again", set(connectivity.Ready), "c:1"},
		{"another instance", update(looseRed, "a v1", "d v2"), "d:1"},
	} {
		tt.do()
		settle(p, cc)
		got, err := cc.pick(calloptions.WithLane(t.Context(), "red"), "/s.A/M")
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestWhatIsNewIsWaitedForBesideWhatServes has an instance come that alone is in a lane, or has a method: while it connects, calls go
// where they went, but for those that nothing else serves.
func TestWhatIsNewIsWaitedForBesideWhatServes(t *testing.T) {
	red := calloptions.WithLane(t.Context(), "red")
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		fleets [2][]string
		want   string
	}{
		{"a lane", red, [2][]string{{"a v1"}, {"a v1", "n v2"}}, "a:1"},
		{"a lane that all others have left", red, [2][]string{{"a v1", "b v2"}, {"a v1", "n v2"}}, "b:1"},
		{"a method", t.Context(), [2][]string{{"a v1 - s.A/L"}, {"a v1 - s.A/L", "n v1 - s.A/L,M"}}, ""},
	} {
		p, cc := newTestPolicy(t)
		cc.hangs = map[string]bool{"n:1": true}
		now := time.Now()
		p.now = func() time.Time { return now }
		where := func() string {
			p.do(func() { p.core.reselect(now) })
			settle(p, cc)
			addr, _ := cc.pick(tt.ctx, "/s.A/M")
			return addr
		}
		for _, fleet := range tt.fleets {
			_ = hand(p, mustConfig(t, "{"+looseRed+"}"), &attr.State{Client: &attr.Client{}, Endpoints: ends(fleet...)})
			_ = where()
		}
		for range 2 {
			if got := where(); got != tt.want {
				t.Errorf("%s: a call goes to %q, want %q", tt.name, got, tt.want)
			}
			now = now.Add(knownWithin)
		}
	}
}

// TestWhatALaneLeavesToTheBaseIsServed has the only endpoint of the base that is in use be another, which hangs: calls of a
// lane that is down go where those of the base do.
func TestWhatALaneLeavesToTheBaseIsServed(t *testing.T) {
	for range 20 { // seeds
		p, cc := newTestPolicy(t)
		cc.down["r:1"], cc.hangs = errors.New("refused"), map[string]bool{"b:1": true}
		client := &attr.Client{Subset: 1, Seed: maphash.MakeSeed()}
		red := func() string {
			addr, _ := cc.pick(calloptions.WithLane(t.Context(), "red"), "/s.A/M")
			return addr
		}
		for _, fleet := range [][]string{{"a v1", "r v2"}, {"a v1", "b v1", "r v2"}} {
			_ = hand(p, mustConfig(t, "{"+looseRed+"}"), &attr.State{Client: client, Endpoints: ends(fleet...)})
			_ = red() // asks for a view
			settle(p, cc)
		}
		base, err := cc.pick(t.Context(), "/s.A/M")
		if got := red(); err != nil || got != base {
			t.Fatalf("a call of the base goes to %q, %v, and one of the lane to %q", base, err, got)
		}
	}
}

// BenchmarkPlanOfLanes makes a plan of 10,000 endpoints: with a label that a hundredth of them have, and with as many
// routes as a config may hold, each of which matches all.
func BenchmarkPlanOfLanes(b *testing.B) {
	var specs []string
	for i := range 10_000 {
		version := "-"
		if i%100 == 0 {
			version = fmt.Sprintf("v%d", i/1000)
		}
		specs = append(specs, fmt.Sprintf("i%d %s", i, version))
	}
	fleet := ends(specs...)
	var routes []string
	for i := range serviceconfig.MaxRoutes {
		routes = append(routes, fmt.Sprintf(`{"lane":"l%d","match":{"a":"","b":"","c":"","d":"","e":"","f":"","g":"","h":""}}`, i))
	}
	for name, config := range map[string]string{"none": `{}`, "label": "{" + byLabel + "}", "hostile": `{"route":[` + strings.Join(routes, ",") + `]}`} {
		c, err := parseConfig([]byte(config))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				makePlan(&input{config: c, client: &attr.Client{}, endpoints: fleet})
			}
		})
	}
}
