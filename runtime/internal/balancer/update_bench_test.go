package balancer

import (
	"encoding/json"
	"fmt"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// bigFleet returns n endpoints of three versions, four zones and two sets of methods.
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

// summaryOfBig is what discovery knows of a bigFleet.
var summaryOfBig = &attr.Summary{Methods: []string{"helloworld.Greeter/SayHello,SayBye", "helloworld.Greeter/SayHello,SayBye,SayNew"}}

// configsOfBig are nothing, and all that divides.
var configsOfBig = map[string]string{
	"plain": `{}`,
	"all": `{"preferZone":true,"zoneMinPercent":50,"drain":["i00007"],"route":[{"label":"build"},{"lane":"red","match":{"version":"v1"}}],
		"split":[{"match":{"version":"v0"},"weight":90},{"match":{"zone":"z1"},"weight":9},{"match":{"version":"v2"},"weight":1}]}`,
}

func (c *fakeConn) connected(tb testing.TB, config string, fleet []resolver.Endpoint) (update func([]resolver.Endpoint)) {
	parsed, err := parseConfig(json.RawMessage(config))
	if err != nil {
		tb.Fatal(err)
	}
	p := newPolicyOver(tb, c)
	client := &attr.Client{Zone: "z1", Seed: seedOfTests}
	update = func(fleet []resolver.Endpoint) {
		_ = hand(p, parsed, &attr.State{Client: client, Endpoints: fleet, Summary: summaryOfBig})
		settle(p, c)
		for _, method := range []string{"SayHello", "SayNew"} {
			if _, err := c.pick(tb.Context(), "/helloworld.Greeter/"+method); err != nil {
				tb.Fatal(err)
			}
			if _, err := c.pick(calloptions.WithLane(tb.Context(), "red"), "/helloworld.Greeter/"+method); err != nil {
				tb.Fatal(err)
			}
		}
	}
	update(fleet)
	return update
}

// BenchmarkConnect makes a connection to a service, until calls go to all of its endpoints.
func BenchmarkConnect(b *testing.B) {
	for name, config := range configsOfBig {
		b.Run(name, func(b *testing.B) {
			fleet := bigFleet(1000)
			b.ReportAllocs()
			for b.Loop() {
				(&fakeConn{}).connected(b, config, fleet)
			}
		})
	}
}

// BenchmarkUpdate changes an endpoint of many, and calls it.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		for name, config := range configsOfBig {
			b.Run(fmt.Sprintf("one of %d, %s", n, name), func(b *testing.B) {
				fleet := bigFleet(n)
				update := (&fakeConn{}).connected(b, config, fleet)
				next := append([]resolver.Endpoint{}, fleet...)
				next[n/2+1] = bigEndpoint(n/2+1, "2")
				states := [][]resolver.Endpoint{next, fleet}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					update(states[i%2])
					i++
				}
			})
		}
	}
}
