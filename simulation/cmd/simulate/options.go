package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"time"
)

// options is what the command line says.
type options struct {
	pkg      string // whose tests walk
	first    uint64
	seeds    int
	minutes  float64
	seed     uint64 // 0: none
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

// parse reads the command line.
func parse(args []string) (*options, error) {
	o := &options{pkg: "github.com/etcdrpc/protoc-gen-go-etcd/simulation/walk"}
	f := flag.NewFlagSet("simulate", flag.ContinueOnError)
	f.Uint64Var(&o.first, "first", 1, "the first seed; 0 chooses one")
	f.IntVar(&o.seeds, "seeds", 0, fmt.Sprintf("how many seeds to walk (%d, or with -minutes no limit)", defaultSeeds))
	f.Float64Var(&o.minutes, "minutes", 0, "how long to walk at most")
	f.Func("seed", "walk this `seed` alone", func(text string) (err error) {
		if o.seed, err = strconv.ParseUint(text, 0, 64); err == nil && o.seed == 0 {
			err = errors.New("seeds begin with 1; -first 0 chooses one")
		}
		return err
	})
	f.StringVar(&o.schedule, "schedule", "", "walk the schedule in this `file`")
	f.IntVar(&o.procs, "procs", runtime.NumCPU(), "how many processes walk at a time")
	f.BoolVar(&o.race, "race", false, "walk with the race detector")
	f.DurationVar(&o.hang, "hang", time.Minute, "how long one schedule may take before it counts as hanging")
	f.DurationVar(&o.shrink, "shrink", time.Minute, "how long to shrink a failing schedule")
	f.StringVar(&o.failures, "failures", "failures", "the `directory` that keeps failing schedules")
	f.BoolVar(&o.replay, "replay", false, "walk -seed or -schedule exactly the same way each time")
	f.IntVar(&o.times, "times", 1, "how often to walk -seed or -schedule")
	f.Uint64Var(&o.chance, "chance", 1, "with -replay, the seed of what Go leaves to chance: selects, goroutines, maps")
	f.IntVar(&o.tries, "tries", 1, "with -replay, how many seeds of chance to try until one fails")
	f.SetOutput(io.Discard) // an error is enough, without all flags
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		f.SetOutput(os.Stderr)
		f.PrintDefaults()
	}
	if err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag: a seed is given as -seed %[1]s, a file as -schedule %[1]s", f.Arg(0))
	}
	return o, nil
}

// mostMinutes is as long as Go can count.
const mostMinutes = float64(math.MaxInt64 / time.Minute)

// check returns an error that says which options do not go together, or walk nothing.
func (o *options) check() error {
	one := o.seed != 0 || o.schedule != ""
	switch {
	case o.seed != 0 && o.schedule != "":
		return errors.New("-seed and -schedule are two schedules: give one")
	case one && (o.seeds != 0 || o.minutes != 0 || o.first != 1):
		return errors.New("-first, -seeds and -minutes are for many schedules, and -seed and -schedule name one")
	case !one && (o.replay || o.times != 1):
		return errors.New("-replay and -times need a schedule: give -seed or -schedule")
	case o.replay && o.race:
		return errors.New("-replay cannot be exact with the race detector: leave out -race")
	case !o.replay && o.tries != 1:
		return errors.New("-tries goes with -replay")
	case o.times < 1 || o.tries < 1 || o.procs < 1 || o.seeds < 0 || o.hang <= 0:
		return errors.New("-times, -tries, -procs, -seeds and -hang are positive")
	case !(o.minutes >= 0 && o.minutes <= mostMinutes): // nor is it NaN
		return fmt.Errorf("-minutes is between 0 and %g", mostMinutes)
	case !one && o.first > math.MaxUint64-uint64(o.many()):
		return fmt.Errorf("there are no %d seeds from %d on", o.many(), o.first)
	}
	return nil
}

// many is how many seeds are to be walked at least, if there is time.
func (o *options) many() int {
	switch {
	case o.seeds > 0:
		return o.seeds
	case o.minutes > 0:
		return 1
	}
	return defaultSeeds
}
