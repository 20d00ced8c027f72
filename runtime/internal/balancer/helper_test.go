package balancer

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// bigFleet returns n endpoints of three versions, in four zones. One in ten serves one method more than the others.
func bigFleet(n int) []resolver.Endpoint {
	fleet := make([]resolver.Endpoint, n)
	for i := range fleet {
		methods := "helloworld.Greeter/SayHello,SayBye"
		if i%10 == 0 {
			methods += ",SayNew"
		}
		fleet[i] = attr.New(&endpoint.Endpoint{
			Instance: fmt.Sprintf("i%05d", i), Addr: fmt.Sprintf("10.%d.%d.%d:9000", i>>16, i>>8&255, i&255),
			Version: fmt.Sprintf("v%d", i%3), Zone: fmt.Sprintf("z%d", i%4), Metadata: map[string]string{endpoint.MethodsName: methods},
		}, new(attr.Storage))
	}
	return fleet
}

// revive ends the back-off of what is down.
func (c *fakeConn) revive() {
	for _, sc := range c.open() {
		sc.mu.Lock()
		down := sc.state == connectivity.TransientFailure
		sc.mu.Unlock()
		if down {
			sc.set(connectivity.Idle, nil)
		}
	}
}

// TestPickAllocatesNothing has a pick for each option of the policy, and for all of them.
func TestPickAllocatesNothing(t *testing.T) {
	if underRace {
		t.Skip("pools lose some records of calls")
	}
	const ring = `"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]`
	for _, config := range []string{
		``, `"split":[{"match":{"version":"v0"},"weight":5},{"match":{"version":"v1"},"weight":95}]`, `"preferZone":true,"zoneMinPercent":80`,
		`"subset":20`, `"route":[{"lane":"red","match":{"version":"v1"}}]`, `"maxConcurrentRequests":100`, `"slowStart":{"window":"3600s"}`, ring,
		`"childPolicy":[{"etcd_weighted":{}}]`, `"childPolicy":[{"least_request_experimental":{}}]`, `"childPolicy":[{"etcd_peak_ewma":{}}]`,
		`"preferZone":true,"zoneMinPercent":80,"subset":20,"maxConcurrentRequests":100,"slowStart":{"window":"3600s"},"childPolicy":[{"etcd_peak_ewma":{}}]`,
	} {
		p, cc := newTestPolicy(t)
		_ = hand(p, mustConfig(t, "{"+config+"}"), &attr.State{Endpoints: bigFleet(100), Client: &attr.Client{Zone: "z1", Seed: seedOfTests}})
		settle(p, cc)
		ctx := calloptions.WithAffinity(calloptions.WithLane(t.Context(), "red"), "k")
		for _, method := range []string{"SayHello", "SayNew"} {
			info := balancer.PickInfo{Ctx: ctx, FullMethodName: "/helloworld.Greeter/" + method}
			pick := func() {
				result, err := cc.state.Picker.Pick(info)
				if err != nil {
					t.Fatal(err)
				}
				if result.Done != nil {
					result.Done(balancer.DoneInfo{BytesReceived: true})
				}
			}
			pick()
			settle(p, cc)
			if n := testing.AllocsPerRun(100, pick); n > 0 {
				t.Errorf("%s: %v allocations a pick of %s", config, n, method)
			}
		}
	}
}

const peakConfig = `"childPolicy":[{"etcd_peak_ewma":{}}]`
