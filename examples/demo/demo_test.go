package main

import (
	"os"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

// TestDemo runs the whole demo with shorter pauses.
func TestDemo(t *testing.T) {
	out, err := os.CreateTemp(t.TempDir(), "screen")
	must.Succeed(t, err)
	defer out.Close()

	err = run(t.Context(), out, "-rate=200", "-pace=500ms")
	screen, readErr := os.ReadFile(out.Name())
	must.Succeed(t, readErr)
	t.Logf("the screen:\n%s", screen)
	must.Succeed(t, err)

	for _, want := range []string{
		"func RegisterGreeterServiceServerToEtcd",
		"not one failed",
		"was killed",
		"told to stop",
		"had its first call",
		"the leader, was stopped",
	} {
		if !strings.Contains(string(screen), want) {
			t.Errorf("the screen lacks %q", want)
		}
	}
}
