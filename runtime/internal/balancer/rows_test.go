package balancer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

const ringConfig = `"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]`

// begin begins a call with the picker in force, and returns where it goes.
func (c *fakeConn) begin(ctx context.Context, method string) (addr string, end func(), err error) {
	c.mu.Lock()
	picker := c.state.Picker
	c.mu.Unlock()
	result, err := picker.Pick(balancer.PickInfo{Ctx: ctx, FullMethodName: method})
	if err != nil {
		return "", nil, err
	}
	return result.SubConn.(*fakeSubConn).addrs[0].Addr, func() {
		if result.Done != nil {
			result.Done(balancer.DoneInfo{BytesReceived: true})
		}
	}, nil
}

// TestP15_WhatHangsWhileSharesGrow has all instances start, and one of them never answer.
func TestP15_WhatHangsWhileSharesGrow(t *testing.T) {
	p, cc := newTestPolicy(t)
	var fleet []resolver.Endpoint
	for i := range 3 {
		e := endpoint.Endpoint{Instance: fmt.Sprint(i), Addr: fmt.Sprintf("%d:1", i)}.WithStarted(p.now())
		fleet = append(fleet, attr.New(&e, new(attr.Storage)))
	}
	_ = hand(p, mustConfig(t, `{`+`"slowStart":{"window":"3600s"}`+`,`+peakConfig+`}`), &attr.State{Client: &attr.Client{}, Endpoints: fleet})
	settle(p, cc)
	hang := 0
	for range 500 {
		addr, end, err := cc.begin(t.Context(), "/s.A/M")
		if err != nil {
			t.Fatal(err)
		}
		if addr == "0:1" {
			hang++
			continue
		}
		end()
	}
	if hang > 20 {
		t.Errorf("%d of 500 calls go to what hangs", hang)
	}
}

// inUse returns how much memory f leaves in use.
func inUse(f func() any) uint64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	made := f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(made)
	return max(after.HeapAlloc, before.HeapAlloc) - before.HeapAlloc
}

// called calls every lane by every method, so that all views and rings are made.
func called(t *testing.T, config string, fleet []resolver.Endpoint, lanes, methods int) func() any {
	return func() any {
		p, cc := newTestPolicy(t)
		_ = hand(p, mustConfig(t, config), &attr.State{Client: &attr.Client{Zone: "z0", Seed: seedOfTests}, Endpoints: fleet})
		settle(p, cc)
		for lane := range lanes {
			ctx := calloptions.WithLane(t.Context(), fmt.Sprintf("l%d", lane))
			for method := range methods {
				if _, end, err := cc.begin(ctx, fmt.Sprintf("/s.A/M%d", method)); err == nil {
					end()
				}
			}
		}
		return p
	}
}

// TestP17_WhatIsCombinedAddsUp has one config and 512 entries make 128 lanes, eight sets of methods, nine groups and two
// zones, with a ring in each.
func TestP17_WhatIsCombinedAddsUp(t *testing.T) {
	var split []string
	for g := range 8 {
		split = append(split, fmt.Sprintf(`{"match":{"group":"g%d"},"weight":1}`, g))
	}
	config := `{"preferZone":true,"route":[{"label":"lane"},{"label":"other"}],"split":[` + strings.Join(split, ",") + `],` + ringConfig + `}`
	var fleet []resolver.Endpoint
	for i := range 512 {
		e := &endpoint.Endpoint{Instance: fmt.Sprint(i), Addr: fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), Zone: fmt.Sprintf("z%d", i/4%2), Weight: uint32(i + 1), Metadata: map[string]string{
			"lane": fmt.Sprintf("l%d", i%128), "other": fmt.Sprintf("l%d", i/4), "group": fmt.Sprintf("g%d", i/8%8), endpoint.MethodsName: fmt.Sprintf("s.A/M%d", i/128+i%2*4),
		}}
		fleet = append(fleet, attr.New(e, new(attr.Storage)))
	}
	plain := inUse(called(t, `{}`, fleet, 1, 1))
	all := inUse(called(t, config, fleet, 128, 8))
	if more := int64(all) - int64(plain); more > 32<<20 {
		t.Errorf("a config and 512 entries take %d KiB more", more>>10)
	} else {
		t.Logf("%d KiB, and %d KiB more", plain>>10, more>>10)
	}
}

