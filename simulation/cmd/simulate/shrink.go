package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/walk"
)

// How often a schedule is walked to see whether it fails: while it is shrunk, and before and after.
const (
	shrinkWalks = 3
	finalWalks  = 10
)

// explain describes a failing schedule in words, shrinks it for as long as budget allows and keeps what is left in dir.
func explain(ctx context.Context, w *walker, s schedule.Schedule, rule check.Rule, f failure, dir string, budget time.Duration, out io.Writer) error {
	fmt.Fprintf(out, "\n%s%s", s, lines(f.problems))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name := filepath.Join(dir, fmt.Sprintf("%d-%s", s.Seed, strings.ReplaceAll(string(rule), " ", "-")))
	if f.output != "" {
		if err := keepOutput(f.output, name+".txt"); err != nil {
			return err
		}
		fmt.Fprintf(out, "The process ended; what it said is in %s.\n", name+".txt")
	}
	if rule != hang && budget > 0 { // a hang takes too long to try again
		shrunk, err := shrink(ctx, w, s, rule, budget, out)
		if err != nil {
			return err
		}
		s = shrunk
	}
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".json", append(b, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(out, "Walk it again:\n\tgo run ./cmd/simulate -schedule %[1]s -times 10\nReplay it exactly:\n"+
		"\tgo run ./cmd/simulate -replay -schedule %[1]s -tries 20 -times 3\n", name+".json")
	return nil
}

// shrink returns a smaller schedule that breaks the same rule, or s.
func shrink(ctx context.Context, w *walker, s schedule.Schedule, rule check.Rule, budget time.Duration, out io.Writer) (schedule.Schedule, error) {
	bounded, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	var errs error
	tried := 0
	fails := func(s schedule.Schedule) bool {
		if bounded.Err() != nil || errs != nil {
			return false
		}
		tried++
		n, err := failing(bounded, w, s, rule, shrinkWalks)
		errs = errors.Join(errs, err)
		return n > 0
	}
	again, err := failing(bounded, w, s, rule, finalWalks)
	if err != nil {
		return s, err
	}
	fmt.Fprintf(out, "It fails again in %d of %d walks.\n", again, finalWalks)
	if again == 0 {
		return s, nil
	}
	steps := len(s.Steps)
	s = schedule.Shrink(s, fails)
	if errs != nil {
		return s, errs
	}
	often, err := failing(ctx, w, s, rule, finalWalks)
	fmt.Fprintf(out, "Shrunk from %d steps to %d in %d tries; fails in %d of %d walks:\n%s\n",
		steps, len(s.Steps), tried, often, finalWalks, s)
	return s, err
}

// failing walks a schedule some times, in another process after one that it ends, and returns how often it broke
// a rule.
func failing(ctx context.Context, w *walker, s schedule.Schedule, rule check.Rule, times int) (int, error) {
	failed := 0
	for left := times; left > 0 && ctx.Err() == nil; {
		walked := 0
		ended, err := w.walkSchedule(ctx, s, left, func(report walk.Report) {
			walked++
			if slices.ContainsFunc(report.Problems, func(p check.Problem) bool { return p.Rule == rule }) {
				failed++
			}
		})
		if err != nil {
			return failed, err
		}
		if !ended.ok && !ended.stopped && walked < left {
			walked++
			if ended.problem().Rule == rule {
				failed++
			}
		}
		if left -= walked; walked == 0 && ctx.Err() == nil {
			return failed, fmt.Errorf("walking %d times reported nothing", times)
		}
	}
	return failed, nil
}

func keepOutput(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}
