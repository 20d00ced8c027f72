package doctor

import (
	"slices"
	"strings"
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

func TestPassword(t *testing.T) {
	for skip, want := range map[string]int{"": 1, "plaintext-password": 0} {
		p := (&Options{skip: []string{skip}}).patient(nil, nil, nil)
		p.exposed = []string{"10.0.0.1:2379"}
		if r := p.diagnose(); len(r.Findings) != want || want > 0 && (r.Findings[0].Kind != KindPlaintext || !strings.Contains(r.Findings[0].Problem, "10.0.0.1:2379")) {
			t.Errorf("but for %q: found %+v", skip, r.Findings)
		}
	}
}
