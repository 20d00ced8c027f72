package main

import (
	"os"
	"strings"
	"testing"
)

// TestDemo runs the whole demo with shorter pauses.
func TestDemo(t *testing.T) {
	out, err := os.CreateTemp(t.TempDir(), "screen")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()

	err = run(t.Context(), out, "-rate=200", "-pace=500ms")

	screen, readErr := os.ReadFile(out.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}

	t.Logf("the screen:\n%s", screen)

	if err != nil {
		t.Fatal(err)
	}

	for _, want := range []string{"func RegisterGreeterServiceServerToEtcd", "not one failed", "was killed", "told to stop", "had its first call",
		"the leader, was stopped"} {
		if !strings.Contains(string(screen), want) {
			t.Errorf("the screen lacks %q", want)
		}
	}
}
