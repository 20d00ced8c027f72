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
	p := &patient{exposed: []string{"10.0.0.1:2379"}}
	r := p.report(&Options{})
	if len(r.Findings) != 1 || r.Findings[0].Kind != KindPlaintext || !strings.Contains(r.Findings[0].Problem, "10.0.0.1:2379") {
		t.Errorf("found %+v", r.Findings)
	}
	if r := p.report(&Options{skip: []string{"plaintext-password"}}); len(r.Findings) != 0 {
		t.Errorf("found what is to be skipped: %+v", r.Findings)
	}
	if r := (&patient{}).report(&Options{}); len(r.Findings) != 0 {
		t.Errorf("found %+v", r.Findings)
	}
}
