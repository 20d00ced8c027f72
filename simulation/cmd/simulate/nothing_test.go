package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestNothingWalked has no time to walk a single schedule: that is no success.
func TestNothingWalked(t *testing.T) {
	o := options{
		pkg: standIn, first: 1, minutes: 1e-9, procs: 1, hang: time.Minute, failures: t.TempDir(), times: 1, chance: 1, tries: 1,
	}
	var out strings.Builder
	if failed, err := o.run(t.Context(), &out); !failed && err == nil {
		t.Errorf("nothing was walked, and all is well:\n%s", &out)
	}
}

// TestNowhereToKeep has a file where failing schedules are to be kept: it says so before it walks.
func TestNowhereToKeep(t *testing.T) {
	file := filepath.Join(t.TempDir(), "failures")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	o := options{
		pkg: standIn, first: 1, seeds: 1, procs: 1, hang: time.Minute, failures: file, times: 1, chance: 1, tries: 1,
	}
	var out strings.Builder
	if _, err := o.run(t.Context(), &out); err == nil || out.Len() > 0 {
		t.Errorf("%v, after it said %q", err, &out)
	}
}

// TestNothingToKeep leaves no directory behind when nothing has failed.
func TestNothingToKeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "failures")
	simulate(t, false, func(o *options) { o.seed, o.failures = 1, dir })
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is left", dir)
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{{"17"}, {"-seed", "0"}, {"-seed", "-1"}, {"-seeds", "10", "17"}, {"-minutes", "two"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q are taken", args)
		}
	}
	if o, err := parse([]string{"-seed", "17", "-times", "3"}); err != nil || o.seed != 17 || o.times != 3 || o.check() != nil {
		t.Errorf("%+v, %v", o, err)
	}
}
