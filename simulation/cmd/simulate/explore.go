package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/walk"
)

const (
	// perProcess is how many schedules a process walks before another takes its place, so that memory stays bounded.
	perProcess = 200
	// often is how many times a single schedule is walked: it does not go the same way each time.
	often = 10
)

// single is a schedule that is walked by itself.
type single struct {
	schedule schedule.Schedule
	file     string // "": it is drawn from its seed
}

// name names the schedule in a failure.
func (s single) name() string {
	if s.file != "" {
		return s.file
	}
	return fmt.Sprintf("seed %d", s.schedule.Seed)
}

// flag is the command line that walks it.
func (s single) flag() string {
	if s.file != "" {
		return "-schedule " + s.file
	}
	return fmt.Sprintf("-seed %d", s.schedule.Seed)
}

// failure is a schedule with problems.
type failure struct {
	schedule single
	problems []check.Problem
	output   string // of the process, when it ended by it
}

// explorer walks schedules in one process a CPU and keeps count.
type explorer struct {
	walker *walker
	out    io.Writer // for failures, as they are found

	mu       sync.Mutex
	singles  []single // that nobody has taken
	next     uint64   // the seed that nobody has taken
	left     int      // how many more there are
	walked   int
	faults   int
	virtual  time.Duration
	cpu      time.Duration
	failures []failure
}

// explore walks all there is, unless ctx ends before.
func (e *explorer) explore(ctx context.Context) error {
	processes := runtime.NumCPU()
	each := min(perProcess, max(1, e.left/processes))
	errs := make([]error, processes)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for errs[i] == nil && ctx.Err() == nil {
				one, first, n := e.take(each)
				switch {
				case one != nil:
					errs[i] = e.walkOne(ctx, *one)
				case n > 0:
					errs[i] = e.walkRange(ctx, first, n)
				default:
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// take returns a schedule to walk, or n seeds at most, or nothing.
func (e *explorer) take(n int) (one *single, first uint64, taken int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.singles) > 0 {
		one, e.singles = &e.singles[0], e.singles[1:]
		return one, 0, 0
	}
	first, taken = e.next, min(n, e.left)
	e.next += uint64(taken)
	e.left -= taken
	return nil, first, taken
}

// walkOne walks a schedule some times, in one process.
func (e *explorer) walkOne(ctx context.Context, s single) error {
	failed := false
	ended, err := e.walker.walkSchedule(ctx, s.schedule, often, func(w walk.Report) {
		failed = failed || len(w.Problems) > 0
		e.add(w, s)
	})
	if err == nil && !ended.stopped && !ended.ok && (ended.hung || ended.crash != "" || !failed) {
		e.fail(failure{s, []check.Problem{ended.problem()}, ended.output})
	}
	e.spend(ended)
	return err
}

// walkRange walks n seeds, in one process unless a seed ends it.
func (e *explorer) walkRange(ctx context.Context, first uint64, n int) error {
	seed := func(n uint64) single { return single{schedule: schedule.New(n)} }
	for end := first + uint64(n); first < end; {
		next, failed := first, false
		ended, err := e.walker.walkSeeds(ctx, first, int(end-first), func(w walk.Report) {
			next = w.Seed + 1
			failed = failed || len(w.Problems) > 0
			e.add(w, seed(w.Seed))
		})
		if err != nil {
			return err
		}
		e.spend(ended)
		switch {
		case ended.stopped:
			return nil
		case next < end && (ended.hung || ended.crash != "" || next == first):
			e.fail(failure{seed(next), []check.Problem{ended.problem()}, ended.output})
			next++
		case ended.crash != "" || !ended.ok && !failed:
			p := ended.problem()
			p.Text += fmt.Sprintf(" (in one of seeds %d to %d)", first, next-1)
			e.fail(failure{seed(first), []check.Problem{p}, ended.output})
		}
		first = next
	}
	return nil
}

// spend counts what a process took.
func (e *explorer) spend(ended ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cpu += ended.cpu
}

// add counts a walk of a schedule.
func (e *explorer) add(w walk.Report, s single) {
	virtual, err := time.ParseDuration(w.Virtual)
	e.mu.Lock()
	e.walked++
	e.faults += w.Faults
	e.virtual += virtual
	e.mu.Unlock()
	if err != nil {
		w.Problems = append(w.Problems, check.Problem{Rule: "reports can be read", Text: err.Error()})
	}
	if len(w.Problems) > 0 {
		e.fail(failure{schedule: s, problems: w.Problems})
	}
}

func (e *explorer) fail(f failure) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failures = append(e.failures, f)
	const shown = 20
	if len(e.failures) <= shown {
		fmt.Fprintf(e.out, "%s:\n%s", f.schedule.name(), lines(f.problems))
	}
}

// byRule returns the failures by the rules that they broke.
func (e *explorer) byRule() map[check.Rule][]failure {
	e.mu.Lock()
	defer e.mu.Unlock()
	rules := map[check.Rule][]failure{}
	for _, f := range e.failures {
		broken := map[check.Rule]bool{}
		for _, p := range f.problems {
			broken[p.Rule] = true
		}
		for rule := range broken {
			rules[rule] = append(rules[rule], f)
		}
	}
	return rules
}

// progress says in a line how far the exploration is.
func (e *explorer) progress() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprintf("%d schedules, %d faults, %v of virtual time, %d failed",
		e.walked, e.faults, e.virtual.Round(time.Minute), len(e.failures))
}

// summary says what was walked and which problems there were.
func (e *explorer) summary() string {
	var b strings.Builder
	b.WriteString(e.progress())
	if e.cpu > 0 {
		fmt.Fprintf(&b, "; %.1f schedules a CPU second", float64(e.walked)/e.cpu.Seconds())
	}
	b.WriteString("\n")
	rules := e.byRule()
	for _, rule := range slices.Sorted(maps.Keys(rules)) {
		const shown = 10
		var names []string
		for _, f := range rules[rule][:min(shown, len(rules[rule]))] {
			names = append(names, f.schedule.name())
		}
		if len(rules[rule]) > shown {
			names = append(names, "...")
		}
		fmt.Fprintf(&b, "%6d  %s: %s\n", len(rules[rule]), rule, strings.Join(names, ", "))
	}
	return b.String()
}
