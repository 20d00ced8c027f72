package walk

import (
	"fmt"
	"hash/fnv"
	"path/filepath"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/harness"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

var flags = NewFlags()

// TestWalk walks what the flags say, for the command simulate and for the mutants.
func TestWalk(t *testing.T) { flags.Walk(t, walk) }

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
		t.Run(filepath.Base(file), func(t *testing.T) { flags.Load(t, file, walk) })
	}
}

// walk carries a schedule out.
func walk(t *testing.T, s schedule.Schedule) {
	began := time.Now()
	var r harness.Result
	inBubble(t, func(t *testing.T) { r = harness.Run(t.Context(), s) })
	hash := fnv.New64a()
	hash.Write(r.Trace)
	flags.Record(t, Report{
		Seed:     s.Seed,
		Virtual:  r.Virtual.String(),
		Faults:   len(s.Steps),
		Calls:    r.Calls,
		Took:     time.Since(began).String(),
		Problems: r.Problems,
		Trace:    fmt.Sprintf("%016x", hash.Sum64()),
	})
	if len(r.Problems) > 0 {
		flags.WriteTrace(t, s.Seed, fmt.Appendf(nil, "%v\n%v\n%s", problems(r.Problems), s, r.Trace))
		t.Errorf("%v\n%v", problems(r.Problems), s)
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
