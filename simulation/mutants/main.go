// Command mutants removes protections from the code, one at a time, and looks
// for a test that then fails. README.md describes the format of mutants. Each
// *.txt holds the mutants of one room, a part of the code.
//
//	mutant.go  reads mutants
//	place.go   finds the place in a function that a mutant names
//	weave.go   builds all mutants into the code, and an environment variable puts one in force
//	runner.go  builds and runs tests until one fails
//
// The source files stay as they are, and nobody may change them during the run.
// The exit status is 1 if no test fails with a mutant, or if a mutant does not
// fit the code. In module simulation:
//
//	go run ./mutants                    # all mutants
//	go run ./mutants -mutant '^lease/'  # the mutants of one room
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	some := flag.String("mutant", "",
		"try only the mutants whose `room/name` matches this regular expression")
	seeds := flag.Int("seeds", 20, "how many schedules to try")
	flag.Parse()

	if err := run(ctx, *some, *seeds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, some string, seeds int) error {
	only, err := regexp.Compile(some)
	if err != nil {
		return err
	}

	mutants, err := load(only)
	if err != nil {
		return err
	}

	root, err := filepath.Abs("..")
	if err != nil {
		return err
	}

	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	overlay, err := weave(ctx, root, dir, mutants)
	if err != nil {
		return err
	}

	var fitting []*mutant
	var errs []error
	for _, m := range mutants {
		if m.err == nil {
			fitting = append(fitting, m)
		} else {
			errs = append(errs,
				fmt.Errorf("mutant %s does not fit the code: %w\n\tgive the new place, or delete the mutant",
					m.id, m.err))
		}
	}

	env := append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" '-overlay="+overlay+"'")
	r := &runner{root: root, env: env, dir: dir, seeds: seeds}
	try := func(m *mutant) (result, error) { return r.try(ctx, m) }
	errs = append(errs, tryAll(fitting, try), ctx.Err())

	return errors.Join(errs...)
}

// tryAll tries several mutants at a time, one more than there are processors,
// because some tests mostly wait. It prints the test that notices each mutant,
// and totals. Its error names unnoticed mutants, with the command to try them
// again.
func tryAll(mutants []*mutant, try func(*mutant) (result, error)) error {
	var workers sync.WaitGroup
	free := make(chan struct{}, runtime.NumCPU()+1)

	var mu sync.Mutex
	var errs []error
	by := map[string]int{}

	for _, m := range mutants {
		free <- struct{}{}
		workers.Go(func() {
			defer func() { <-free }()

			got, err := try(m)

			mu.Lock()
			defer mu.Unlock()

			fmt.Printf("%-44s %v\n", m.id, got)

			if got.failed != nil {
				by[got.failed.room]++
				return
			}

			unnoticed := fmt.Errorf("no test fails without this protection: %s\n\tmake mutants MUTANT=%s",
				m.out, m.id)
			errs = append(errs, unnoticed, err)
		})
	}

	workers.Wait()

	nobody := len(mutants) - by[unit] - by[etcd] - by[schedule]
	fmt.Printf("%d mutants: %d noticed by unit tests, %d on etcd, %d by schedules, %d by nobody\n",
		len(mutants), by[unit], by[etcd], by[schedule], nobody)

	return errors.Join(errs...)
}
