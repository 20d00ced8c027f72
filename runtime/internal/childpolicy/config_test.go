package childpolicy

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/roundrobin"
)

func TestBadConfigsAreBounded(t *testing.T) {
	var b Bad
	why := errors.New("boom")
	for i := range 3 * maxBad {
		c := &Config{builder: balancer.Get("round_robin"), text: fmt.Sprint(i)}
		if b.Add(c, why) == nil || b.Add(c, why) != nil || !errors.Is(b.Why(c), why) {
			t.Fatalf("%d is bad, and is said to be %v", i, b.Why(c))
		}
	}
	if len(b.why) > maxBad {
		t.Errorf("%d configs are remembered as bad", len(b.why))
	}
	if b.Why(nil) != nil {
		t.Error("no config is bad")
	}
}
