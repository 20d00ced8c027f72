// Command simulate walks schedules of faults in virtual time: it builds the test binary of package walk, runs it on
// ranges of seeds in one process a CPU, sums up, and shrinks what fails to the faults that matter.
//
//	go run ./cmd/simulate -seeds 1000            walks seeds 1 to 1000
//	go run ./cmd/simulate -minutes 10 -first 0   walks for ten minutes, from a seed that it chooses
//	go run ./cmd/simulate -seed 17               walks one seed
//	go run ./cmd/simulate -schedule FILE         walks a schedule that was kept
//
// A seed draws the schedule, but does not go the same way each time: Go leaves the order of goroutines, selects and maps
// to chance. With -replay it does: the test binary is built on a Go runtime in which nothing in a bubble is left to
// chance or to real time, made from the installed Go's by edits that are tied to one version of Go.
//
//	go run ./cmd/simulate -replay -seed 17 -times 30            says how many of 30 traces are identical
//	go run ./cmd/simulate -replay -schedule FILE -tries 100     tries 100 ways until one fails
//
// It exits with 1 when a schedule failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/walk"
)

const (
	// defaultSeeds is how many seeds are walked where neither their number nor a time is given.
	defaultSeeds = 1000
	// progressEvery is how often a line says how far the walk is.
	progressEvery = 5 * time.Second
)

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	failed := false
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		failed, err = o.run(ctx, os.Stdout)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
	}
	if failed || err != nil {
		os.Exit(1)
	}
}

// run does what the options say and reports whether a schedule failed.
func (o *options) run(ctx context.Context, out io.Writer) (failed bool, err error) {
	if err := o.check(); err != nil {
		return false, err
	}
	if !o.replay {
		tidy, err := makeRoom(o.failures)
		if err != nil {
			return false, err
		}
		defer tidy()
	}
	dir, err := os.MkdirTemp("", "simulate")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if o.seed == 0 && o.schedule == "" {
		return o.explore(ctx, dir, out)
	}
	s := schedule.New(o.seed)
	if o.schedule != "" {
		if s, err = schedule.Load(o.schedule); err != nil {
			return false, err
		}
	}
	if !o.replay {
		return o.walkOne(ctx, dir, s, out)
	}
	binary, err := buildReplay(ctx, o.pkg, dir)
	if err != nil {
		return false, err
	}
	r := replay{walker: newWalker(binary, nil, o.hang), chance: o.chance, tries: o.tries, times: o.times, out: out}
	return r.run(ctx, s)
}

// build builds the walk on Go as it is. A process has one CPU to itself, which makes for twice as many walks as sharing
// all of them does, unless the race detector is to see goroutines run at the same time. The environment has the last
// word.
func (o *options) build(ctx context.Context, dir string) (*walker, error) {
	env, flags := []string{"GOGC=400"}, []string(nil)
	if o.race {
		flags = append(flags, "-race")
	} else {
		env = append(env, "GOMAXPROCS=1")
	}
	binary, err := build(ctx, o.pkg, dir, nil, flags...)
	if err != nil {
		return nil, err
	}
	return newWalker(binary, append(env, os.Environ()...), o.hang), nil
}

// explore walks many seeds, and explains a failure of each rule.
func (o *options) explore(ctx context.Context, dir string, out io.Writer) (failed bool, err error) {
	w, err := o.build(ctx, dir)
	if err != nil {
		return false, err
	}
	e := &explorer{walker: w, out: out, next: o.first, left: o.seeds}
	if e.next == 0 {
		e.next = rand.Uint64N(1_000_000_000) + 1
	}
	if e.left == 0 {
		if e.left = defaultSeeds; o.minutes > 0 {
			e.left = int(min(math.MaxInt, math.MaxUint64-e.next))
		}
	}
	fmt.Fprintf(out, "Walking from seed %d on.\n", e.next)
	if err := o.walkAll(ctx, e); err != nil {
		return false, err
	}
	rules := e.byRule()
	fmt.Fprint(out, e.summary())
	if e.walked == 0 && len(rules) == 0 && ctx.Err() == nil {
		return false, errors.New("nothing was walked: give it more -minutes")
	}
	const explained = 3
	for i, rule := range slices.Sorted(maps.Keys(rules)) {
		if i == explained || ctx.Err() != nil {
			break
		}
		f := rules[rule][0]
		if err := explain(ctx, w, schedule.New(f.seed), rule, f, o.failures, o.shrink, out); err != nil {
			return true, err
		}
	}
	return len(rules) > 0, ctx.Err()
}

// walkAll walks until the seeds or the time are up, and says now and then how far it is.
func (o *options) walkAll(ctx context.Context, e *explorer) error {
	if o.minutes > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(o.minutes*float64(time.Minute)))
		defer cancel()
	}
	done := make(chan error, 1)
	go func() { done <- e.explore(ctx, o.procs) }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			fmt.Fprintln(os.Stderr, e.progress())
		}
	}
}

// walkOne walks one schedule and explains its first problem.
func (o *options) walkOne(ctx context.Context, dir string, s schedule.Schedule, out io.Writer) (failed bool, err error) {
	w, err := o.build(ctx, dir)
	if err != nil {
		return false, err
	}
	var f failure
	walked, failures := 0, 0
	ended, err := w.walkSchedule(ctx, s, o.times, func(report walk.Report) {
		walked++
		if len(report.Problems) > 0 {
			failures++
			f = failure{seed: s.Seed, problems: report.Problems}
		}
	})
	switch {
	case err != nil:
		return false, err
	case ended.stopped:
		return failures > 0, ctx.Err()
	case ended.hung || ended.crash != "" || !ended.ok && failures == 0:
		walked = min(walked+1, o.times) // the one that ended the process was not reported
		failures++
		f = failure{s.Seed, []check.Problem{ended.problem()}, ended.output}
	}
	if walked == 0 {
		return false, errors.New("nothing was walked")
	}
	fmt.Fprintf(out, "seed %d: %d of %d walks failed\n", s.Seed, failures, walked)
	if failures == 0 {
		return false, nil
	}
	return true, explain(ctx, w, s, f.problems[0].Rule, f, o.failures, o.shrink, out)
}
