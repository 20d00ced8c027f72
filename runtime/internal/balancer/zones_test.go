package balancer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

func TestStaying(t *testing.T) {
	for _, tt := range []struct {
		endpoints, ready, waiting int
		percent                   uint32
		want                      float64
	}{
		{10, 10, 0, 80, 1}, {10, 8, 0, 80, 1}, {10, 5, 0, 80, 0.625}, {10, 2, 0, 80, 0.25}, {10, 0, 0, 80, 0},
		{10, 9, 0, 100, 0.9}, {10, 1, 0, 10, 1}, {10, 1, 0, 1, 1}, {1, 0, 0, 1, 0},
		{200, 100, 100, 100, 1}, {200, 90, 100, 100, 0.9}, {10, 0, 10, 50, 1}, // nothing is known of what waits
		{100_000, 49_999, 0, 50, 0.99998},
	} {
		got := staying(tt.percent, tt.ready, tt.endpoints-tt.waiting)
		if share := float64(got.n) / float64(got.of); math.Abs(share-tt.want) > 1e-9 {
			t.Errorf("%d of %d ready, %d waiting, and %d%% wanted: %v stays, want %v", tt.ready, tt.endpoints, tt.waiting, tt.percent, share, tt.want)
		}
	}
}

// standOf returns a plan's standing for calls without a wish, where the given instances are ready and others fail.
func standOf(p *plan, are string) *snapshot {
	p.conns = nil
	for i := range p.All {
		x := newConn(address(&p.All[i]), new(picking.Stats))
		is := condition{readiness: failing, err: errors.New("refused")}
		if strings.Contains(are, instance(&p.All[i])) {
			is = condition{readiness: ready}
		}
		x.current.Store(&is)
		p.conns = append(p.conns, x)
	}
	p.base.open()
	return p.base.refresh(1, nil)
}

// TestSharesOfZonesAndSplitsAreExact has each group of a split keep its share while a part of it leaves the zone.
func TestSharesOfZonesAndSplitsAreExact(t *testing.T) {
	in := &input{config: mustConfig(t, `{"preferZone":true,"zoneMinPercent":100,`+byVersion+`}`), client: &attr.Client{Zone: "x"},
		endpoints: ends("a v1 x", "b v1 x", "c v1 y", "d v2 x", "e v2 x", "f v2 x", "g v2 x", "h v2 y", "z v3 x")}
	p := makePlan(in)
	const n = 10_000
	for _, tt := range []struct {
		ready string
		want  map[string]int
	}{
		{"abcdefghz", map[string]int{"a": 9000, "d": 1000}},
		{"z", map[string]int{"z": 10_000}}, // the groups with a share have none that is ready
		{"acdefh", map[string]int{"a": 4500, "c": 4500, "d": 750, "h": 250}},
		{"acdef", map[string]int{"a": 4500, "c": 4500, "d": 1000}}, // there is no other zone to go to
		{"cdefh", map[string]int{"c": 9000, "d": 750, "h": 250}},
		{"defh", map[string]int{"d": 7500, "h": 2500}},
		{"abh", map[string]int{"a": 9000, "h": 1000}},
	} {
		s := standOf(p, tt.ready)
		got, ofKey := map[string]int{}, map[string]int{}
		count := func(in map[string]int, w *calloptions.Options) {
			group, leaves := s.choose(w, &p.sequence)
			set := s.groups[group].sets[0]
			if leaves {
				set = s.groups[group].sets[s.groups[group].rest]
			}
			in[strings.TrimSuffix(set.conns[0].addr, ":1")]++
		}
		for range n {
			count(got, &calloptions.Options{})
			count(ofKey, &calloptions.Options{Affinity: calloptions.Key{Text: "k", Hash: 1 << 62}})
		}
		for name := range got {
			if math.Abs(float64(got[name]-tt.want[name])) > 5 {
				t.Errorf("%s are ready: %s: %d of %d calls, want %d", tt.ready, name, got[name], n, tt.want[name])
			}
		}
		if tt.ready == "acdefh" && (len(ofKey) != 2 || math.Abs(float64(ofKey["a"]-n/2)) > 5) {
			t.Errorf("calls of one affinity, which keeps them in a group and not in a zone: %v", ofKey)
		}
	}
}

