package balancer

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// bigFleet returns n endpoints of three versions, three zones and two sets of methods.
func bigFleet(n int) []resolver.Endpoint {
	fleet := make([]resolver.Endpoint, n)
	for i := range fleet {
		fleet[i] = bigEndpoint(i, "")
	}
	return fleet
}

func bigEndpoint(i int, build string) resolver.Endpoint {
	methods := "helloworld.Greeter/SayHello,SayBye"
	if i%10 == 0 {
		methods += ",SayNew"
	}
	addr := fmt.Sprintf("10.%d.%d.%d:9000", i>>16, i>>8&255, i&255)
	return attr.New(&endpoint.Endpoint{
		Instance: fmt.Sprintf("i%05d", i), Addr: addr, Version: fmt.Sprintf("v%d", i%3), Zone: fmt.Sprintf("z%d", i%4),
		Metadata: map[string]string{endpoint.MethodsName: methods, "build": build},
	}, new(attr.Storage))
}

// bigConfig splits in three, prefers zones, and drains 1,000 names.
func bigConfig(tb testing.TB) *config {
	var drain []string
	for i := range 1000 {
		drain = append(drain, fmt.Sprintf("%q", fmt.Sprintf("i%05d", i*7)))
	}
	c, err := parseConfig(json.RawMessage(`{"preferZone":true,"drain":[` + strings.Join(drain, ",") + `],"split":[
		{"match":{"version":"v0"},"weight":90},{"match":{"version":"v1"},"weight":9},{"match":{"version":"v2"},"weight":1}]}`))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// BenchmarkUpdate compares an update of 10,000 endpoints through the policy with what gRPC's
// round_robin takes for the same.
func BenchmarkUpdate(b *testing.B) {
	const n = 10_000
	fleet := bigFleet(n)
	c := bigConfig(b)
	client := &attr.Client{Zone: "z1"}
	hand := func(lb balancer.Balancer, endpoints []resolver.Endpoint) {
		state := attr.SetState(resolver.State{Endpoints: endpoints}, &attr.State{Client: client, Endpoints: endpoints})
		if err := lb.UpdateClientConnState(balancer.ClientConnState{ResolverState: state, BalancerConfig: c}); err != nil {
			b.Fatal(err)
		}
	}
	p, cc := newPolicy(b)
	hand(p, fleet)
	settle(p, cc)
	rrConn := &fakeConn{}
	rr := balancer.Get(roundrobin.Name).Build(rrConn, balancer.BuildOptions{})
	hand(rr, fleet)
	rrConn.pump(nil)

	one := func(i int) []resolver.Endpoint {
		next := append([]resolver.Endpoint{}, fleet...)
		next[n/2+1] = bigEndpoint(n/2+1, fmt.Sprint(i))
		return next
	}
	all := func(i int) []resolver.Endpoint {
		next := make([]resolver.Endpoint, n)
		for j := range next {
			next[j] = bigEndpoint(j, fmt.Sprint(i))
		}
		return next
	}
	less := func(i int) []resolver.Endpoint { return fleet[:n-i%2] }
	for _, change := range []struct {
		name string
		next func(i int) []resolver.Endpoint
	}{{"one endpoint's attributes", one}, {"all attributes", all}, {"one endpoint comes or goes", less}} {
		states := [][]resolver.Endpoint{change.next(1), change.next(2)}
		for _, of := range []struct {
			name string
			lb   balancer.Balancer
			cc   *fakeConn
		}{{"round_robin", rr, rrConn}, {"etcd", p, cc}} {
			b.Run(change.name+"/"+of.name, func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					hand(of.lb, states[i%2])
					i++
				}
				b.StopTimer()
				of.cc.pump(func() { p.do(func() {}) })
			})
		}
	}
	rr.Close()
}
