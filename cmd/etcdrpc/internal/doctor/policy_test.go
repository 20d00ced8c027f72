package doctor

import (
	"slices"
	"testing"

	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestLinkedPolicies compares what doctor takes for linked with what the runtime registers in this binary.
func TestLinkedPolicies(t *testing.T) {
	for _, name := range []string{serviceconfig.EtcdName, serviceconfig.LeastRequestName, serviceconfig.PeakEwmaName, serviceconfig.PickFirstName,
		serviceconfig.RingHashName, serviceconfig.RoundRobinName, serviceconfig.WeightedName, serviceconfig.WeightedRoundRobinName, serviceconfig.OutlierDetectionName} {
		if got, want := slices.Contains(linkedPolicies, name), balancer.Get(name) != nil; got != want {
			t.Errorf("%s: taken for linked: %v; it is: %v", name, got, want)
		}
	}
}
