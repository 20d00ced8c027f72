package doctor

import (
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

func TestPassword(t *testing.T) {
	for skip, want := range map[string]int{"": 1, "plaintext-password": 0} {
		p := (&Options{skip: []string{skip}}).newExamination(&store.Snapshot{}, nil, nil)
		p.exposed = []string{"10.0.0.1:2379"}
		if r := p.diagnose(); len(r.Findings) != want || want > 0 && (r.Findings[0].Kind != KindPlaintext || !strings.Contains(r.Findings[0].Problem, "10.0.0.1:2379")) {
			t.Errorf("but for %q: found %+v", skip, r.Findings)
		}
	}
}
