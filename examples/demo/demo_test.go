package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestDemo runs the whole demo with shorter pauses.
func TestDemo(t *testing.T) {
	out, err := os.CreateTemp(t.TempDir(), "screen")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	err = run(t.Context(), out, config{quickstart: "../quickstart", rate: 200, pace: 500 * time.Millisecond})
	screen, readErr := os.ReadFile(out.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	t.Logf("the screen:\n%s", screen)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"not one failed", "was killed", "told to stop", "had its first call", "the leader, was stopped"} {
		if !strings.Contains(string(screen), want) {
			t.Errorf("the screen lacks %q", want)
		}
	}
}

func TestFailedCallFailsTheDemo(t *testing.T) {
	d := &demo{load: newLoad()}
	d.load.total = tally{answered: 99, failed: 1}
	if err := d.conclude(os.Stdout); err == nil {
		t.Error("conclude succeeds after a failed call, want an error")
	}
}
