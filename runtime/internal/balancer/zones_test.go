package balancer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

func TestStaying(t *testing.T) {
	for _, tt := range []struct {
		endpoints, ready, waiting int
		percent                   uint32
		want                      float64
	}{
		{10, 10, 0, 80, 1}, {10, 8, 0, 80, 1}, {10, 5, 0, 80, 0.625}, {10, 2, 0, 80, 0.25}, {10, 0, 0, 80, 0},
		{10, 9, 0, 100, 0.9}, {10, 1, 0, 10, 1}, {10, 1, 0, 1, 1}, {1, 0, 0, 1, 0},
		{10, 5, 0, 0, 1}, {10, 0, 0, 0, 1}, // not asked for
		{200, 100, 100, 100, 1}, {200, 90, 100, 100, 0.9}, {10, 0, 10, 50, 1}, // nothing is known of what waits
		{3, 5, 0, 100, 1}, {3, 0, 5, 100, 1}, // the leaf has just lost some
		{100_000, 49_999, 0, 50, 0.99998},
	} {
		l := &leaf{endpoints: make([]resolver.Endpoint, tt.endpoints), readiness: readiness{tt.ready, tt.waiting}}
		got := l.staying(tt.percent)
		if share := float64(got.n) / float64(got.of); math.Abs(share-tt.want) > 1e-9 {
			t.Errorf("%d of %d ready, %d waiting, and %d%% wanted: %v stays, want %v", tt.ready, tt.endpoints, tt.waiting, tt.percent, share, tt.want)
		}
	}
}

// TestCoreSpills has the picker be made anew where the share of a zone changes, and nowhere else.
func TestCoreSpills(t *testing.T) {
	const zones = `"preferZone":true,"zoneMinPercent":50`
	fleet := []string{"a v1 x", "b v1 x", "c v1 x", "d v1 x", "e v1 y"}
	m := newMachine(t).update(zones, "x", fleet...).all(serves, ready)
	own := m.leaf(serves, "abcd")
	if !own.counted || m.leaf(serves, "e").counted {
		t.Error("not the client's own zone is counted")
	}
	for _, tt := range []struct {
		ready   int
		share   string
		publish bool
	}{{0, "0/200", false}, {1, "100/200", true}, {2, "all", true}, {3, "all", false}, {4, "all", false}, {1, "100/200", true}, {1, "100/200", false}} {
		m.take(m.core.leafReadiness(own, readiness{ready: tt.ready}))
		if m.want(fmt.Sprint(tt.ready, " are ready"), "abcd e"); len(m.done) > 0 != tt.publish {
			t.Errorf("%d are ready: did %q", tt.ready, m.done)
		}
		if got := m.stays(); got != tt.share {
			t.Errorf("%d are ready: %s stays, want %s", tt.ready, got, tt.share)
		}
	}
	for _, tt := range []struct {
		name string
		do   func()
		want string
	}{
		{"others are not ready", func() { m.tell(serves, "e", failed) }, "all"},
		{"others are idle", func() { m.tell(serves, "e", idle) }, "all"},
		{"others are ready", func() { m.tell(serves, "e", ready) }, "100/200"},
		{"the own are idle", func() { m.tell(serves, "abcd", idle) }, "all"},
		{"the own are ready", func() { m.tell(serves, "abcd", ready) }, "100/200"},
		{"a lower share is wanted", func() { m.update(`"preferZone":true,"zoneMinPercent":25`, "x", fleet...) }, "all"},
		{"a higher share is wanted", func() { m.update(`"preferZone":true,"zoneMinPercent":75`, "x", fleet...) }, "100/300"},
		{"no share is wanted", func() { m.update(`"preferZone":true`, "x", fleet...) }, "all"},
		{"the zone has fewer", func() { m.update(zones, "x", fleet[2:]...) }, "all"},
	} {
		if tt.do(); m.stays() != tt.want {
			t.Errorf("%s: %s stays, want %s", tt.name, m.stays(), tt.want)
		}
	}
	if len(m.open) != 2 {
		t.Errorf("%d leaves are open", len(m.open))
	}
}

// stays describes the share of the first group's calls that stay in the client's zone.
func (m *machine) stays() string {
	_, stay := m.core.serving.spill(&m.core.serving.plan.views[0].groups[0])
	if stay == allCalls {
		return "all"
	}
	return fmt.Sprintf("%d/%d", stay.n, stay.of)
}

// assembled returns the view's picker of a machine's plan, whose leaves pick their own endpoints.
func (m *machine) assembled() viewPicker {
	var v viewPicker
	g := m.core.serving
	for _, t := range tiers(g) {
		l := g.leaves[t.key]
		l.state.Picker = base.NewErrPicker(errors.New(names(l.endpoints)))
	}
	g.assembleView(&v, &g.plan.views[0])
	return v
}

func picked(p balancer.Picker) string {
	_, err := p.Pick(balancer.PickInfo{})
	return err.Error()
}

