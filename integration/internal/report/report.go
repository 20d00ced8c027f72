// Package report collects what the fault tests measure, for the table in docs/measured/reliability.md.
package report

import (
	"encoding/json"
	"errors"
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
	Test  string `json:"test"`  // that measured it, "TestD1_CompactedWhileDisconnected"; "" none
	Label string `json:"label"` // what it is
	Value string `json:"value"` // with its unit
}

// Took reports how long something took.
func Took(t testing.TB, row, label string, d time.Duration) {
	t.Helper()
	add(t, row, label, d.Round(precision(d)).String())
}

// precision leaves three digits of what is short.
func precision(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return 10 * time.Microsecond
	}
	return time.Millisecond
}

// Count reports a number.
func Count(t testing.TB, row, label string, n int) {
	t.Helper()
	add(t, row, label, fmt.Sprint(n))
}

func add(t testing.TB, row, label, value string) {
	t.Helper()
	t.Logf("%s: %s: %s", row, label, value)
	if err := Write(Figure{Row: row, Test: t.Name(), Label: label, Value: value}); err != nil {
		t.Fatal(err)
	}
}

// Write reports a figure that no test measured.
func Write(f Figure) error {
	path := os.Getenv(Env)
	if path == "" {
		return nil
	}
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = out.Write(append(line, '\n'))
	return errors.Join(err, out.Close())
}
