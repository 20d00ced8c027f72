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

// TestP20_EachCallsOwnSetDecides has live routes come while no instance of the base is up.
func TestP20_EachCallsOwnSetDecides(t *testing.T) {
	p, cc := newTestPolicy(t)
	cc.down["base:1"] = errors.New("refused")
	fleet := ends("base v1", "blue v2", "red v3")
	_ = hand(p, mustConfig(t, `{}`), &attr.State{Client: &attr.Client{}, Endpoints: fleet})
	settle(p, cc)
	_ = hand(p, mustConfig(t, `{"route":[{"lane":"red","match":{"version":"v3"},"strict":true},{"lane":"blue","match":{"version":"v2"}}]}`),
		&attr.State{Client: &attr.Client{}, Endpoints: fleet})
	settle(p, cc)
	for range 50 {
		for _, lane := range []string{"red", "blue"} {
			if addr, err := cc.pick(calloptions.WithLane(t.Context(), lane), "/s.A/M"); err != nil || addr != lane+":1" {
				t.Fatalf("a call of %s goes to %s, %v", lane, addr, err)
			}
		}
		if addr, err := cc.pick(t.Context(), "/s.A/M"); err == nil {
			t.Fatalf("a call without a lane goes to %s", addr)
		}
	}
}

// A connection that ends is made again at once, however short it was, as gRPC's own policies do. It is ready once its health is known.
func TestBriefConnections(t *testing.T) {
	c, now := newCore(noStats), time.Now()
	c.update(planOf(t, `{}`, ends("a v1")), now)
	x := c.conns["a:1"]
	for range 20 {
		c.flush()
		c.changed(x, balancer.SubConnState{ConnectivityState: connectivity.Ready}, now)
		if x.current.Load().readiness == ready {
			t.Error("ready, and its health is not known")
		}
		c.changed(x, balancer.SubConnState{ConnectivityState: connectivity.Idle}, now)
		if steps := c.flush().steps; !x.is(trying) || steps[len(steps)-1] != (step{dial, x}) {
			t.Fatalf("%v, and %+v", steps, x.current.Load())
		}
	}
}

// What a connection says that was closed is no news of the one after it.
func TestWhatIsLateIsNotHeard(t *testing.T) {
	p, cc := newTestPolicy(t)
	_ = hand(p, mustConfig(t, `{}`), &attr.State{Endpoints: ends("a")})
	settle(p, cc)
	x := p.core.conns["a:1"]
	p.do(func() {
		p.core.close(x)
		p.core.connect(x, false, p.now())
	})
	settle(p, cc)
	cc.made[0].listener(balancer.SubConnState{ConnectivityState: connectivity.TransientFailure})
	settle(p, cc)
	if len(cc.made) != 2 || !x.is(ready) {
		t.Errorf("of %d, the last: %+v", len(cc.made), x.current.Load())
	}
}

// gRPC goes by the service config of the time when it is asked for the health of a connection.
func TestHealthIsAskedAnew(t *testing.T) {
	p, cc := newTestPolicy(t)
	for i, health := range []string{"", "acme.User", "acme.User", "acme.Shop"} {
		_ = hand(p, mustConfig(t, `{}`), &attr.State{Endpoints: ends("a"), Health: health})
		settle(p, cc)
		if got, want := cc.made[0].registers, []int{1, 2, 2, 3}[i]; got != want {
			t.Errorf("asked %d times by config %d, want %d", got, i, want)
		}
	}
}

