package balancer

import (
	"encoding/json"
	"fmt"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// BenchmarkReshape has a connection to n endpoints, all of them connected, change to a split and back.
func BenchmarkReshape(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			fleet := bigFleet(n)
			for i := range fleet { // one class of methods
				e := *attr.Endpoint(fleet[i])
				e.Metadata = nil
				fleet[i] = attr.New(&e, new(attr.Storage))
			}
			var configs []*config
			for _, text := range []string{`{}`, `{"split":[{"match":{"version":"v0"},"weight":1},{"match":{"version":"v1"},"weight":1}]}`} {
				c, err := parseConfig(json.RawMessage(text))
				if err != nil {
					b.Fatal(err)
				}
				configs = append(configs, c)
			}
			p, cc := newPolicy(b)
			state := attr.SetState(resolver.State{Endpoints: fleet}, &attr.State{Client: &attr.Client{}, Endpoints: fleet})
			hand := func(i int) {
				if err := p.UpdateClientConnState(balancer.ClientConnState{ResolverState: state, BalancerConfig: configs[i%2]}); err != nil {
					b.Fatal(err)
				}
				settle(p, cc)
			}
			hand(0)
			for i := 1; b.Loop(); i++ {
				hand(i)
			}
		})
	}
}
