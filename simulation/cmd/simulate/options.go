package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"time"
)

// options is what the command line says, and below that what only tests change.
type options struct {
	first    uint64
	seeds    int
	minutes  float64
	seed     uint64 // 0: none
	schedule string

	binary   string        // what walks; "": it is built
	kept     string        // a pattern for the files of schedules that are always walked; "": none
	failures string        // the directory for schedules that fail
	hang     time.Duration // how long one schedule may take before it counts as hanging
	shrink   time.Duration // how long to shrink a schedule that fails
}

// defaultSeeds is how many seeds are walked where the command line does not say: as many as two quiet cores walk in 40 s.
const defaultSeeds = 600

// parse reads the command line.
func parse(args []string) (*options, error) {
	o := &options{
		kept: "walk/testdata/*.json", failures: "failures", hang: time.Minute, shrink: time.Minute,
	}
	f := flag.NewFlagSet("simulate", flag.ContinueOnError)
	f.Uint64Var(&o.first, "first", 1, "the first seed; 0 chooses one")
	f.IntVar(&o.seeds, "seeds", 0, fmt.Sprintf("how many seeds to walk (%d, or with -minutes no limit)", defaultSeeds))
	f.Float64Var(&o.minutes, "minutes", 0, "how long to walk at most")
	f.StringVar(&o.schedule, "schedule", "", "walk the schedule in this `file` alone")
	f.Func("seed", "walk this `seed` alone", func(text string) (err error) {
		if o.seed, err = strconv.ParseUint(text, 0, 64); err == nil && o.seed == 0 {
			err = errors.New("seeds begin with 1; -first 0 chooses one")
		}
		return err
	})
	f.SetOutput(io.Discard) // an error is enough, without all flags
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		f.SetOutput(os.Stderr)
		f.PrintDefaults()
		return nil, err
	case err != nil:
		return nil, err
	case f.NArg() > 0:
		return nil, fmt.Errorf("%q is no flag: a seed is given as -seed %[1]s, a file as -schedule %[1]s", f.Arg(0))
	}
	return o, o.check()
}

// mostMinutes is as long as Go can count.
const mostMinutes = float64(math.MaxInt64 / time.Minute)

// check returns an error that says which options do not go together, or walk nothing.
func (o *options) check() error {
	switch {
	case o.seed != 0 && o.schedule != "":
		return errors.New("-seed and -schedule are two schedules: give one")
	case o.one() && (o.seeds != 0 || o.minutes != 0 || o.first != 1):
		return errors.New("-first, -seeds and -minutes are for many schedules, and -seed and -schedule name one")
	case o.seeds < 0:
		return errors.New("-seeds is positive")
	case !(o.minutes >= 0 && o.minutes <= mostMinutes): // nor is it NaN
		return fmt.Errorf("-minutes is between 0 and %g", mostMinutes)
	}
	return nil
}

// one reports whether the command line names a single schedule.
func (o *options) one() bool { return o.seed != 0 || o.schedule != "" }
