package xds

import (
	"net"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// The service config changes while the bridge is away. The client comes back with routes to clusters that are no more, and
// no call fails until it has the new ones.
func TestPolicyChangesWhileTheBridgeIsAway(t *testing.T) {
	w := newWorld(t, policy(halves))
	w.add("s0", runtime.WithVersion("v1"))
	w.add("s1", runtime.WithVersion("v2"))
	configs := []string{"", policy(halves), `{"loadBalancingConfig":[{"etcd":{"route":[{"label":"version"}]}}]}`}
	times := 12
	if testing.Short() {
		times = 4
	}
	n := 0
	w.noFailure(w.goClient(""), 2000, times, func() {
		w.bridges[0].stop()
		w.set(configs[n%len(configs)])
		n++
		lis, err := net.Listen("tcp", w.bridges[0].addr)
		must(t, err)
		w.bridges[0] = w.bridgeAt(lis, w.newRegistry(), w.desc)
		w.told(0, 1)
	})
}
