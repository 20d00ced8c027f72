package connectetcd

import (
	"testing"

	"connectrpc.com/grpchealth"
)

// Servers that share a checker have one health service, which is how runtime.Server knows that they share it.
func TestASharedCheckerIsOneHealthService(t *testing.T) {
	checker := grpchealth.NewStaticChecker()
	if a, b := newHealth(checker), newHealth(checker); a != b {
		t.Error("a checker is two health services")
	}
}
