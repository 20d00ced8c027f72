package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadSchedules reads schedules that no world can carry out: they are refused, and not taken for a crash of the runtime.
func TestBadSchedules(t *testing.T) {
	const world = `{"seed":1,"members":1,"servers":[{"mode":"serve"}],"callers":[{}],"steps":[`
	for says, text := range map[string]string{
		"members":                  `{}`,
		`no kind "no such kind"`:   world + `{"kind":"no such kind"}]}`,
		"caller 1 to 1":            world + `{"kind":"caller restarts","who":99}]}`,
		"unknown field \"stairs\"": `{"stairs":[]}`,
	} {
		file := filepath.Join(t.TempDir(), "schedule.json")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		o, err := parse([]string{"-schedule", file, "-failures", t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		failed, err := o.run(t.Context(), &out)
		if failed || err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v; it does not say %q", text, failed, err, says)
		}
	}
}
