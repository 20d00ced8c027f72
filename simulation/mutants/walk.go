package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/walk"
)

// stuckAfter is the time after which a schedule that has not ended counts as one that hangs. One that is well ends within
// a second.
const stuckAfter = 15 * time.Second

var errStuck = fmt.Errorf("the schedule has not ended after %v", stuckAfter)

// walked is what schedules found.
type walked struct {
	done int           // schedules that found nothing
	seed uint64        // of the one that found something
	why  string        // what it found; "": none found anything
	took time.Duration // until then
}

// walk walks schedules until one finds something, the budget is spent, or all are done.
func (r *runner) walk(ctx context.Context, binary string, seeds int) (walked, error) {
	began := time.Now()
	budget, cancel := context.WithTimeout(ctx, r.budget)
	defer cancel()
	watched, kill := context.WithCancelCause(budget)
	defer kill(nil)
	// What it writes comes through a pipe, so that the first problem ends it.
	lines, write, err := os.Pipe()
	if err != nil {
		return walked{}, err
	}
	defer lines.Close()
	cmd := exec.CommandContext(watched, binary, "-test.run=^TestWalk$", "-test.timeout=0",
		"-first", strconv.FormatUint(r.first, 10), "-seeds", strconv.Itoa(seeds), "-out", "/dev/fd/3")
	cmd.Dir, cmd.ExtraFiles = filepath.Join(r.root, walkDir), []*os.File{write}
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := errors.Join(cmd.Start(), write.Close()); err != nil {
		return walked{}, err
	}
	watchdog := time.AfterFunc(stuckAfter, func() { kill(errStuck) })
	w := walked{seed: r.first}
	malformed := w.follow(lines, func() { watchdog.Reset(stuckAfter) })
	ended := context.Cause(watched)
	if w.why != "" || malformed != nil {
		kill(nil)
	}
	failed := cmd.Wait()
	watchdog.Stop()
	w.took = time.Since(began)
	switch {
	case ctx.Err() != nil:
		return w, ctx.Err()
	case malformed != nil:
		return w, fmt.Errorf("what the walk says of its schedules: %w", malformed)
	case w.why != "":
	case errors.Is(ended, errStuck):
		w.why = errStuck.Error()
	case failed != nil && ended == nil:
		w.why = complaint(out.String())
	}
	return w, nil
}

// follow reads lines until one has a problem, or there are no more. It calls next before each.
func (w *walked) follow(lines io.Reader, next func()) error {
	for read := json.NewDecoder(lines); ; {
		var l walk.Report
		switch err := read.Decode(&l); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil // it has ended, and its exit status says how
		case err != nil:
			return err
		}
		next()
		if len(l.Problems) > 0 {
			w.seed, w.why = l.Seed, string(l.Problems[0].Rule)
			return nil
		}
		w.done++
		w.seed = l.Seed + 1
	}
}
