package main

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

// The flags of package walk's test, for which TestWalk stands in.
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
	failingSeed  = 3
	crashingSeed = 5
	hangingSeed  = 8
)

// TestWalk is the walk that other tests have this binary do. By itself it does nothing.
func TestWalk(t *testing.T) {
	if *out == "" {
		return
	}
	if *file != "" {
		s, err := schedule.Load(*file)
		if err != nil {
			t.Fatal(err)
		}
		for range *times {
			walkStandIn(t, s)
		}
		return
	}
	for seed := *first; seed < *first+uint64(*seeds); seed++ {
		walkStandIn(t, schedule.New(seed))
	}
}

func walkStandIn(t *testing.T, s schedule.Schedule) {
	switch s.Seed {
	case crashingSeed:
		panic("a panic of the schedule's own")
	case hangingSeed:
		time.Sleep(time.Hour)
	}
	var problems []map[string]any
	if s.Seed == failingSeed && len(s.Steps) > 0 {
		problems = append(problems, map[string]any{"rule": "no steps", "at": 1500 * time.Millisecond, "text": fmt.Sprint(len(s.Steps))})
		t.Errorf("seed %d: %v", s.Seed, problems)
		if *traces != "" {
			if err := os.WriteFile(filepath.Join(*traces, fmt.Sprintf("%d.txt", s.Seed)), []byte("the trace"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	writeReport(t, map[string]any{
		"seed": s.Seed, "virtual": "1m20s", "faults": len(s.Steps), "took": "1ms", "problems": problems, "trace": "",
	})
}

func writeReport(t *testing.T, line map[string]any) {
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
