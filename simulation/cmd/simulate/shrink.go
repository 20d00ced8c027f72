package main

import (
	"cmp"
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

// shrinkWalks is how often a schedule is walked, while it is shrunk, to see whether it fails.
const shrinkWalks = 3

// keep describes a failing schedule in words, shrinks it, and keeps what is left in a file. Beside it stands what happened.
func (o *options) keep(ctx context.Context, w *walker, rule check.Rule, f failure, out io.Writer) (file string, err error) {
	s := f.schedule.schedule
	fmt.Fprintf(out, "\n%s%s", s, lines(f.problems))
	name := filepath.Join(o.failures, fmt.Sprintf("%d-%s", s.Seed, strings.ReplaceAll(string(rule), " ", "-")))
	happened := f.output
	if rule != hang && o.shrink > 0 { // a hang takes too long to try again
		var trace string
		if s, trace, err = shrink(ctx, w, s, rule, o.shrink, out); err != nil {
			return "", err
		}
		happened = cmp.Or(happened, trace)
	}
	if happened != "" {
		text, err := os.ReadFile(happened)
		if err == nil {
			err = os.WriteFile(name+".txt", text, 0o644)
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintf(out, "What happened is in %s.\n", name+".txt")
	}
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return "", err
	}
	return name + ".json", os.WriteFile(name+".json", append(text, '\n'), 0o644)
}

// shrink returns a smaller schedule that breaks the same rule, or s, and the file with the trace of a walk that does.
func shrink(
	ctx context.Context, w *walker, s schedule.Schedule, rule check.Rule, budget time.Duration, out io.Writer,
) (smaller schedule.Schedule, trace string, err error) {
	bounded, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	var errs error
	tried := 0
	fails := func(s schedule.Schedule) bool {
		if bounded.Err() != nil || errs != nil {
			return false
		}
		tried++
		n, _, err := failing(bounded, w, s, rule, shrinkWalks)
		errs = errors.Join(errs, err)
		return n > 0
	}
	again, trace, err := failing(bounded, w, s, rule, often)
	if err != nil {
		return s, trace, err
	}
	fmt.Fprintf(out, "It fails again in %d of %d walks.\n", again, often)
	if again == 0 {
		return s, trace, nil
	}
	steps := len(s.Steps)
	s = schedule.Shrink(s, fails)
	if errs != nil {
		return s, trace, errs
	}
	again, last, err := failing(ctx, w, s, rule, often)
	fmt.Fprintf(out, "Shrunk from %d steps to %d in %d tries; fails in %d of %d walks:\n%s\n", steps, len(s.Steps), tried, again, often, s)
	return s, cmp.Or(last, trace), err
}

// failing walks a schedule some times, in another process after one that it ends, and returns how often it broke
// a rule, and the file with the trace of a walk that did.
func failing(ctx context.Context, w *walker, s schedule.Schedule, rule check.Rule, times int) (failed int, trace string, err error) {
	for left := times; left > 0 && ctx.Err() == nil; {
		walked := 0
		ended, err := w.walkSchedule(ctx, s, left, func(report walk.Report) {
			walked++
			if slices.ContainsFunc(report.Problems, func(p check.Problem) bool { return p.Rule == rule }) {
				failed++
			}
		})
		if err != nil {
			return failed, trace, err
		}
		if file := filepath.Join(filepath.Dir(ended.output), fmt.Sprintf("%d.txt", s.Seed)); !ended.ok && exists(file) {
			trace = file
		}
		if !ended.ok && !ended.stopped && walked < left {
			walked++
			if ended.problem().Rule == rule {
				failed++
			}
		}
		if left -= walked; walked == 0 && ctx.Err() == nil {
			return failed, trace, fmt.Errorf("walking %d times reported nothing", times)
		}
	}
	return failed, trace, nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// makeRoom makes sure, before anything is walked, that failing schedules can be kept in dir. What it returns removes dir again
// if it was made for nothing.
func makeRoom(dir string) (tidy func(), err error) {
	missing := !exists(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("what fails cannot be kept: %w", err)
	}
	try, err := os.CreateTemp(dir, "try")
	if err != nil {
		return nil, fmt.Errorf("what fails cannot be kept: %w", err)
	}
	if err := errors.Join(try.Close(), os.Remove(try.Name())); err != nil {
		return nil, fmt.Errorf("what fails cannot be kept: %w", err)
	}
	return func() {
		if missing {
			_ = os.Remove(dir) // it stays when there is something in it
		}
	}, nil
}
