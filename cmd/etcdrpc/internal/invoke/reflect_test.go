package invoke

import (
	"strings"
	"testing"

	refv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
)

// The answers of a server add up: each may be as large as a message can be.
func TestReflectedBytes(t *testing.T) {
	answer := &refv1.ServerReflectionResponse{ValidHost: strings.Repeat("x", 1000)}
	r := &reflected{bytes: maxReflected - 2500} // of earlier ones
	for n := range 4 {
		if err, want := r.check(answer), n < 2; (err == nil) != want {
			t.Errorf("answer %d: %v", n, err)
		}
	}
}
