// Command simulate walks schedules of faults in virtual time: it builds the test binary of package walk, runs it on
// ranges of seeds in one process a CPU, sums up, and shrinks what fails to the faults that matter.
//
//	go run ./cmd/simulate                        walks the schedules that were kept, and the same seeds each time
//	go run ./cmd/simulate -minutes 10 -first 0   walks for ten minutes, from a seed that it chooses
//	go run ./cmd/simulate -seed 17               walks one seed, some times
//	go run ./cmd/simulate -schedule FILE         walks one schedule that was kept, some times
//
// A seed draws the schedule, but does not go the same way each time: Go leaves the order of goroutines, selects and maps
// to chance.
//
// It exits with 1 when a schedule failed. The last lines then say how to walk it again.
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
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// progressEvery is how often a line says how far the walk is.
const progressEvery = 5 * time.Second

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
	e := &explorer{out: out, next: o.first}
	if err := o.fill(e); err != nil {
		return false, err
	}
	tidy, err := makeRoom(o.failures)
	if err != nil {
		return false, err
	}
	defer tidy()
	dir, err := os.MkdirTemp("", "simulate")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if e.walker, err = o.build(ctx, dir); err != nil {
		return false, err
	}
	if err := o.walk(ctx, e); err != nil {
		return false, err
	}
	fmt.Fprint(out, e.summary())
	if e.walked == 0 && len(e.failures) == 0 && ctx.Err() == nil {
		return false, errors.New("nothing was walked: give it more -minutes")
	}
	return o.explain(ctx, e)
}

// fill gives an explorer what it is to walk.
func (o *options) fill(e *explorer) error {
	if o.seed != 0 {
		e.singles = []single{{schedule: schedule.New(o.seed)}}
		return nil
	}
	files := []string{o.schedule}
	if o.schedule == "" {
		var err error
		if files, err = filepath.Glob(o.kept); err != nil || len(files) == 0 && o.kept != "" {
			return errors.Join(err, fmt.Errorf("there are no schedules %s: run this in simulation", o.kept))
		}
	}
	for _, file := range files {
		s, err := schedule.Load(file)
		if err != nil {
			return err
		}
		e.singles = append(e.singles, single{s, file})
	}
	if o.one() {
		return nil
	}
	if e.next == 0 {
		e.next = rand.Uint64N(1_000_000_000) + 1
	}
	if e.left = o.seeds; e.left == 0 {
		if e.left = defaultSeeds; o.minutes > 0 {
			e.left = math.MaxInt
		}
	}
	fmt.Fprintf(e.out, "Walking from seed %d on.\n", e.next)
	return nil
}

// walk walks until the seeds or the time are up, and says now and then how far it is.
func (o *options) walk(ctx context.Context, e *explorer) error {
	if o.minutes > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(o.minutes*float64(time.Minute)))
		defer cancel()
	}
	done := make(chan error, 1)
	go func() { done <- e.explore(ctx) }()
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

// explain explains a failure of each rule, of a few, and says in its last lines how to walk one of each again.
func (o *options) explain(ctx context.Context, e *explorer) (failed bool, err error) {
	const explained = 3
	again := ""
	rules := e.byRule()
	for i, rule := range slices.Sorted(maps.Keys(rules)) {
		f := rules[rule][0]
		again += fmt.Sprintf("%s: %s:\n\tcd simulation && go run ./cmd/simulate %s\n", f.schedule.name(), rule, f.schedule.flag())
		if i < explained && ctx.Err() == nil {
			kept, err := o.keep(ctx, e.walker, rule, f, e.out)
			if err != nil {
				return true, err
			}
			again += fmt.Sprintf("\tcd simulation && go run ./cmd/simulate -schedule %s\n", kept)
		}
	}
	if again != "" {
		fmt.Fprintf(e.out, "\nTo walk what failed again:\n%s", again)
	}
	return again != "", ctx.Err()
}
