package walk

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

const (
	// perProcess is the number of schedules that a process runs before another
	// process replaces it, to bound memory.
	perProcess = 25

	// kept is the directory of failing schedules.
	kept = "../failures"

	// shrinking bounds the time to shrink a schedule.
	shrinking = time.Minute

	// shrunk bounds the number of shrunk schedules, one for each broken promise.
	shrunk = 3

	// tries is how many times a smaller schedule is run.
	tries = 3
)

// TestSchedules runs the schedules of the flags, in one process for each CPU.
// It shrinks failing schedules, prints them in words, and keeps them in
// simulation/failures.
func TestSchedules(t *testing.T) {
	skipUnlessAsked(t)
	x := &explorer{t: t, next: firstSeed(), remaining: *seeds, failed: map[string][]failure{}}
	ctx := t.Context()

	if *minutes > 0 {
		x.remaining = math.MaxInt
		bounded, cancel := context.WithTimeout(ctx, time.Duration(*minutes*float64(time.Minute)))
		defer cancel()

		ctx = bounded
	}

	if *file != "" {
		x.walk(ctx, load(t, *file), "-schedule", absolute(t, *file), "-seeds", "1", "-times",
			fmt.Sprint(max(10, *times)))
	} else {
		fmt.Printf("Running schedules from seed %d on.\n", x.next)

		var all sync.WaitGroup
		for range runtime.NumCPU() {
			all.Go(func() { x.explore(ctx) })
		}

		all.Wait()
	}

	rate := float64(x.done) / x.cpu.Seconds()
	fmt.Printf("%d schedules, %d faults, %v of virtual time, %.1f schedules a CPU second, %d promises broken\n",
		x.done, x.faults, x.virtual.Round(time.Minute), rate, len(x.failed))

	if x.done == 0 {
		t.Error("no schedule was run, want at least one")
	}

	for promise, failures := range x.failed {
		t.Errorf("%d schedules broke the promise: %s", len(failures), promise)

		if len(x.explained) < shrunk {
			x.explain(promise, failures[0])
		}
	}

	fmt.Print(strings.Join(x.explained, ""))
}

func skipUnlessAsked(t *testing.T) {
	switch {
	case *seeds < 0 || *minutes < 0 || *times < 1:
		t.Fatal("-seeds, -minutes and -times must be positive")
	case *seeds == 0 && *minutes == 0 && *file == "":
		t.Skip("needs -seeds 100, -minutes 10 or -schedule FILE")
	}
}

// explorer runs schedules and counts results.
type explorer struct {
	t *testing.T

	mu        sync.Mutex
	next      uint64 // the next unused seed
	remaining int    // how many seeds to run
	done      int
	faults    int
	virtual   time.Duration
	cpu       time.Duration
	failed    map[string][]failure // by promise
	explained []string
}

// failure is a schedule that has broken a promise.
type failure struct {
	schedule schedule.Schedule
	problems []check.Problem
	trace    string
}

// explore runs the schedules of seeds until none remain, or ctx ends.
func (x *explorer) explore(ctx context.Context) {
	for ctx.Err() == nil {
		x.mu.Lock()
		from := x.next
		n := min(perProcess, x.remaining)
		x.next += uint64(n)
		x.remaining -= n
		x.mu.Unlock()

		for end := from + uint64(n); from < end && ctx.Err() == nil; {
			last := x.walk(ctx, schedule.New(from), "-first", fmt.Sprint(from), "-seeds",
				fmt.Sprint(end-from), "-times", fmt.Sprint(*times))
			from = last + 1
		}

		if n == 0 {
			return
		}
	}
}

// walk runs schedules in another process, beginning with s, and returns the
// seed of the last schedule.
func (x *explorer) walk(ctx context.Context, s schedule.Schedule, args ...string) (last uint64) {
	reports, crash, cpu := run(ctx, x.t, args...)

	x.mu.Lock()
	defer x.mu.Unlock()

	x.cpu += cpu

	for _, r := range reports {
		x.done++
		x.faults += r.Faults
		x.virtual += r.Virtual
		x.fail(s, r)
		last = r.Seed
	}

	if crash != nil && ctx.Err() == nil {
		last = max(s.Seed, last+1) // the crash was in the schedule after the last reported one
		x.fail(s, report{
			Seed:     last,
			Problems: []check.Problem{{Promise: nothingFails, Text: crash.said}},
			Trace:    crash.output,
		})
	}

	return max(last, s.Seed)
}