// TestSharesOfZonesAndSplitsAreExact has each group of a split keep its share while a part of it leaves the zone.
func TestSharesOfZonesAndSplitsAreExact(t *testing.T) {
	const zones = `,"preferZone":true,"zoneMinPercent":100`
	m := newMachine(t).update(byVersion+zones, "x", "a v1 x", "b v1 x", "c v1 y", "d v2 x", "e v2 x", "f v2 x", "g v2 x", "h v2 y").all(serves, ready)
	m.take(m.core.leafReadiness(m.leaf(serves, "ab"), readiness{ready: 1}))
	m.take(m.core.leafReadiness(m.leaf(serves, "defg"), readiness{ready: 3}))
	v := m.assembled()
	var s sequence
	const n = 10_000
	got, ofKey := map[string]int{}, map[string]int{}
	for range n {
		got[picked(v.choose(s.next()))]++
		ofKey[picked(v.chooseFor(1<<63, &s))]++
	}
	for name, want := range map[string]int{"ab": 4500, "c": 4500, "defg": 750, "h": 250} {
		if math.Abs(float64(got[name]-want)) > 5 {
			t.Errorf("%s: %d of %d calls, want %d", name, got[name], n, want)
		}
	}
	if len(ofKey) != 2 || math.Abs(float64(ofKey["ab"]-n/2)) > 5 {
		t.Errorf("calls of one affinity, which keeps them in a group and not in a zone: %v", ofKey)
	}

	m.take(m.core.leafReadiness(m.leaf(serves, "ab"), readiness{ready: 2}))
	m.tell(serves, "h", failed)
	if v = m.assembled(); v.spills != nil {
		t.Errorf("all stay, and there is more to a pick: %v", v.spills)
	}
}

// TestCallsSpillInProportion counts picks among 10 endpoints of the client's own zone and 5 others.
func TestCallsSpillInProportion(t *testing.T) {
	own := zoneOf(10, "n", "x")
	others := zoneOf(5, "f", "y")
	for _, child := range []string{"round_robin", "etcd_weighted", "least_request_experimental"} {
		t.Run(child, func(t *testing.T) {
			p, cc := newPolicy(t)
			config := mustConfig(t, `{"preferZone":true,"zoneMinPercent":80,"childPolicy":[{"`+child+`":{}}]}`)
			update := func() {
				_ = hand(p, config, &attr.State{Client: &attr.Client{Zone: "x"}, Endpoints: append(own[:len(own):len(own)], others...)})
				settle(p, cc)
			}
			update()
			for _, tt := range []struct{ ready, want int }{{10, 100}, {8, 100}, {5, 62}, {2, 25}, {0, 0}, {3, 38}, {10, 100}} {
				cc.readyAre(own, tt.ready)
				settleAll(t, p, cc)
				if got := cc.percentTo(t, "n"); math.Abs(float64(got-tt.want)) > 2 {
					t.Errorf("%d of 10 are ready: %d%% of the calls stay, want %d%%", tt.ready, got, tt.want)
				}
			}
			cc.readyAre(own, 2)
			cc.readyAre(others, 0)
			settleAll(t, p, cc)
			if got := cc.percentTo(t, "n"); got != 100 {
				t.Errorf("no other zone has any that is ready, and %d%% stay", got)
			}
			if made := len(cc.made); made != 15 {
				t.Errorf("%d connections", made)
			}
		})
	}
}

// TestWhatIsUnwellIsNotReady has half of a zone fail its health checks.
func TestWhatIsUnwellIsNotReady(t *testing.T) {
	own, others := zoneOf(4, "n", "x"), ends("f0 - y")
	p, cc := newPolicy(t)
	config := mustConfig(t, `{"preferZone":true,"zoneMinPercent":100}`)
	_ = hand(p, config, &attr.State{Client: &attr.Client{Zone: "x"}, Endpoints: append(own, others...)})
	settle(p, cc)
	for _, s := range cc.open() {
		if addr := s.addrs[0].Addr; addr == "n0:1" || addr == "n1:1" {
			s.mu.Lock()
			health := s.health
			s.mu.Unlock()
			health(balancer.SubConnState{ConnectivityState: failed, ConnectionError: errors.New("unwell")})
		}
	}
	settle(p, cc)
	if got := cc.percentTo(t, "n"); math.Abs(float64(got-50)) > 2 {
		t.Errorf("%d%% of the calls stay where half are well", got)
	}
}

// zoneOf returns n endpoints of a zone.
func zoneOf(n int, name, zone string) []resolver.Endpoint {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%s%d - %s", name, i, zone))
	}
	return ends(all...)
}

// settleAll waits until every leaf is ready or has failed: gRPC's policies connect again in goroutines of their own.
func settleAll(t *testing.T, p *policy, cc *fakeConn) {
	t.Helper()
	eventually(t, "all is settled", func() bool {
		settle(p, cc)
		p.calls.Lock()
		defer p.calls.Unlock()
		for _, l := range p.core.serving.leaves {
			if s := l.state.ConnectivityState; s != ready && s != failed {
				return false
			}
		}
		return true
	})
}

// readyAre has the first n of some endpoints be ready, and the others refuse connections.
func (c *fakeConn) readyAre(endpoints []resolver.Endpoint, n int) {
	for i, ep := range endpoints {
		c.mu.Lock()
		if delete(c.down, address(ep)); i >= n {
			c.down[address(ep)] = errors.New("refused")
		}
		c.mu.Unlock()
		for _, s := range c.open() {
			s.mu.Lock()
			change := s.addrs[0].Addr == address(ep) && (s.state == connectivity.Ready) != (i < n)
			s.mu.Unlock()
			if change {
				s.set(connectivity.Idle, nil)
			}
		}
	}
}

// percentTo returns how many percent of the picks reach an endpoint whose name begins so.
func (c *fakeConn) percentTo(t *testing.T, prefix string) int {
	t.Helper()
	const n = 1000
	hits := 0
	for range n {
		addr, err := c.pick(context.Background(), "/s.A/M")
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(addr, prefix) {
			hits++
		}
	}
	return (hits*100 + n/2) / n
}
