package balancer

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// TestPolicy_ParsesItsConfig has few rows: package serviceconfig checks configs.
func TestPolicy_ParsesItsConfig(t *testing.T) {
	for config, want := range map[string]string{
		`{"splits":[]}`:                                       "unknown field",
		`{"childPolicy":[{"nope":{}}]}`:                       `"nope"`,
		`{"childPolicy":[{"pick_first":{}},{"a":{},"b":{}}]}`: "one policy an entry",
	} {
		if _, err := parseConfig(json.RawMessage(config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", config, err, want)
		}
	}
	c := mustConfig(t, `{"subset":2,"drain":["x"],"childPolicy":[{"nope":{}},{"pick_first":{}}]}`)
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if again := mustConfig(t, string(text)); !again.policy.Traits().Single || again.Subset != 2 || !slices.Equal(again.Drain, c.Drain) {
		t.Errorf("marshalled and parsed again: %s", text)
	}
}

// TestPolicy_WithoutEndpoints makes calls while endpoints are not known, and while there are none.
func TestPolicy_WithoutEndpoints(t *testing.T) {
	r := newRig(t)
	none := errors.New(`etcd: no endpoint is registered under "acme/user"`)
	for _, tt := range []struct {
		when  string
		state attr.State
		want  string
		in    connectivity.State
	}{
		{"nothing is known", attr.State{Pending: true}, "waits", connectivity.Connecting},
		{"there is none", attr.State{Err: none}, none.Error(), connectivity.TransientFailure},
		{"a bare resolver has none", attr.State{}, `etcd: no endpoint of "" is known`, connectivity.TransientFailure},
		{"nothing is known again", attr.State{Pending: true}, "waits", connectivity.Connecting},
	} {
		r.hand(``, tt.state)
		if r.expect(t.Context(), tt.when, tt.want); stateOf(r.fakeConn).ConnectivityState != tt.in {
			t.Errorf("%s: the policy is %v", tt.when, stateOf(r.fakeConn).ConnectivityState)
		}
	}
	r.policy.ResolverError(none)
	r.expect(t.Context(), "after a resolver's error", none.Error())
	r = newRig(t)
	r.policy.ResolverError(none)
	r.expect(t.Context(), "after a resolver's error before all else", none.Error())
}

// TestPolicy_WhatIsKnownServes starts with endpoints of an earlier time. Calls go to those that can be reached. If there is none, they wait
// until etcd has answered (H7).
func TestPolicy_WhatIsKnownServes(t *testing.T) {
	r := newRig(t)
	r.refuse("a")
	r.hand(``, attr.State{Endpoints: ends("a", "b"), Pending: true})
	r.expect(t.Context(), "with one that can be reached", "b")
	r.hand(``, attr.State{Endpoints: ends("a"), Pending: true})
	r.set("b", connectivity.Idle)
	r.expect(t.Context(), "while etcd is yet to answer", "waits")
	r.update(``, "a")
	r.expect(t.Context(), "once etcd has answered", errRefused.Error())
}

func TestPolicy_ReportsOnce(t *testing.T) {
	var reports []string
	r := newRig(t)
	r.client.Report = func(problem string) { reports = append(reports, problem) }
	for range 3 {
		r.update(`"drain":["x"]`, "a")
	}
	if len(reports) != 1 {
		t.Errorf("reported %q", reports)
	}
}

// TestPolicy_LanesGroupsAndRingsAreSmall bounds the memory that one config and 512 entries take: 128 lanes, eight sets of methods, nine
// groups and two zones, with a ring in each.
func TestPolicy_LanesGroupsAndRingsAreSmall(t *testing.T) {
	var split []string
	for g := range 8 {
		split = append(split, fmt.Sprintf(`{"match":{"group":"g%d"},"weight":1}`, g))
	}
	var fleet []resolver.Endpoint
	for i := range 512 {
		e := &endpoint.Endpoint{Instance: fmt.Sprint(i), Addr: fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), Zone: fmt.Sprintf("z%d", i/4%2), Weight: uint32(i + 1), Metadata: map[string]string{
			"lane": fmt.Sprintf("l%d", i%128), "other": fmt.Sprintf("l%d", i/4), "group": fmt.Sprintf("g%d", i/8%8), endpoint.MethodsName: fmt.Sprintf("s.A/M%d", i/128+i%2*4),
		}}
		fleet = append(fleet, attr.New(e, new(attr.Storage)))
	}
	inUse := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	r := newRig(t)
	r.hand(`"preferZone":true,"route":[{"label":"lane"},{"label":"other"}],"split":[`+strings.Join(split, ",")+`],`+ring, attr.State{Endpoints: fleet})
	for lane := range 128 {
		for method := range 8 {
			r.whereBy(calloptions.WithLane(t.Context(), fmt.Sprintf("l%d", lane)), fmt.Sprintf("/s.A/M%d", method))
		}
	}
	if after := inUse(); after > before+32<<20 {
		t.Errorf("they take %d KiB", (after-before)>>10)
	}
	runtime.KeepAlive(r)
}

