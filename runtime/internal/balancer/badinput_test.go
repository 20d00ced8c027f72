package balancer

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// TestEndpointsOfAnyKind has every way of picking meet endpoints such as nobody should write.
func TestEndpointsOfAnyKind(t *testing.T) {
	ofEtcd := func(instance, addr string, weight uint32) resolver.Endpoint {
		e := endpoint.Endpoint{Instance: instance, Addr: addr, Weight: weight}
		return attr.New(&e, new(attr.Storage))
	}
	bare := func(addr string) resolver.Endpoint {
		return resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr}}}
	}
	var heavy []resolver.Endpoint
	for i := range 1000 {
		heavy = append(heavy, ofEtcd(fmt.Sprintf("i%04d", i), fmt.Sprintf("i%04d:1", i), math.MaxUint32))
	}
	const bound, slow = `"maxConcurrentRequests":4294967295,`, `"slowStart":{"window":"3600s"},`
	with := map[string]string{
		`"round_robin":{}`: bound + slow, `"etcd_weighted":{}`: bound + slow, `"etcd_peak_ewma":{}`: bound + slow,
		`"least_request_experimental":{}`: bound, `"ring_hash_experimental":{"requestHashHeader":"k"}`: bound, `"pick_first":{}`: "",
	}
	for way := range with {
		for _, tt := range []struct {
			name  string
			fleet []resolver.Endpoint
			told  bool   // by etcd's discovery
			want  string // the addresses that calls go to, "" for an error; "*": any
		}{
			{"none", nil, true, ""},
			{"none, of another resolver", nil, false, ""},
			{"without an address", []resolver.Endpoint{{}}, false, ""},
			{"one without an address", []resolver.Endpoint{{}, bare("a:1")}, false, "a:1"},
			{"one address twice", []resolver.Endpoint{bare("a:1"), bare("a:1")}, false, "a:1"},
			{"one id twice", []resolver.Endpoint{ofEtcd("a", "a:1", 0), ofEtcd("a", "a:2", 0)}, true, "a:1 a:2"},
			{"weights of 0", []resolver.Endpoint{ofEtcd("a", "a:1", 0), ofEtcd("b", "b:1", 0)}, true, "a:1 b:1"},
			{"heavy ones", heavy, true, "*"},
		} {
			p, cc := newTestPolicy(t)
			c := mustConfig(t, "{"+with[way]+`"split":[{"match":{"version":"v9"},"weight":4294967295}],"childPolicy":[{`+way+`}]}`)
			if tt.told {
				_ = hand(p, c, &attr.State{Client: &attr.Client{}, Endpoints: tt.fleet})
			} else {
				_ = p.UpdateClientConnState(balancer.ClientConnState{ResolverState: resolver.State{Endpoints: tt.fleet}, BalancerConfig: c})
			}
			settle(p, cc)
			called := map[string]bool{}
			for range 200 {
				addr, err := cc.pick(t.Context(), "/s.A/M")
				if (err != nil) != (tt.want == "") {
					t.Fatalf("%s: %s: a call goes to %q: %v", way, tt.name, addr, err)
				}
				if err == nil {
					called[addr] = true
				}
			}
			want := strings.Fields(tt.want)
			if strings.Contains(way, "pick_first") {
				want = want[:min(1, len(want))]
			}
			for _, addr := range want {
				if tt.want != "*" && !called[addr] || len(called) == 0 {
					t.Errorf("%s: %s: calls go to %v, want %s", way, tt.name, called, tt.want)
				}
			}
		}
	}
}

// TestAHundredThousand has as many endpoints as no key should have.
func TestAHundredThousand(t *testing.T) {
	p, cc := newTestPolicy(t)
	now := time.Now()
	p.now = func() time.Time { return now }
	client := &attr.Client{Most: 1000, Seed: seedOfTests} // as where descriptors are bounded
	_ = hand(p, mustConfig(t, `{}`), &attr.State{Client: client, Endpoints: bigFleet(100_000)})
	settle(p, cc)
	if _, err := cc.pick(t.Context(), "/helloworld.Greeter/SayHello"); err != nil || len(cc.open()) > client.Most {
		t.Errorf("%d connections: %v", len(cc.open()), err)
	}
}
