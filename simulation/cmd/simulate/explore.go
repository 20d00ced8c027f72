package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/walk"
)

// perProcess is how many schedules a process walks before another takes its place, so that memory stays bounded.
const perProcess = 200

// A failure is a schedule with problems.
type failure struct {
	seed     uint64
	problems []check.Problem
	output   string // of the process, when it ended by it
}

// An explorer walks seeds in several processes and keeps count.
type explorer struct {
	walker *walker
	out    io.Writer // for failures, as they are found

	mu       sync.Mutex
	next     uint64 // the seed that nobody has taken
	left     int
	walked   int
	faults   int
	virtual  time.Duration
	cpu      time.Duration
	failures []failure
}

// explore walks all seeds, unless ctx ends before.
func (e *explorer) explore(ctx context.Context, processes int) error {
	errs := make(chan error, processes)
	each := min(perProcess, max(1, e.left/processes))
	for range processes {
		go func() {
			for {
				first, n := e.take(each)
				if n == 0 || ctx.Err() != nil {
					errs <- nil
					return
				}
				if err := e.walkRange(ctx, first, n); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	var err error
	for range processes {
		err = cmp.Or(err, <-errs)
	}
	return err
}

// take returns the next seeds to walk, n at most.
func (e *explorer) take(n int) (first uint64, taken int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	first, taken = e.next, min(n, e.left)
	e.next += uint64(taken)
	e.left -= taken
	return first, taken
}

// walkRange walks n seeds, in one process unless a seed ends it.
func (e *explorer) walkRange(ctx context.Context, first uint64, n int) error {
	for end := first + uint64(n); first < end; {
		next, failed := first, false
		ended, err := e.walker.walkSeeds(ctx, first, int(end-first), func(w walk.Report) {
			next = w.Seed + 1
			failed = failed || len(w.Problems) > 0
			e.add(w)
		})
		if err != nil {
			return err
		}
		e.mu.Lock()
		e.cpu += ended.cpu
		e.mu.Unlock()
		switch {
		case ended.stopped:
			return nil
		case next < end && (ended.hung || ended.crash != "" || next == first):
			e.fail(failure{next, []check.Problem{ended.problem()}, ended.output})
			next++
		case ended.crash != "" || !ended.ok && !failed:
			p := ended.problem()
			p.Text += fmt.Sprintf(" (in one of seeds %d to %d)", first, next-1)
			e.fail(failure{first, []check.Problem{p}, ended.output})
		}
		first = next
	}
	return nil
}

func (e *explorer) add(w walk.Report) {
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
		e.fail(failure{seed: w.Seed, problems: w.Problems})
	}
}

func (e *explorer) fail(f failure) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failures = append(e.failures, f)
	const shown = 20
	if len(e.failures) <= shown {
		fmt.Fprintf(e.out, "seed %d:\n%s", f.seed, lines(f.problems))
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
		fmt.Fprintf(&b, "; %.0f schedules a CPU minute", float64(e.walked)/e.cpu.Minutes())
	}
	b.WriteString("\n")
	rules := e.byRule()
	for _, rule := range slices.Sorted(maps.Keys(rules)) {
		const shown = 10
		seeds := fmt.Sprint(rules[rule][0].seed)
		for _, f := range rules[rule][1:min(shown, len(rules[rule]))] {
			seeds += fmt.Sprintf(", %d", f.seed)
		}
		if len(rules[rule]) > shown {
			seeds += ", ..."
		}
		fmt.Fprintf(&b, "%6d  %s: seed %s\n", len(rules[rule]), rule, seeds)
	}
	return b.String()
}
