// Package walk stands in for the simulation's own: it obeys the same flags, and some of its seeds fail.
package walk

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

var (
	first = flag.Uint64("first", 1, "the first seed")
	seeds = flag.Int("seeds", 1, "how many seeds")
	file  = flag.String("schedule", "", "a schedule")
	times = flag.Int("times", 1, "how often")
	out   = flag.String("out", "", "where to append results")

	traces = flag.String("traces", "", "where to write the traces of what fails")
)

// The seeds with which something is wrong.
const (
	failing  = 3
	crashing = 5
	hanging  = 8
)

func TestWalk(t *testing.T) {
	if *file != "" {
		s, err := schedule.Load(*file)
		if err != nil {
			t.Fatal(err)
		}
		for range *times {
			walk(t, s)
		}
		return
	}
	for seed := *first; seed < *first+uint64(*seeds); seed++ {
		walk(t, schedule.New(seed))
	}
}

func walk(t *testing.T, s schedule.Schedule) {
	switch s.Seed {
	case crashing:
		panic("a panic of the schedule's own")
	case hanging:
		time.Sleep(time.Hour)
	}
	var problems []map[string]any
	if s.Seed == failing && len(s.Steps) > 0 {
		problems = append(problems, map[string]any{"rule": "no steps", "at": 1500 * time.Millisecond, "text": fmt.Sprint(len(s.Steps))})
		t.Errorf("seed %d: %v", s.Seed, problems)
		if *traces != "" {
			if err := os.WriteFile(filepath.Join(*traces, fmt.Sprintf("%d.txt", s.Seed)), []byte("the trace"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	report(t, map[string]any{
		"seed": s.Seed, "virtual": "1m20s", "faults": len(s.Steps), "took": "1ms", "problems": problems, "trace": "",
	})
}

func report(t *testing.T, line map[string]any) {
	b, err := json.Marshal(line)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(*out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(b, '\n')); err != nil {
		t.Fatal(err)
	}
}
