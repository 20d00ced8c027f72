// Command mutants takes protections out of the code, one at a time, and finds out which test notices. Each *.txt beside
// this file holds the mutants of one room.
//
//	mutant.go  what a mutant is, and how it is written
//	weave.go   builds all of them into the code, of which one is in force at a time
//	runner.go  builds tests and runs them
//	notice.go  which tests to try for a mutant, and in what order
//	page.go    the page about a run of all
//
// The files on disk stay as they are, and must not be edited meanwhile. The exit status is 1 if nobody notices a mutant.
//
//	go run ./mutants                    # all of them
//	go run ./mutants -mutant '^lease/'  # those of one room
//	go run ./mutants -fit               # see only that they fit the code as it is
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	some := flag.String("mutant", "", "try only the mutants whose `room/name` matches this regular expression")
	seeds := flag.Int("seeds", 300, "how many of the schedules that a push walks to try")
	fit := flag.Bool("fit", false, "check only that the mutants fit the code as it is, and that it compiles with them")
	flag.Parse()
	if err := run(ctx, *some, *seeds, *fit); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, some string, seeds int, fit bool) error {
	began := time.Now()
	only, err := regexp.Compile(some)
	if err != nil {
		return err
	}
	mutants, err := load(only)
	if err != nil {
		return err
	}
	root, err := findRoot(ctx)
	if err != nil {
		return err
	}
	file := filepath.Join(root, "docs", "measured", "mutants.md")
	last, err := readPage(file)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	overlay, err := weave(root, dir, mutants)
	if err != nil {
		return err
	}
	if fit {
		return compile(ctx, root, overlay)
	}
	r := newRunner(root, dir, overlay)
	outcomes, err := r.tryAll(ctx, mutants, last, seeds)
	if err != nil {
		return err
	}
	if some == "" {
		if err := writePage(file, outcomes, seeds, time.Since(began)); err != nil {
			return err
		}
	}
	return sum(outcomes)
}

// findRoot returns the root of the repository.
func findRoot(ctx context.Context) (string, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	return filepath.Dir(filepath.Dir(strings.TrimSpace(string(mod)))), err
}

// compile compiles the code with the mutants of an overlay. Whoever changes what one takes out changes the mutant, too.
func compile(ctx context.Context, root, overlay string) error {
	build := exec.CommandContext(ctx, "go", "build", "-overlay="+overlay, "-gcflags=-e", "./runtime/...", "./internal/...")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// tryAll tries mutants, as many at a time as there are places for tests.
func (r *runner) tryAll(ctx context.Context, mutants []*mutant, last map[string]*probe, seeds int) ([]outcome, error) {
	outcomes := make([]outcome, len(mutants))
	var workers sync.WaitGroup
	free := make(chan struct{}, cap(r.busy)+cap(r.waiting))
	for i, m := range mutants {
		free <- struct{}{}
		workers.Go(func() {
			defer func() { <-free }()
			if ctx.Err() == nil {
				outcomes[i] = r.try(ctx, m, last[m.id()], seeds)
				fmt.Println(outcomes[i])
			}
		})
	}
	workers.Wait()
	return outcomes, ctx.Err()
}

// sum says how many mutants were noticed. Its error names those that were not, with the command that tries one again.
func sum(outcomes []outcome) error {
	failed := slices.DeleteFunc(slices.Clone(outcomes), func(o outcome) bool { return o.by != nil })
	fmt.Printf("%d mutants, of which %d are noticed\n", len(outcomes), len(outcomes)-len(failed))
	var errs []error
	for _, o := range failed {
		errs = append(errs, o.err, fmt.Errorf("nobody notices that this is gone: %s\n\tmake mutants MUTANT=%s", o.mutant.out, o.mutant.id()))
	}
	return errors.Join(errs...)
}
