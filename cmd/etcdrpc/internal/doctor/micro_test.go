package doctor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// TestMicroNamesOfMany looks at each entry of a large service once.
func TestMicroNamesOfMany(t *testing.T) {
	const n = 500
	var entries []survey.Entry
	for i := range n {
		addr := fmt.Sprintf("10.0.%d.%d:9000", i/250, i%250)
		entries = append(entries, survey.Entry{Key: "micro/registry/user/user-" + addr, Lease: 1, Value: fmt.Appendf(nil,
			`{"name":"user","version":"v1","metadata":{},"endpoints":[],"nodes":[{"id":"user-%s","address":"%[1]s","metadata":{"grpc_methods":"acme.user.v1.User/Get"}}]}`, addr)})
	}
	p := known(survey.All(entries))
	allocs := testing.AllocsPerRun(1, func() {
		p.findings = nil
		p.subject(p.services[0]).checkMicroNames()
	})
	if allocs > 100*n || len(p.findings) != 1 || p.findings[0].Kind != KindMicroName || len(p.subject(p.services[0]).micro) != n {
		t.Errorf("%v allocations, %+v", allocs, p.findings)
	}
}

// TestMicroNamesAreBounded has an entry with a long name and thousands of services, whose names to go-micro's callers took 300 MiB.
func TestMicroNamesAreBounded(t *testing.T) {
	for bytes, want := range map[int]int{maxMicroName: maxMicroNames, maxMicroName + 1: 0} {
		value := fmt.Appendf(nil, `{"name":"%s","nodes":[{"id":"u","address":"10.0.0.1:9000","metadata":{"grpc_methods":"`, strings.Repeat("u", bytes))
		for i := range 1000 {
			value = fmt.Appendf(value, "a.S%d/Get;", i)
		}
		value = append(value, `"}}]}`...)
		p := known(survey.All([]survey.Entry{{Key: "micro/registry/user/u", Lease: 1, Value: value}}))
		if got := p.subject(p.services[0]).micro["10.0.0.1:9000"]; len(got) != want {
			t.Errorf("a name of %d bytes makes %d names, want %d", bytes, len(got), want)
		}
	}
}
