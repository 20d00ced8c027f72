// Package report collects what the fault tests measure, for the table in docs/reliability.md.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"
)

// Env names the file that figures are appended to, one JSON object a line. Unset: nowhere.
const Env = "RELIABILITY_REPORT"

// Figure is one thing that was measured.
type Figure struct {
	Row   string `json:"row"`   // of the fault list, "D1"
	Label string `json:"label"` // what it is
	Value string `json:"value"` // with its unit
}

// Took reports how long something took.
func Took(t testing.TB, row, label string, d time.Duration) {
	t.Helper()
	add(t, Figure{row, label, d.Round(time.Millisecond).String()})
}

// Count reports a number.
func Count(t testing.TB, row, label string, n int) {
	t.Helper()
	add(t, Figure{row, label, fmt.Sprint(n)})
}

func add(t testing.TB, f Figure) {
	t.Helper()
	t.Logf("%s: %s: %s", f.Row, f.Label, f.Value)
	path := os.Getenv(Env)
	if path == "" {
		return
	}
	line, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