// TestCallsSpillInProportion counts picks among 10 endpoints of the client's own zone and 5 others.
func TestCallsSpillInProportion(t *testing.T) {
	own, others := zoneOf(10, "n", "x"), zoneOf(5, "f", "y")
	for _, child := range []string{"round_robin", "etcd_weighted", "least_request_experimental", "etcd_peak_ewma"} {
		t.Run(child, func(t *testing.T) {
			p, cc := newTestPolicy(t)
			update := func(config string) {
				_ = hand(p, mustConfig(t, config), &attr.State{Client: &attr.Client{Zone: "x"}, Endpoints: append(own[:len(own):len(own)], others...)})
				settle(p, cc)
			}
			update(`{"preferZone":true,"zoneMinPercent":80,"childPolicy":[{"` + child + `":{}}]}`)
			for _, tt := range []struct{ ready, want int }{{10, 100}, {8, 100}, {5, 62}, {2, 25}, {0, 0}, {3, 38}, {10, 100}} {
				cc.readyAre(own, tt.ready)
				settle(p, cc)
				if got := cc.percentTo(t, "n"); math.Abs(float64(got-tt.want)) > 2 {
					t.Errorf("%d of 10 are ready: %d%% of the calls stay, want %d%%", tt.ready, got, tt.want)
				}
			}
			cc.readyAre(own, 2)
			settle(p, cc)
			for percent, want := range map[int]int{10: 100, 40: 50, 100: 20} {
				update(fmt.Sprintf(`{"preferZone":true,"zoneMinPercent":%d,"childPolicy":[{%q:{}}]}`, percent, child))
				if got := cc.percentTo(t, "n"); math.Abs(float64(got-want)) > 2 {
					t.Errorf("2 of 10 are ready: %d%% of the calls stay with %d wanted, want %d%%", got, percent, want)
				}
			}
			cc.readyAre(others, 0)
			settle(p, cc)
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
	p, cc := newTestPolicy(t)
	config := mustConfig(t, `{"preferZone":true,"zoneMinPercent":100}`)
	_ = hand(p, config, &attr.State{Client: &attr.Client{Zone: "x"}, Endpoints: append(zoneOf(4, "n", "x"), ends("f0 - y")...)})
	settle(p, cc)
	for _, s := range cc.open() {
		if addr := s.addrs[0].Addr; addr == "n0:1" || addr == "n1:1" {
			s.mu.Lock()
			health := s.health
			s.mu.Unlock()
			health(balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: errors.New("unwell")})
		}
	}
	settle(p, cc)
	if got := cc.percentTo(t, "n"); math.Abs(float64(got-50)) > 2 {
		t.Errorf("%d%% of the calls stay where half are well", got)
	}
	for _, s := range cc.open() {
		s.health(balancer.SubConnState{ConnectivityState: connectivity.TransientFailure}) // as gRPC says that it is ejected
	}
	settle(p, cc)
	if _, err := cc.pick(t.Context(), "/s.A/M"); !errors.Is(err, errUnwell) {
		t.Errorf("a call where none is well: %v", err)
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

// readyAre has the first n of some endpoints be ready, and the others refuse connections.
func (c *fakeConn) readyAre(endpoints []resolver.Endpoint, n int) {
	for i := range endpoints {
		addr := address(&endpoints[i])
		c.mu.Lock()
		if delete(c.down, addr); i >= n {
			c.down[addr] = errors.New("refused")
		}
		c.mu.Unlock()
		for _, s := range c.open() {
			s.mu.Lock()
			change := s.addrs[0].Addr == addr && (s.state == connectivity.Ready) != (i < n)
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