// TestP18_MethodsOfManyLanes has 808 entries of 16 KiB name methods, each others, in 100 lanes.
func TestP18_MethodsOfManyLanes(t *testing.T) {
	var fleet []resolver.Endpoint
	for i := range 808 {
		text := fmt.Appendf(nil, "s.A/M%d", i%8)
		for n := 0; len(text) < endpoint.MaxMethods-16; n++ {
			text = fmt.Appendf(text, ",%x%x", n, i)
		}
		e := &endpoint.Endpoint{Instance: fmt.Sprint(i), Addr: fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), Metadata: map[string]string{"lane": fmt.Sprintf("l%d", i%100), endpoint.MethodsName: string(text)}}
		fleet = append(fleet, attr.New(e, new(attr.Storage)))
	}
	if more := inUse(called(t, `{"route":[{"label":"lane"}]}`, fleet, 100, 8)); more > 16<<20 {
		t.Errorf("they take %d KiB", more>>10)
	} else {
		t.Logf("%d KiB", more>>10)
	}
}

// TestP19_AConnectionIsSmall bounds what a connection to 1,000 endpoints allocates.
func TestP19_AConnectionIsSmall(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates as well")
	}
	fleet := bigFleet(1000)
	var before, after runtime.MemStats
	for _, config := range []string{`{}`, `{"preferZone":true,"zoneMinPercent":50,"drain":["i00007"],"route":[{"lane":"red","match":{"version":"v1"}}],` + byVersion + `}`} {
		runtime.ReadMemStats(&before)
		called(t, config, fleet, 1, 1)()
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 3<<20 {
			t.Errorf("with %s it allocates %d KiB", config, took>>10)
		}
	}
}

// A call that is tied to an instance waits while that connects or has yet to tell its health, and after a while goes to the next.
func TestATiedCallWaits(t *testing.T) {
	tied := calloptions.WithAffinity(t.Context(), "somebody")
	const its, other = "a:1", "b:1"
	for _, tt := range []struct {
		what          string
		hangs, silent bool
		then          func(*fakeSubConn)
	}{
		{"connects", true, false, nil},
		{"connects again", false, false, func(s *fakeSubConn) { s.cc.hangs = map[string]bool{its: true}; s.set(connectivity.Idle, nil) }},
		{"says nothing of its health", false, true, nil},
		{"is asked for its health anew", false, false, func(s *fakeSubConn) { s.health(balancer.SubConnState{ConnectivityState: connectivity.Connecting}) }},
	} {
		p, cc := newTestPolicy(t)
		now := time.Now()
		p.now = func() time.Time { return now }
		cc.hangs, cc.silent = map[string]bool{its: tt.hangs}, map[string]bool{its: tt.silent}
		_ = hand(p, mustConfig(t, `{`+ringConfig+`}`), &attr.State{Client: &attr.Client{}, Endpoints: ends("a v1", "b v1")})
		settle(p, cc)
		if tt.then != nil {
			if got, err := cc.pick(tied, "/s.A/M"); got != its {
				t.Fatalf("it goes to %q, %v", got, err)
			}
			now = now.Add(time.Second)
			tt.then(cc.last(its))
			settle(p, cc)
		}
		if got, err := cc.pick(tied, "/s.A/M"); !errors.Is(err, balancer.ErrNoSubConnAvailable) {
			t.Errorf("while its instance %s it goes to %q, %v", tt.what, got, err)
		}
		now = now.Add(knownWithin)
		p.do(func() { p.core.reselect(now) })
		if got, err := cc.pick(tied, "/s.A/M"); got != other {
			t.Errorf("while its instance %s for long it goes to %q, %v", tt.what, got, err)
		}
	}
}
