package balancer

import (
	"fmt"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// TestConnections_OneAnAddress changes what is live as fast as it can, over instances that are connected to, with calls between all that
// gRPC tells: no connection is made, and no call fails (P6, P7, S8).
func TestConnections_OneAnAddress(t *testing.T) {
	r := newRig(t)
	var specs []string
	for i := range 20 {
		specs = append(specs, fmt.Sprintf("%c v%d %c", 'a'+i, i%2+1, 'x'+i%3))
	}
	r.update("", specs...)
	for _, s := range r.open() { // from now on connecting takes for ever
		r.hangs[s.addrs[0].Addr] = true
	}
	for i, config := range []string{
		byVersion, `"split":[{"match":{"version":"v2"},"weight":5}]`, `"split":[{"match":{"zone":"x"},"weight":5},{"match":{"zone":"y"},"weight":5}]`, ``,
		`"preferZone":true`, `"drain":["a"]`, looseRed, `"childPolicy":[{"least_request_experimental":{}}]`, `"childPolicy":[{"etcd_weighted":{}}]`, ring, firstOne,
		`"childPolicy":[{"round_robin":{}}],"preferZone":true,"split":[{"match":{"version":"v1"},"weight":1}]`, `"childPolicy":[{"etcd_peak_ewma":{}}]`,
	} {
		r.tell(config, attr.State{Endpoints: ends(specs...)})
		for key := range 50 {
			if got := r.where(tied(key)); len(got) != 1 || got == "a" && i == 5 {
				t.Errorf("%s: a call goes to %q", config, got)
			}
		}
	}
	r.settle()
	for _, name := range []string{"a", "t"} {
		r.expect(named(name), "by name", "waits")
		r.settle()
		r.expect(named(name), "by name, again", name)
	}
	if made, open := len(r.made), len(r.open()); made != 20 || open != 20 {
		t.Errorf("%d connections were made, and %d are open, want 20", made, open)
	}
}