// nothingFails is the promise that a crashing process breaks.
const nothingFails = "nothing hangs, and nothing ends the process"

// fail records the problems of a schedule. It must be called with mu held.
func (x *explorer) fail(s schedule.Schedule, r report) {
	if r.Seed != s.Seed {
		s = schedule.New(r.Seed)
	}

	for _, p := range r.Problems {
		same := func(f failure) bool { return f.schedule.Seed == s.Seed }
		if !slices.ContainsFunc(x.failed[p.Promise], same) {
			x.failed[p.Promise] = append(x.failed[p.Promise], failure{s, r.Problems, r.Trace})
			fmt.Printf("Seed %d breaks the promise: %s: %s\n", s.Seed, p.Promise, p.Text)
		}
	}
}

// explain shrinks and keeps a schedule that has broken a promise.
func (x *explorer) explain(promise string, f failure) {
	ctx, cancel := context.WithTimeout(x.t.Context(), shrinking)
	defer cancel()

	tried := 0
	trace := f.trace
	broken := func(p check.Problem) bool { return p.Promise == promise }

	fails := func(s schedule.Schedule) bool {
		name := filepath.Join(x.t.TempDir(), "schedule.json")
		save(x.t, name, s)
		reports, crash, _ := run(ctx, x.t, "-schedule", name, "-seeds", "1", "-times",
			fmt.Sprint(tries))
		tried++

		if crash != nil && promise == nothingFails && ctx.Err() == nil {
			return true
		}

		for _, r := range reports {
			if slices.ContainsFunc(r.Problems, broken) {
				trace = r.Trace
				return true
			}
		}

		return false
	}

	small := schedule.Shrink(f.schedule, fails)

	must.Succeed(x.t, os.MkdirAll(kept, 0o755))
	name := absolute(x.t, filepath.Join(kept,
		fmt.Sprintf("%d-%s", small.Seed, strings.ReplaceAll(promise, " ", "-"))))
	save(x.t, name+".json", small)
	must.Succeed(x.t, os.WriteFile(name+".txt", []byte(trace), 0o644))

	x.explained = append(x.explained, fmt.Sprintf("\n%s\n%v%s\n"+
		"Shrunk from %d steps to %d in %d tries:\n%v\n"+
		"The events are in %s.txt. To run the schedule again:\n\tmake simulate SCHEDULE=%s.json\n",
		promise, f.schedule, lines(f.problems),
		len(f.schedule.Steps), len(small.Steps), tried, small,
		name, name))
}

// crashed describes the end of a process that did not run all its schedules.
type crashed struct{ said, output string }

// fatal matches the line with which Go ends a process.
var fatal = regexp.MustCompile(`(?m)^(panic: |fatal error: |runtime: ).*$`)

// run runs schedules in another process on one CPU, which is twice as fast as
// sharing all CPUs.
func run(
	ctx context.Context,
	t *testing.T,
	args ...string,
) (reports []report, crash *crashed, cpu time.Duration) {
	name := filepath.Join(t.TempDir(), "walks.jsonl")
	args = append([]string{"-test.run=^TestWalk$", "-out=" + name, "-longest=" + longest.String()},
		args...)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append([]string{"GOGC=400", "GOMAXPROCS=1", "GOTRACEBACK=all"}, os.Environ()...)

	output, err := cmd.CombinedOutput()
	if err != nil && ctx.Err() == nil {
		crash = &crashed{string(fatal.Find(output)), string(output)}
	}

	if cmd.ProcessState != nil {
		cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}

	text, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}

	for line := range bytes.Lines(text) {
		var r report
		if json.Unmarshal(line, &r) == nil { // the last line is incomplete if ctx ended the process
			reports = append(reports, r)
		}
	}

	return reports, crash, cpu
}

func save(t *testing.T, name string, s schedule.Schedule) {
	t.Helper()

	text, err := json.MarshalIndent(s, "", "\t")
	must.Succeed(t, err)
	must.Succeed(t, os.WriteFile(name, append(text, '\n'), 0o644))
}

func absolute(t *testing.T, name string) string {
	t.Helper()

	path, err := filepath.Abs(name)
	must.Succeed(t, err)

	return path
}
