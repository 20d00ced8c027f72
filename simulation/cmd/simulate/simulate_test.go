package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/walk"
)

// substitute returns options for the walk of TestWalk, which has seeds that fail, crash and hang.
func substitute(t *testing.T) options {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return options{
		first: 1, binary: binary, hang: time.Hour, shrink: time.Hour, failures: t.TempDir(),
	}
}

// simulate runs with options and returns what is printed.
func simulate(t *testing.T, wantFailed bool, o options) string {
	t.Helper()
	var out strings.Builder
	failed, err := o.run(t.Context(), &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if failed != wantFailed {
		t.Errorf("failed is %v, want %v", failed, wantFailed)
	}
	t.Log(out.String())
	return out.String()
}

func wantMatch(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)" + p).MatchString(text) {
			t.Errorf("no match for %q", p)
		}
	}
}

func TestExplore(t *testing.T) {
	o := substitute(t)
	o.seeds = hangingSeed - 1
	out := simulate(t, true, o)
	wantMatch(t, out,
		`^Walking from seed 1 on\.$`,
		`^seed 3:\n	1\.500 s: no steps: \d+$`,
		`^seed 5:\n	crash: panic: a panic of the schedule's own`,
		`^6 schedules, \d+ faults, \S+ of virtual time, 2 failed; [\d.]+ schedules a CPU second$`,
		`^ +1  crash: seed 5$`,
		`^ +1  no steps: seed 3$`,
		`^It fails again in 10 of 10 walks\.\nShrunk from \d+ steps to 0 in \d+ tries; fails in 10 of 10 walks:\nseed 5: `,
		`^Shrunk from \d+ steps to 1 in \d+ tries; fails in 10 of 10 walks:\nseed 3: `,
	)
	if _, again, _ := strings.Cut(out, "\nTo walk what failed again:\n"); again != "seed 5: crash:\n"+
		"\tcd simulation && go run ./cmd/simulate -seed 5\n\tcd simulation && go run ./cmd/simulate -schedule "+o.failures+"/5-crash.json\n"+
		"seed 3: no steps:\n"+
		"\tcd simulation && go run ./cmd/simulate -seed 3\n\tcd simulation && go run ./cmd/simulate -schedule "+o.failures+"/3-no-steps.json\n" {
		t.Errorf("it ends with %q", again)
	}
	s, err := schedule.Load(filepath.Join(o.failures, "3-no-steps.json"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Seed != 3 || len(s.Steps) != 1 {
		t.Errorf("kept seed %d with %d steps, want seed 3 with 1", s.Seed, len(s.Steps))
	}
	for file, says := range map[string]string{"3-no-steps.txt": "the trace", "5-crash.txt": "panic: a panic"} {
		wantSays(t, filepath.Join(o.failures, file), says)
	}
}

// TestExploreAHang has a schedule hang, which the clock alone can tell: a busy machine may take others for such, too.
func TestExploreAHang(t *testing.T) {
	if testing.Short() {
		t.Skip("a hang is waited for without -short")
	}
	o := substitute(t)
	o.first, o.seeds, o.hang = hangingSeed-1, 3, 5*time.Second
	wantMatch(t, simulate(t, true, o),
		`^seed 8:\n	hang: panic: seed 8 hangs: it has taken 3.75s$`,
		`^2 schedules, .* 1 failed; `,
		`^ +1  hang: seed 8$`,
		`go run ./cmd/simulate -schedule `+o.failures+`/8-hang.json$`,
	)
	wantSays(t, filepath.Join(o.failures, "8-hang.txt"), "simulate.walkSubstitute")
}

// TestHangUnnoticed has a process not notice that its schedule hangs, as where the whole of Go's runtime does.
func TestHangUnnoticed(t *testing.T) {
	o := substitute(t)
	o.hang = time.Second
	w, err := o.build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ended, err := w.run(t.Context(), nil, func(walk.Report) {}, "-first", fmt.Sprint(hangingSeed), "-seeds=1", "-longest=1h")
	if err != nil || !ended.hung || ended.problem().Rule != hang {
		t.Fatalf("%+v, %v", ended, err)
	}
	wantSays(t, ended.output, "SIGQUIT")
}

func wantSays(t *testing.T, file, says string) {
	t.Helper()
	if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), says) {
		t.Errorf("%s does not say %q: %v\n%s", file, says, err, b)
	}
}

// TestExploreForAWhile has more minutes than the schedules take.
func TestExploreForAWhile(t *testing.T) {
	o := substitute(t)
	o.minutes, o.first, o.seeds = 60, 1000, 12
	wantMatch(t, simulate(t, false, o), `^12 schedules, .* 0 failed; `)
}

// TestOneAlone walks one seed, and one schedule that was kept, some times.
func TestOneAlone(t *testing.T) {
	o := substitute(t)
	o.seed, o.failures = 1, filepath.Join(t.TempDir(), "failures")
	wantMatch(t, simulate(t, false, o), `^10 schedules, .* 0 failed; `)
	if exists(o.failures) {
		t.Errorf("%s is left, and nothing has failed", o.failures)
	}
	o.seed = 3
	wantMatch(t, simulate(t, true, o), `^10 schedules, .* 10 failed; `)
	o.seed, o.schedule = 0, filepath.Join(o.failures, "3-no-steps.json")
	wantMatch(t, simulate(t, true, o), `^Shrunk from 1 steps to 1 `, `go run ./cmd/simulate -schedule `+o.schedule+`$`)
	o.seed, o.schedule, o.shrink = 5, "", 0
	wantMatch(t, simulate(t, true, o), `^ +1  crash: seed 5$`)
}

// TestNothingWalked ends before a single schedule is walked: that is no success.
func TestNothingWalked(t *testing.T) {
	o := substitute(t)
	o.minutes = 1e-9
	ended, end := context.WithCancel(t.Context())
	end()
	for _, ctx := range []context.Context{t.Context(), ended} {
		var out strings.Builder
		if failed, err := o.run(ctx, &out); !failed && err == nil {
			t.Errorf("nothing was walked, and all is well:\n%s", &out)
		}
	}
}

// TestNowhereToKeep has a file where failing schedules are to be kept: it says so before it walks.
func TestNowhereToKeep(t *testing.T) {
	o := substitute(t)
	o.seed, o.failures = 1, filepath.Join(t.TempDir(), "failures")
	if err := os.WriteFile(o.failures, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if _, err := o.run(t.Context(), &out); err == nil || out.Len() > 0 {
		t.Errorf("%v, after it said %q", err, &out)
	}
}

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
		o, err := parse([]string{"-schedule", file})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if failed, err := o.run(t.Context(), &out); failed || err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v; it does not say %q", text, failed, err, says)
		}
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{
		{"17"}, {"-seed", "0"}, {"-seed", "-1"}, {"-seeds", "10", "17"}, {"-minutes", "two"}, {"-seeds", "-1"},
		{"-seed", "1", "-schedule", "x"}, {"-seed", "1", "-minutes", "1"}, {"-seed", "1", "-first", "7"}, {"-schedule", "x", "-seeds", "2"},
		{"-minutes", "NaN"}, {"-minutes", "Inf"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q are taken", args)
		}
	}
	for _, args := range [][]string{{}, {"-seed", "17"}, {"-minutes", "0.5", "-first", "0"}, {"-schedule", "x"}} {
		if _, err := parse(args); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
	if o, err := parse([]string{"-first", "7", "-seeds", "3"}); err != nil || o.first != 7 || o.seeds != 3 || o.minutes != 0 {
		t.Errorf("%+v, %v", o, err)
	}
}
