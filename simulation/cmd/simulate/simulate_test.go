package main

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// standIn has the flags of the walk, and seeds that fail, crash and hang.
const standIn = "github.com/etcdrpc/protoc-gen-go-etcd/simulation/cmd/simulate/testdata/walk"

// simulate runs with options as they are by default, save for what change does to them, and returns what is printed.
func simulate(t *testing.T, wantFailed bool, change func(*options)) string {
	t.Helper()
	o := options{
		pkg: standIn, first: 1, procs: 2, hang: 2 * time.Second, shrink: time.Minute, failures: t.TempDir(),
		times: 1, chance: 1, tries: 1,
	}
	change(&o)
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
	kept := t.TempDir()
	out := simulate(t, true, func(o *options) { o.seeds, o.failures = 12, kept })
	wantMatch(t, out,
		`^Walking from seed 1 on\.$`,
		`^seed 3:\n	1\.500 s: no steps: \d+$`,
		`^seed 5:\n	crash: panic: a panic of the schedule's own`,
		`^seed 8:\n	hang: nothing was walked for too long$`,
		`^10 schedules, \d+ faults, 13m0s of virtual time, 3 failed; \d+ schedules a CPU minute$`,
		`^ +1  crash: seed 5$`,
		`^ +1  hang: seed 8$`,
		`^ +1  no steps: seed 3$`,
		`^It fails again in 10 of 10 walks\.\nShrunk from \d+ steps to 0 in \d+ tries; fails in 10 of 10 walks:\nseed 5: `,
		`^Shrunk from \d+ steps to 1 in \d+ tries; fails in 10 of 10 walks:\nseed 3: `,
		`^	go run \./cmd/simulate -schedule `+kept+`/3-no-steps\.json -times 10$`,
	)
	s, err := schedule.Load(filepath.Join(kept, "3-no-steps.json"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Seed != 3 || len(s.Steps) != 1 {
		t.Errorf("kept seed %d with %d steps, want seed 3 with 1", s.Seed, len(s.Steps))
	}
	for file, says := range map[string]string{"5-crash.txt": "panic: a panic", "8-hang.txt": "SIGQUIT"} {
		if b, err := os.ReadFile(filepath.Join(kept, file)); err != nil || !strings.Contains(string(b), says) {
			t.Errorf("%s does not say %q: %v\n%s", file, says, err, b)
		}
	}
}

func TestExploreForAWhile(t *testing.T) {
	start := time.Now()
	out := simulate(t, false, func(o *options) { o.minutes, o.first = 0.1, 1000 })
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v", took)
	}
	wantMatch(t, out, `^[1-9]\d* schedules, .* 0 failed; `)
}

func TestWalkOne(t *testing.T) {
	wantMatch(t, simulate(t, false, func(o *options) { o.seed, o.times = 1, 5 }), `^seed 1: 0 of 5 walks failed$`)
	kept := t.TempDir()
	wantMatch(t, simulate(t, true, func(o *options) { o.seed, o.failures = 3, kept }), `^seed 3: 1 of 1 walks failed$`)
	wantMatch(t, simulate(t, true, func(o *options) { o.schedule = filepath.Join(kept, "3-no-steps.json") }),
		`^Shrunk from 1 steps to 1 `)
	wantMatch(t, simulate(t, true, func(o *options) { o.seed, o.times, o.shrink = 5, 3, 0 }), `^seed 5: 1 of 1 walks failed$`)
}

// TestReplay replays what differs each time without it.
func TestReplay(t *testing.T) {
	if !strings.HasPrefix(runtime.Version(), replayedGo+".") {
		t.Skipf("exact replay is of %s, this is %s", replayedGo, runtime.Version())
	}
	trace := regexp.MustCompile(`seed 1, chance (\d): 10 of 10 traces are identical: ([0-9a-f]{16})\n`)
	replay := func(chance uint64) string {
		out := simulate(t, false, func(o *options) { o.replay, o.seed, o.times, o.chance = true, 1, 10, chance })
		found := trace.FindStringSubmatch(out)
		if found == nil {
			t.Fatal("the traces differ")
		}
		return found[2]
	}
	if one, again, other := replay(1), replay(1), replay(2); one != again || one == other {
		t.Errorf("traces %s and %s of one chance, %s of another", one, again, other)
	}
	wantMatch(t, simulate(t, true, func(o *options) { o.replay, o.seed, o.tries, o.times = true, 3, 2, 2 }),
		`^seed 3, chance 1: 2 of 2 traces are identical: [0-9a-f]{16}\n	1\.500 s: no steps: \d+$`)
	wantMatch(t, simulate(t, true, func(o *options) { o.replay, o.seed = true, 5 }),
		`^seed 5, chance 1: 1 of 1 traces are identical: none\n	crash: panic: a panic of the schedule's own`)
}

func TestOverlayIsOfOneGo(t *testing.T) {
	if _, err := writeOverlay(t.TempDir(), t.TempDir(), "go1.99.1"); err == nil {
		t.Error("another Go is taken")
	}
	goroot := t.TempDir()
	if err := os.MkdirAll(filepath.Join(goroot, "src", "runtime"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		if err := os.WriteFile(filepath.Join(goroot, "src", e.file), []byte("package runtime\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := writeOverlay(t.TempDir(), goroot, replayedGo+".1"); err == nil {
		t.Error("a runtime without what is to be edited is taken")
	}
}

func TestOptions(t *testing.T) {
	good := options{times: 1, tries: 1, procs: 1}
	for name, c := range map[string]struct {
		change func(*options)
		good   bool
	}{
		"many":                   {func(*options) {}, true},
		"for a while":            {func(o *options) { o.minutes = 0.5 }, true},
		"one":                    {func(o *options) { o.seed, o.times = 1, 3 }, true},
		"replay":                 {func(o *options) { o.schedule, o.replay, o.tries = "x", true, 3 }, true},
		"seed and schedule":      {func(o *options) { o.seed, o.schedule = 1, "x" }, false},
		"one for a while":        {func(o *options) { o.seed, o.minutes = 1, 1 }, false},
		"replay many":            {func(o *options) { o.replay = true }, false},
		"replay and race":        {func(o *options) { o.seed, o.replay, o.race = 1, true, true }, false},
		"tries without a replay": {func(o *options) { o.seed, o.tries = 1, 2 }, false},
		"no process":             {func(o *options) { o.procs = 0 }, false},
	} {
		o := good
		c.change(&o)
		if err := o.check(); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
