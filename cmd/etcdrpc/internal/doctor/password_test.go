package doctor

import (
	"strings"
	"testing"
)

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