// TestHealthIsWaitedForOnlySoLong has an instance be connected to and say nothing of its health: after a while its calls go where
// they go while it fails.
func TestHealthIsWaitedForOnlySoLong(t *testing.T) {
	for _, tt := range []struct{ name, fleet, want string }{
		{"a lane's leave for the base", "a v1,c v2", "a:1"},
	} {
		p, cc := newTestPolicy(t)
		now := time.Now()
		p.now = func() time.Time { return now }
		cc.silent = map[string]bool{"c:1": true}
		_ = hand(p, mustConfig(t, "{"+looseRed+"}"), &attr.State{Client: &attr.Client{}, Endpoints: ends(strings.Split(tt.fleet, ",")...)})
		where := func() string {
			settle(p, cc)
			got, _ := cc.pick(calloptions.WithLane(t.Context(), "red"), "/s.A/M")
			return got
		}
		if got := where(); got != "" {
			t.Errorf("%s: at first they go to %q", tt.name, got)
		}
		now = now.Add(knownWithin)
		p.do(func() { p.core.reselect(now) })
		if got := where(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		cc.last("c:1").health(balancer.SubConnState{ConnectivityState: connectivity.Ready})
		if got := where(); got != "c:1" {
			t.Errorf("%s: once it is well they go to %q", tt.name, got)
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

// aStarted returns the instance a, which says when it started.
func aStarted(at string) []resolver.Endpoint {
	a := &endpoint.Endpoint{Instance: "a", Addr: "a:1", Metadata: map[string]string{endpoint.StartedName: at}}
	return []resolver.Endpoint{attr.New(a, new(attr.Storage))}
}

// TestAServerThatStartsAnewIsTriedAtOnce has a server be down for long, and register itself anew at its address: gRPC's pause after
// the attempts before, of up to two minutes, does not hold for it.
func TestAServerThatStartsAnewIsTriedAtOnce(t *testing.T) {
	for name, bad := range map[string]func(p *policy, cc *fakeConn){
		"is down": func(p *policy, cc *fakeConn) {
			cc.down = map[string]error{"a:1": errors.New("refused")}
			_ = hand(p, mustConfig(t, `{}`), &attr.State{Endpoints: aStarted("1")})
			settle(p, cc)
			clear(cc.down)
		},
	} {
		p, cc := newTestPolicy(t)
		bad(p, cc)
		_ = hand(p, mustConfig(t, `{}`), &attr.State{Endpoints: aStarted("1")})
		settle(p, cc)
		if _, err := cc.pick(t.Context(), "/s.A/M"); err == nil {
			t.Errorf("one that %s is tried all the time", name)
		}
		_ = hand(p, mustConfig(t, `{}`), &attr.State{Endpoints: aStarted("2")})
		settle(p, cc)
		if got, err := cc.pick(t.Context(), "/s.A/M"); err != nil || got != "a:1" {
			t.Errorf("one that %s has started anew, and calls go to %q, %v", name, got, err)
		}
	}
}

// TestTarget_AServerThatStartsAnewIsTriedAtOnce has the same of an instance that the plan does not have, and calls name.
func TestTarget_AServerThatStartsAnewIsTriedAtOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		config string
		client *attr.Client
	}{
		"of an Instances": {`{}`, &attr.Client{TargetsOnly: true}},
		"drained":         {`{"drain":["a"]}`, &attr.Client{}},
	} {
		p, cc := newTestPolicy(t)
		update := func(started string) (addr string, err error) {
			_ = hand(p, mustConfig(t, tt.config), &attr.State{Client: tt.client, Endpoints: append(aStarted(started), ends("b")...)})
			for range 2 { // the first call that names it has it connected to
				settle(p, cc)
				addr, err = cc.pick(calloptions.WithTarget(t.Context(), calloptions.Target{Instance: "a"}), "/s.A/M")
			}
			return addr, err
		}
		cc.down = map[string]error{"a:1": errors.New("refused")}
		_, _ = update("1")
		clear(cc.down)
		if _, err := update("1"); err == nil {
			t.Errorf("%s: what gRPC pauses for is tried all the time", name)
		}
		if addr, err := update("2"); err != nil || addr != "a:1" {
			t.Errorf("%s: it has started anew, and calls go to %q, %v", name, addr, err)
		}
	}
}

// TestHeld_AServerThatIsBackIsTriedAtOnce has a server that cannot say when it started be down, out of etcd, and back.
func TestHeld_AServerThatIsBackIsTriedAtOnce(t *testing.T) {
	p, cc := newTestPolicy(t)
	update := func(held string) error {
		_ = hand(p, mustConfig(t, `{}`), &attr.State{Endpoints: ends("a"), Held: map[string]struct{}{held + ":1": {}}})
		settle(p, cc)
		_, err := cc.pick(t.Context(), "/s.A/M")
		return err
	}
	cc.down = map[string]error{"a:1": errors.New("refused")}
	_ = update("a")
	clear(cc.down)
	if update("a") == nil {
		t.Error("what gRPC pauses for is tried all the time")
	}
	if err := update(""); err != nil {
		t.Errorf("etcd has it again: %v", err)
	}
}
