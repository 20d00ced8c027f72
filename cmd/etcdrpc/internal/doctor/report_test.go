package doctor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// TestReport_Many checks that the first findings of a kind and the first keys of a finding are printed, and the number of the others.
func TestReport_Many(t *testing.T) {
	r := &Report{Findings: []Finding{{Kind: "leader", Problem: "another", Where: strings.Fields("a b c d e f")}}}
	for n := range maxOfKind + 2 {
		r.Findings = append(r.Findings, Finding{Kind: "no-lease", Problem: fmt.Sprint("problem ", n)})
	}
	var out strings.Builder
	if err := r.Show(&out, output.FormatTable); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if strings.Count(text, "no-lease: problem") != maxOfKind || !strings.Contains(text, "There are 2 more faults of the kind no-lease: -o json lists all.") ||
		!strings.Contains(text, "at  d\n  at  2 more keys: -o json lists all\n") || !strings.Contains(text, "Found 13 faults in") {
		t.Errorf("Show prints\n%s\nwant %d findings of kind no-lease, and the number of the others", text, maxOfKind)
	}
}
