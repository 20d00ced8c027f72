package doctor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

func TestPassword(t *testing.T) {
	for skip, want := range map[string]int{"": 1, "plaintext-password": 0} {
		p := (&Options{skip: []string{skip}}).patient(nil, nil, nil)
		p.exposed = []string{"10.0.0.1:2379"}
		if r := p.diagnose(); len(r.Findings) != want || want > 0 && (r.Findings[0].Kind != KindPlaintext || !strings.Contains(r.Findings[0].Problem, "10.0.0.1:2379")) {
			t.Errorf("but for %q: found %+v", skip, r.Findings)
		}
	}
}

// TestOrphans finds the service that a live policy may be meant for, with one look at each key.
func TestOrphans(t *testing.T) {
	const n = 200
	var entries []survey.Entry
	for i := range n {
		entries = append(entries, survey.Entry{Key: fmt.Sprintf("_grpc_config/acme/User%03d", i), Value: []byte("{}")})
	}
	for i := range n {
		entries = append(entries, survey.Entry{Key: fmt.Sprintf("acme/user-%03d/10.0.0.7:9000", i), Value: []byte("10.0.0.7:9000"), Lease: 1})
	}
	p := known(survey.All(entries))
	allocs := testing.AllocsPerRun(1, func() {
		p.findings = nil
		p.check()
	})
	if len(p.findings) != n || !strings.Contains(p.findings[7].Fix, "the instances are under acme/user-007: ") || allocs > 100*n {
		t.Errorf("%d findings, with %v allocations", len(p.findings), allocs)
	}
}
