package doctor

import (
	"fmt"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// TestMicroNamesOfMany looks at each entry of a large service once: a quadratic look would take minutes.
func TestMicroNamesOfMany(t *testing.T) {
	const n = 20_000
	var entries []survey.Entry
	for i := range n {
		addr := fmt.Sprintf("10.0.%d.%d:9000", i/250, i%250)
		entries = append(entries, survey.Entry{Key: "micro/registry/user/user-" + addr, Lease: 1, Value: fmt.Appendf(nil,
			`{"name":"user","version":"v1","metadata":{},"endpoints":[],"nodes":[{"id":"user-%s","address":"%[1]s","metadata":{"grpc_methods":"acme.user.v1.User/Get"}}]}`, addr)})
	}
	p := known(survey.All(entries))
	x := p.subject(p.services[0])
	if x.checkMicroNames(); len(p.findings) != 1 || p.findings[0].Kind != KindMicroName || len(x.micro) != n {
		t.Errorf("%d addresses, %+v", len(x.micro), p.findings)
	}
}
