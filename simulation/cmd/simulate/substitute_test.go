package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/walk"
)

// flags are those of package walk's test, for which TestWalk is the substitute.
var flags = walk.NewFlags()

// The seeds with which something is wrong.
const (
	failingSeed  = 3
	crashingSeed = 5
	hangingSeed  = 8
)

// TestWalk is the walk that other tests have this binary do. By itself it does nothing.
func TestWalk(t *testing.T) { flags.Walk(t, walkSubstitute) }

func walkSubstitute(t *testing.T, s schedule.Schedule) {
	switch s.Seed {
	case crashingSeed:
		panic("a panic of the schedule's own")
	case hangingSeed:
		time.Sleep(time.Hour)
	}
	var problems []check.Problem
	if s.Seed == failingSeed && len(s.Steps) > 0 {
		problems = append(problems, check.Problem{Rule: "no steps", At: 1500 * time.Millisecond, Text: fmt.Sprint(len(s.Steps))})
		t.Errorf("seed %d: %v", s.Seed, problems)
		flags.WriteTrace(t, s.Seed, []byte("the trace"))
	}
	flags.Record(t, walk.Report{Seed: s.Seed, Virtual: "1m20s", Faults: len(s.Steps), Took: "1ms", Problems: problems})
}
