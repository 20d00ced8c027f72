package walk

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/harness"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// A seed gives a schedule. Runs of the same schedule differ, as Go does not fix
// the order of goroutines, selects and maps.
var (
	first = flag.Uint64("first", 1, "the first seed; 0 chooses one")
	seeds = flag.Int("seeds", 0,
		"how many schedules TestSchedules runs, of that seed and the following ones")

	minutes = flag.Float64("minutes", 0, "run schedules for so many minutes instead")
	file    = flag.String("schedule", "", "run the schedule in this JSON file instead")
	times   = flag.Int("times", 1, "how many times to run each schedule")
	longest = flag.Duration("longest", 45*time.Second,
		"how long a schedule may take before it counts as hanging")

	out = flag.String("out", "",
		"append a line of JSON for each schedule to this file, and let no schedule fail the test")
)

// etcdAddrs holds the address of a single member of etcd.
var etcdAddrs = []string{"10.0.0.2:2379"}

// report is the outcome of a schedule.
type report struct {
	Seed     uint64          `json:"seed"`
	Virtual  time.Duration   `json:"virtual"` // duration in virtual time
	Faults   int             `json:"faults"`
	Problems []check.Problem `json:"problems"`
	Trace    string          `json:"trace,omitempty"` // the events of a failed schedule
}

// TestWalk runs the schedules of the flags in this process. TestSchedules runs
// TestWalk in other processes.
func TestWalk(t *testing.T) {
	skipUnlessAsked(t)

	for i := range max(*seeds, 1) {
		s := schedule.New(*first + uint64(i))
		if *file != "" {
			s = load(t, *file)
		}

		for range *times {
			r := walk(t, s)

			if *out != "" {
				f, err := os.OpenFile(*out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
				must.Succeed(t, err)
				must.Succeed(t, json.NewEncoder(f).Encode(r))
				must.Succeed(t, f.Close())
			} else if len(r.Problems) > 0 {
				t.Errorf("broken promises: %s\n%v", lines(r.Problems), s)
			}
		}
	}
}

// TestKept runs the kept schedules. Each once found a defect.
func TestKept(t *testing.T) {
	skipUnlessAsked(t)

	files, err := filepath.Glob("testdata/*.json")
	must.Succeed(t, err)

	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			s := load(t, file)
			if r := walk(t, s); len(r.Problems) > 0 {
				t.Errorf("broken promises: %s\n%v", lines(r.Problems), s)
			}
		})
	}
}

// walk runs a schedule.
func walk(t *testing.T, s schedule.Schedule) report {
	defer exitIfHanging(s.Seed)()

	var r harness.Result
	etcd.Bubble(t, func(t *testing.T) { r = harness.Run(s) })

	outcome := report{s.Seed, r.Virtual, len(s.Steps), r.Problems, ""}
	if len(r.Problems) > 0 {
		outcome.Trace = string(r.Trace)
	}

	return outcome
}

// exitIfHanging ends this process if stop is not called in time. The timer runs
// outside the bubble, as virtual time stops while a goroutine runs, or waits
// for something outside.
func exitIfHanging(seed uint64) (stop func() bool) {
	return time.AfterFunc(*longest, func() {
		all := make([]byte, 64<<20)
		all = all[:runtime.Stack(all, true)]
		fmt.Fprintf(os.Stderr, "panic: seed %d hangs: it has taken %v\n\n%s", seed, *longest, all)
		os.Exit(2)
	}).Stop
}

// firstSeed returns the first seed, which the flag gives or is random.
func firstSeed() uint64 {
	if *first > 0 {
		return *first
	}

	return rand.Uint64N(1_000_000_000) + 1
}

func load(t *testing.T, file string) schedule.Schedule {
	t.Helper()

	s, err := schedule.Load(file)
	must.Succeed(t, err)

	return s
}

func lines(problems []check.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&b, "\t%v\n", p)
	}

	return b.String()
}
