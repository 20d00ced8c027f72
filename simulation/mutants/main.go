// Command mutants takes protections out of the code one at a time, and reports what notices. Each *.txt beside this
// file holds the mutants of one room; see mutant.go for their form.
//
// For each mutant it builds the tests with the mutated file in place of the real one, and tries in this order
// what may notice:
//
//   - the simulation: the schedules of a range of seeds, in package walk, until one finds a problem or the
//     budget is spent;
//   - the walk of the mutated core, where the package has one: every sequence of events to a depth;
//   - the test on real etcd that the mutant names;
//   - the test of the mutated package that it names: a decision that only costs more, or is rarely wrong, shows there alone.
//
// Before a test counts, it must pass without any mutant: the schedules by the same seeds. The files on disk stay as
// they are, and must not be edited meanwhile. The exit status is 1 if nobody notices a mutant, or if one does not
// compile.
//
//	go run ./mutants                   # all of them
//	go run ./mutants -only '^lease/'   # those of one room
//	go run ./mutants -build            # only build them
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"sync"
	"time"
)

// options are the command's flags.
type options struct {
	only    *regexp.Regexp
	build   bool
	real    bool
	first   uint64
	seeds   int
	budget  time.Duration
	workers int
	write   string
}

func parse() (options, error) {
	var o options
	only := flag.String("only", "", "try the mutants whose `room/name` matches this regular expression")
	flag.BoolVar(&o.build, "build", false, "build the mutated packages, and try nothing")
	flag.BoolVar(&o.real, "real", false, "try the tests on real etcd even where another test notices")
	flag.Uint64Var(&o.first, "first", 1, "the first `seed` of the schedules")
	flag.IntVar(&o.seeds, "seeds", 1000, "how many seeds to try, unless the budget is spent before")
	flag.DurationVar(&o.budget, "budget", 40*time.Second, "how long to try schedules for each mutant")
	flag.IntVar(&o.workers, "workers", 1, "how many mutants to try at a time, 2 at most")
	flag.StringVar(&o.write, "write", "", "write the outcomes as a table in Markdown to this `file`")
	flag.Parse()
	o.workers = max(1, min(o.workers, 2))
	var err error
	o.only, err = regexp.Compile(*only)
	return o, err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o, err := parse()
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	mutants, err := load(o.only)
	if err != nil {
		return err
	}
	r, err := newRunner(ctx, o)
	if err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	outcomes := make([]outcome, len(mutants))
	indexes := make(chan int)
	var workers sync.WaitGroup
	for range o.workers {
		workers.Go(func() {
			for i := range indexes {
				outcomes[i] = r.try(ctx, mutants[i])
				if !o.build || outcomes[i].err != nil {
					fmt.Println(outcomes[i])
				}
			}
		})
	}
	for i := range mutants {
		select {
		case indexes <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(indexes)
	workers.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return report(outcomes, o)
}
