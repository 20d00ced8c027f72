package adopt

import (
	"fmt"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// TestListersAreBounded has services of which each begins like all before it, and readers that list by the bare key.
func TestListersAreBounded(t *testing.T) {
	var entries []survey.Entry
	for n := range 20 {
		entries = append(entries, survey.Entry{Key: "/service/a/b/c/v" + strings.Repeat("1", n) + "/10.0.0.7:9000", Value: []byte(`{"x":"y"}`), Lease: 1})
	}
	v, err := Read("/service", entries, func(key string) string { return key })
	if err != nil || len(v.Proposals) != 20 {
		t.Fatalf("%+v: %v", v, err)
	}
	for n, p := range v.Proposals {
		told := 0
		for _, f := range p.Findings {
			if f.Kind == doctor.KindNeighbour {
				told++
			}
		}
		if want := min(19-n, output.MaxWhere); told != want {
			t.Errorf("%s: %d neighbours, want %d", p.Key, told, want)
		}
	}
}

// TestAuthorize_Many proposes names for keys that give the same. Its work is in proportion to their number.
func TestAuthorize_Many(t *testing.T) {
	v, taken := new(Adoption), make(map[string]bool)
	const n = 2000
	for i := range n {
		v.Proposals = append(v.Proposals, &Proposal{Key: "a" + strings.NewReplacer("0", ".b", "1", "/b").Replace(fmt.Sprintf("%011b", i))})
	}
	if allocs := testing.AllocsPerRun(1, v.authorize); allocs > 50*n { // not numbered from the first on each time
		t.Errorf("%v allocations", allocs)
	}
	for _, p := range v.Proposals[1:] {
		if p.Authority == "" || taken[p.Authority] {
			t.Fatalf("%s is to have the name %q", p.Key, p.Authority)
		}
		taken[p.Authority] = true
	}
}