// TestPick_AllocatesNothing makes calls under each option of the policy, and under all of them.
func TestPick_AllocatesNothing(t *testing.T) {
	if underRace {
		t.Skip("pools lose some records of calls")
	}
	for _, config := range []string{
		``, `"split":[{"match":{"version":"v0"},"weight":5},{"match":{"version":"v1"},"weight":95}]`, `"preferZone":true,"zoneMinPercent":80`,
		`"subset":20`, `"route":[{"lane":"red","match":{"version":"v1"}}]`, `"maxConcurrentRequests":100`, `"slowStart":{"window":"3600s"}`, ring,
		`"childPolicy":[{"etcd_weighted":{}}]`, `"childPolicy":[{"least_request_experimental":{}}]`, peakConfig,
		`"preferZone":true,"zoneMinPercent":80,"subset":20,"maxConcurrentRequests":100,"slowStart":{"window":"3600s"},` + peakConfig,
	} {
		r := newRig(t)
		r.hand(config, attr.State{Endpoints: bigFleet(100)})
		ctx := calloptions.WithAffinity(lane("red"), "k")
		for _, method := range []string{"SayHello", "SayNew"} {
			info := balancer.PickInfo{Ctx: ctx, FullMethodName: "/helloworld.Greeter/" + method}
			pick := func() {
				result, err := stateOf(r.fakeConn).Picker.Pick(info)
				if err != nil {
					t.Fatal(err)
				}
				if result.Done != nil {
					result.Done(balancer.DoneInfo{BytesReceived: true})
				}
			}
			_ = r.whereBy(ctx, info.FullMethodName) // may have a subset connect to one that serves it
			r.settle()
			if n := testing.AllocsPerRun(100, pick); n > 0 {
				t.Errorf("%s: %v allocations a pick of %s", config, n, method)
			}
		}
	}
}

// TestPick_MeetsAnOlderSnapshot makes a call while another makes the snapshot of the newest picker (P10).
func TestPick_MeetsAnOlderSnapshot(t *testing.T) {
	for _, tt := range []struct {
		when, config  string
		before, after connectivity.State // of the one that calls are tied to
	}{
		{"it was connecting", ``, connectivity.Idle, connectivity.Ready},
		{"it had failed", ``, connectivity.TransientFailure, connectivity.Ready},
		{"it was connecting, of a ring", `"maxConcurrentRequests":1,` + ring, connectivity.Idle, connectivity.Ready},
		{"it was ready", `"maxConcurrentRequests":1,` + ring, connectivity.Ready, connectivity.TransientFailure},
	} {
		r := newRig(t)
		r.update(tt.config, "a", "b")
		ctx := tied("somebody")
		its := r.where(ctx)
		r.hangs[its+":1"] = true
		if tt.config == `` {
			r.set(map[string]string{"a": "b", "b": "a"}[its], connectivity.TransientFailure)
			_ = r.where(ctx)
		}
		r.set(its, tt.before)
		_ = r.where(ctx)
		r.set(its, tt.after)
		v := r.policy.core.plan.called()[0]
		v.making.Lock()
		answered := make(chan string, 1)
		go func() { answered <- r.where(ctx) }()
		for n := 0; n < 1000 && len(answered) == 0; n++ {
			runtime.Gosched()
		}
		v.making.Unlock()
		if got := <-answered; len(got) != 1 {
			t.Errorf("%s: a call gets %q, and no other picker comes", tt.when, got)
		}
		for addr, conn := range r.policy.core.conns {
			if n := conn.stats.UnderWay(); n != 0 {
				t.Errorf("%s: %d calls are counted at %s", tt.when, n, addr)
			}
		}
	}
}
