package walk

import (
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/harness"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

var (
	first  = flag.Uint64("first", 1, "the seed of the first schedule")
	seeds  = flag.Uint64("seeds", 0, "how many schedules to walk, of that seed and the next")
	file   = flag.String("schedule", "", "walk the one schedule in this JSON file instead")
	times  = flag.Int("times", 1, "how many times to walk each schedule")
	traces = flag.String("traces", "", "write the trace of a schedule that fails to a file in this directory")
	out    = flag.String("out", "", "append a line of JSON for each schedule to this file")
)

// TestWalk walks what the flags say, for the command simulate and for the mutants.
func TestWalk(t *testing.T) {
	if *file != "" {
		walk(t, load(t, *file))
		return
	}
	for seed := *first; seed < *first+*seeds; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { walk(t, schedule.New(seed)) })
	}
}

// TestKept walks the schedules that found a defect. The race detector is for other tests: see the command simulate, which
// walks them, too.
func TestKept(t *testing.T) {
	if raceDetector {
		t.Skip("make simulate walks these without the race detector")
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { walk(t, load(t, file)) })
	}
}

func load(t *testing.T, file string) schedule.Schedule {
	t.Helper()
	s, err := schedule.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// walk carries a schedule out as many times as the flags say.
func walk(t *testing.T, s schedule.Schedule) {
	for range *times {
		began := time.Now()
		var result harness.Result
		inBubble(t, func(t *testing.T) { result = harness.Run(t.Context(), s) })
		record(t, s, result, time.Since(began))
		if len(result.Problems) > 0 {
			writeTrace(t, s, result)
			t.Errorf("%v\n%v", problems(result.Problems), s)
		}
	}
}

// writeTrace writes what happened in a schedule that failed to a file.
func writeTrace(t *testing.T, s schedule.Schedule, r harness.Result) {
	if *traces == "" {
		return
	}
	text := fmt.Appendf(nil, "%v\n%v\n%s", problems(r.Problems), s, r.Trace)
	if err := os.WriteFile(filepath.Join(*traces, fmt.Sprintf("%d.txt", s.Seed)), text, 0o644); err != nil {
		t.Error(err)
	}
}

type problems []check.Problem

func (p problems) String() string {
	text := ""
	for _, problem := range p {
		text += fmt.Sprintln(problem)
	}
	return text
}

// record appends a line about a schedule to the file that the flags name.
func record(t *testing.T, s schedule.Schedule, r harness.Result, took time.Duration) {
	if *out == "" {
		return
	}
	hash := fnv.New64a()
	hash.Write(r.Trace)
	text, err := json.Marshal(Report{
		Seed:     s.Seed,
		Virtual:  r.Virtual.String(),
		Faults:   len(s.Steps),
		Calls:    r.Calls,
		Took:     took.String(),
		Problems: r.Problems,
		Trace:    fmt.Sprintf("%016x", hash.Sum64()),
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(*out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s\n", text); err != nil {
		t.Fatal(err)
	}
}
