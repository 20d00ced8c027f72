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
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/walk"
)

// options is what the command line says.
type options struct {
	pkg      string // whose tests walk
	first    uint64
	seeds    int
	minutes  float64
	seed     uint64
	schedule string
	procs    int
	race     bool
	hang     time.Duration

	shrink   time.Duration
	failures string

	replay bool
	times  int
	chance uint64
	tries  int
}

const (
	// defaultSeeds is how many seeds are walked where neither their number nor a time is given.
	defaultSeeds = 1000
	// progressEvery is how often a line says how far the walk is.
	progressEvery = 5 * time.Second
)

func main() {
	o := options{pkg: "github.com/etcdrpc/protoc-gen-go-etcd/simulation/walk"}
	flag.Uint64Var(&o.first, "first", 1, "the first seed; 0 chooses one")
	flag.IntVar(&o.seeds, "seeds", 0, fmt.Sprintf("how many seeds to walk (%d, or with -minutes no limit)", defaultSeeds))
	flag.Float64Var(&o.minutes, "minutes", 0, "how long to walk at most")
	flag.Uint64Var(&o.seed, "seed", 0, "walk this seed alone")
	flag.StringVar(&o.schedule, "schedule", "", "walk the schedule in this `file`")
	flag.IntVar(&o.procs, "procs", runtime.NumCPU(), "how many processes walk at a time")
	flag.BoolVar(&o.race, "race", false, "walk with the race detector")
	flag.DurationVar(&o.hang, "hang", time.Minute, "how long one schedule may take before it counts as hanging")
	flag.DurationVar(&o.shrink, "shrink", time.Minute, "how long to shrink a failing schedule")
	flag.StringVar(&o.failures, "failures", "failures", "the `directory` that keeps failing schedules")
	flag.BoolVar(&o.replay, "replay", false, "walk -seed or -schedule exactly the same way each time")
	flag.IntVar(&o.times, "times", 1, "how often to walk -seed or -schedule")
	flag.Uint64Var(&o.chance, "chance", 1, "with -replay, the seed of what Go leaves to chance: selects, goroutines, maps")
	flag.IntVar(&o.tries, "tries", 1, "with -replay, how many seeds of chance to try until one fails")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	failed, err := o.run(ctx, os.Stdout)
	stop()
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

func (o *options) check() error {
	one := o.seed != 0 || o.schedule != ""
	switch {
	case o.seed != 0 && o.schedule != "":
		return errors.New("-seed and -schedule are two schedules: give one")
	case one && (o.seeds != 0 || o.minutes != 0):
		return errors.New("-seeds and -minutes are for many schedules, and -seed and -schedule name one")
	case !one && (o.replay || o.times != 1):
		return errors.New("-replay and -times need a schedule: give -seed or -schedule")
	case o.replay && o.race:
		return errors.New("-replay cannot be exact with the race detector: leave out -race")
	case !o.replay && o.tries != 1:
		return errors.New("-tries goes with -replay")
	case o.times < 1 || o.tries < 1 || o.procs < 1 || o.seeds < 0 || o.minutes < 0:
		return errors.New("-times, -tries, -procs, -seeds and -minutes are positive")
	}
	return nil
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
			e.left = math.MaxInt
		}
	}
	fmt.Fprintf(out, "Walking from seed %d on.\n", e.next)
	if err := o.walkAll(ctx, e); err != nil {
		return false, err
	}
	rules := e.byRule()
	fmt.Fprint(out, e.summary())
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
	fmt.Fprintf(out, "seed %d: %d of %d walks failed\n", s.Seed, failures, walked)
	if failures == 0 {
		return false, nil
	}
	return true, explain(ctx, w, s, f.problems[0].Rule, f, o.failures, o.shrink, out)
}
