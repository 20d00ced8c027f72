package walk

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// Flags tell a test binary which schedules to walk, and where to write what it has found.
type Flags struct {
	first, seeds uint64
	file         string
	times        int
	longest      time.Duration
	traces, out  string
}

// NewFlags returns the flags of the command line. It must be called before that is parsed, once.
func NewFlags() *Flags {
	f := new(Flags)
	flag.Uint64Var(&f.first, "first", 1, "the seed of the first schedule")
	flag.Uint64Var(&f.seeds, "seeds", 0, "how many schedules to walk, of that seed and the next")
	flag.StringVar(&f.file, "schedule", "", "walk the one schedule in this JSON file instead")
	flag.IntVar(&f.times, "times", 1, "how many times to walk each schedule")
	flag.DurationVar(&f.longest, "longest", 45*time.Second, "how long a schedule may take outside before it counts as hanging")
	flag.StringVar(&f.traces, "traces", "", "write the trace of a schedule that fails to a file in this directory")
	flag.StringVar(&f.out, "out", "", "append a line of JSON for each schedule to this file")
	return f
}

// Walk calls walk for each schedule that the flags name, as often as they say.
func (f *Flags) Walk(t *testing.T, walk func(*testing.T, schedule.Schedule)) {
	if f.file != "" {
		f.Load(t, f.file, walk)
		return
	}
	for seed := f.first; seed < f.first+f.seeds; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { f.repeat(t, schedule.New(seed), walk) })
	}
}

// Load calls walk for the schedule in a file.
func (f *Flags) Load(t *testing.T, file string, walk func(*testing.T, schedule.Schedule)) {
	t.Helper()
	s, err := schedule.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	f.repeat(t, s, walk)
}

func (f *Flags) repeat(t *testing.T, s schedule.Schedule, walk func(*testing.T, schedule.Schedule)) {
	for range f.times {
		stop := f.watch(s.Seed)
		walk(t, s)
		stop()
	}
}

// watch ends the process when a schedule takes too long outside, and says its seed and where all goroutines are. No clock of a
// bubble can tell: time stands still there while a goroutine runs, or waits for what is not of the bubble.
func (f *Flags) watch(seed uint64) (stop func() bool) {
	return time.AfterFunc(f.longest, func() {
		all := make([]byte, 64<<20)
		all = all[:runtime.Stack(all, true)]
		fmt.Fprintf(os.Stderr, "panic: seed %d hangs: it has taken %v\n\n%s", seed, f.longest, all)
		os.Exit(2)
	}).Stop
}

// WriteTrace writes what happened in a schedule that failed to a file.
func (f *Flags) WriteTrace(t *testing.T, seed uint64, text []byte) {
	if f.traces == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(f.traces, fmt.Sprintf("%d.txt", seed)), text, 0o644); err != nil {
		t.Error(err)
	}
}

// Record appends a line about a schedule to the file that the flags name.
func (f *Flags) Record(t *testing.T, r Report) {
	if f.out == "" {
		return
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(f.out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := fmt.Fprintf(out, "%s\n", text); err != nil {
		t.Fatal(err)
	}
}
