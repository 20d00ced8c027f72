package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/walk"
)

// lines puts each problem on a line of its own.
func lines(problems []check.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&b, "\t%v\n", p)
	}
	return b.String()
}

// The rules of processes that end or hang.
const (
	crash = "crash"
	hang  = "hang"
)

// A walker runs a test binary that walks schedules, each time in a new process and a new directory.
type walker struct {
	binary string
	dir    string
	env    []string
	hang   time.Duration // how long a schedule may take

	processes atomic.Int64
}

// An ending is how a process ended.
type ending struct {
	ok      bool
	hung    bool
	crash   string // the line with which Go ended it
	output  string // the file with all it said, unless it is ok; the traces of what failed are beside it
	cpu     time.Duration
	stopped bool // by the context, not by itself
}

// build builds the walk in dir. A process has one CPU to itself, which makes for twice as many walks as sharing all of them
// does. The environment has the last word.
func (o *options) build(ctx context.Context, dir string) (*walker, error) {
	binary := o.binary
	if binary == "" {
		binary = filepath.Join(dir, "walk.test")
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "github.com/etcdrpc/protoc-gen-go-etcd/simulation/walk")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("building the walk: %w", err)
		}
	}
	env := append([]string{"GOGC=400", "GOMAXPROCS=1", "GOTRACEBACK=crash"}, os.Environ()...)
	return &walker{binary: binary, dir: filepath.Join(dir, "processes"), env: env, hang: o.hang}, nil
}

// walkSeeds walks n schedules from a seed on.
func (w *walker) walkSeeds(ctx context.Context, first uint64, n int, each func(walk.Report)) (ending, error) {
	return w.run(ctx, nil, each, "-first", fmt.Sprint(first), "-seeds", fmt.Sprint(n))
}

// walkSchedule walks a schedule some times.
func (w *walker) walkSchedule(ctx context.Context, s schedule.Schedule, times int, each func(walk.Report)) (ending, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return ending{}, err
	}
	return w.run(ctx, b, each, "-schedule", "schedule.json", "-times", fmt.Sprint(times), "-traces", ".")
}

// run runs a process until it ends, nothing has been walked for too long or ctx is done, and calls each for every walk
// as it is reported.
func (w *walker) run(ctx context.Context, scheduleJSON []byte, each func(walk.Report), args ...string) (ending, error) {
	dir := filepath.Join(w.dir, fmt.Sprintf("%08d", w.processes.Add(1)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return ending{}, err
	}
	if scheduleJSON != nil {
		if err := os.WriteFile(filepath.Join(dir, "schedule.json"), scheduleJSON, 0o644); err != nil {
			return ending{}, err
		}
	}
	said, err := os.Create(filepath.Join(dir, "output.txt"))
	if err != nil {
		return ending{}, err
	}
	defer said.Close()
	longest := w.hang * 3 / 4 // it dumps more of a hang by itself, if it still can
	args = append([]string{"-test.run=^TestWalk$", "-out=walks.jsonl", "-longest=" + longest.String()}, args...)
	cmd := exec.CommandContext(ctx, w.binary, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = dir, said, said, w.env
	switch err := cmd.Start(); {
	case err != nil && ctx.Err() != nil:
		return ending{stopped: true}, nil
	case err != nil:
		return ending{}, fmt.Errorf("starting the walk: %w", err)
	}
	reports := &reports{path: filepath.Join(dir, "walks.jsonl")}
	hung, err := w.wait(cmd, reports, each)
	if err != nil {
		return ending{}, err
	}
	e := ending{
		ok:      cmd.ProcessState.Success(),
		output:  said.Name(),
		cpu:     cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		hung:    hung,
		stopped: ctx.Err() != nil,
	}
	if e.ok {
		return e, os.RemoveAll(dir)
	}
	e.crash, err = lastWords(e.output)
	return e, err
}

const (
	// reading is how often the reports of a process are read.
	reading = 100 * time.Millisecond
	// dumping is how long a process that hangs may take to dump its goroutines.
	dumping = 5 * time.Second
)

// wait waits for the process to end, and makes it dump its goroutines and end when it hangs.
func (w *walker) wait(cmd *exec.Cmd, reports *reports, each func(walk.Report)) (hung bool, err error) {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(reading)
	defer tick.Stop()
	for news := time.Now(); ; {
		select {
		case err := <-ended:
			if cmd.ProcessState == nil { // else it has ended, be it by the context
				return hung, fmt.Errorf("waiting for the walk: %w", err)
			}
			_, err = reports.read(each)
			return hung, err
		case <-tick.C:
		}
		n, err := reports.read(each)
		switch idle := time.Since(news); {
		case err != nil:
			return hung, errors.Join(err, cmd.Process.Kill(), <-ended)
		case n > 0:
			news = time.Now()
		case idle > w.hang+dumping:
			_ = cmd.Process.Kill() // it may have ended
		case idle > w.hang && !hung:
			hung = true
			_ = cmd.Process.Signal(syscall.SIGQUIT) // it may have ended
		}
	}
}

// reports reads what a process appends to a file.
type reports struct {
	path   string
	offset int64
}

// read calls each for every walk that was appended since, and returns how many there were.
func (r *reports) read(each func(walk.Report)) (int, error) {
	f, err := os.Open(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, r.offset, math.MaxInt64-r.offset))
	if err != nil {
		return 0, fmt.Errorf("reading what was walked: %w", err)
	}
	b = b[:bytes.LastIndexByte(b, '\n')+1] // the rest is being written
	r.offset += int64(len(b))
	n := 0
	for line := range bytes.Lines(b) {
		var report walk.Report
		if err := json.Unmarshal(line, &report); err != nil {
			return n, fmt.Errorf("%s: %q: %w", r.path, line, err)
		}
		each(report)
		n++
	}
	return n, nil
}

// problem returns what is wrong with the schedule that ended the process.
func (e ending) problem() check.Problem {
	switch {
	case e.hung:
		return check.Problem{Rule: hang, Text: "nothing was walked for too long"}
	case hangs.MatchString(e.crash):
		return check.Problem{Rule: hang, Text: e.crash}
	case e.crash == "":
		return check.Problem{Rule: crash, Text: "the process failed without saying why"}
	}
	return check.Problem{Rule: crash, Text: e.crash}
}

// hangs matches the line with which a schedule that hangs ends its process, by the clock of its world or by ours.
var hangs = regexp.MustCompile(`^panic: seed \d+ hangs`)

// fatal matches the line with which Go ends a process.
var fatal = regexp.MustCompile(`(?m)^(panic: |fatal error: |runtime: ).*$`)

// lastWords returns the line of output that says why the process ended, if one does.
func lastWords(output string) (string, error) {
	b, err := os.ReadFile(output)
	if err != nil {
		return "", err
	}
	return string(fatal.Find(b)), nil
}
