package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// The directories of the modules and of the simulation's tests, below the root of the repository.
const (
	simulation  = "simulation"
	integration = "integration"
	walkDir     = simulation + "/walk"
)

// Bounds of tests that take as long as they need.
const (
	coreTimeout = 2 * time.Minute
	realTimeout = 3 * time.Minute
)

// runner tries mutants. It is safe for concurrent use.
type runner struct {
	options
	root  string // of the repository
	dir   string // for what it builds
	green int    // how many schedules pass without any mutant

	mu     sync.Mutex
	sound  map[string]func() error // by test: why it does not count, nil if it passes without any mutant
	builds int                     // numbers them
}

// newRunner returns a runner, after it has tried the schedules without any mutant.
func newRunner(ctx context.Context, o options) (*runner, error) {
	r := &runner{options: o, sound: make(map[string]func() error)}
	mod, err := output(ctx, ".", nil, "go", "env", "GOMOD")
	if err != nil {
		return nil, err
	}
	r.root = filepath.Dir(filepath.Dir(strings.TrimSpace(mod)))
	if r.dir, err = os.MkdirTemp("", "mutants"); err != nil {
		return nil, err
	}
	if o.build {
		return r, nil
	}
	if err := r.tryUnmutated(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(r.dir))
	}
	return r, nil
}

// tryUnmutated finds out how many schedules pass.
func (r *runner) tryUnmutated(ctx context.Context) error {
	binary, err := r.compile(ctx, walkDir, nil)
	if err != nil {
		return err
	}
	defer os.RemoveAll(binary)
	w, err := r.walk(ctx, binary, r.seeds)
	if err != nil {
		return err
	}
	if w.why != "" {
		return fmt.Errorf("seed %d finds something without any mutant: %s", w.seed, w.why)
	}
	if r.green = w.done; r.green == 0 {
		return fmt.Errorf("no schedule has ended within %v", r.budget)
	}
	fmt.Printf("%d schedules pass without any mutant, in %v\n", w.done, w.took.Round(time.Second))
	return nil
}

// notice is a kind of test that notices a mutant.
type notice int

const (
	bySchedule notice = iota
	byWalk
	byReal
	byUnit
	notices // how many kinds there are
)

// outcome says what noticed a mutant.
type outcome struct {
	mutant *mutant
	by     string        // "": nobody
	kind   notice        // what kind of test that is
	seed   uint64        // of the schedule; 0: it was none
	after  time.Duration // from the start of the test
	why    string        // what it said
	real   string        // what the test on real etcd said where -real asks for it
	err    error         // the mutant could not be tried
}

// try tries one mutant.
func (r *runner) try(ctx context.Context, m *mutant) outcome {
	o := outcome{mutant: m}
	overlay, err := r.overlay(m)
	if err != nil {
		return outcome{mutant: m, err: err}
	}
	if r.build {
		_, o.err = output(ctx, filepath.Join(r.root, m.dir()), overlay, "go", "build", ".")
		return o
	}
	for _, notices := range []func(context.Context, *outcome, []string) error{r.inSchedules, r.inCore} {
		if o.err = notices(ctx, &o, overlay); o.err != nil || o.by != "" {
			break
		}
	}
	if o.err == nil && m.real != nil && (o.by == "" || r.real) {
		o.err = r.onRealEtcd(ctx, &o, overlay)
	}
	if o.err == nil && m.unit != "" && o.by == "" {
		o.err = r.inPackage(ctx, &o, overlay)
	}
	return o
}

// overlay writes the mutated files, and returns the environment in which the go command takes them for the real ones.
func (r *runner) overlay(m *mutant) (env []string, err error) {
	mutated, err := m.apply(r.root)
	if err != nil {
		return nil, err
	}
	base := filepath.Join(r.dir, m.room+"-"+m.name)
	replace := make(map[string]string)
	for file, text := range mutated {
		name := fmt.Sprintf("%s-%d.go", base, len(replace))
		replace[filepath.Join(r.root, file)] = name
		if err := os.WriteFile(name, text, 0o644); err != nil {
			return nil, err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return nil, err
	}
	overlay := base + ".json"
	if err := os.WriteFile(overlay, list, 0o644); err != nil {
		return nil, err
	}
	return []string{strings.TrimSpace("GOFLAGS=" + os.Getenv("GOFLAGS") + " -overlay=" + overlay)}, nil
}

// inSchedules looks for a schedule that notices the mutant.
func (r *runner) inSchedules(ctx context.Context, o *outcome, overlay []string) error {
	binary, err := r.compile(ctx, walkDir, overlay)
	if err != nil {
		return err
	}
	defer os.RemoveAll(binary)
	w, err := r.walk(ctx, binary, r.green)
	if err == nil && w.why != "" {
		o.by, o.kind, o.seed, o.after, o.why = "simulation", bySchedule, w.seed, w.took, w.why
	}
	return err
}

// inCore has the walk of the mutated core notice the mutant, where there is one.
func (r *runner) inCore(ctx context.Context, o *outcome, overlay []string) error {
	dir := o.mutant.dir()
	if _, err := os.Stat(filepath.Join(r.root, dir, "walk_test.go")); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	began := time.Now()
	why, err := r.fails(ctx, dir, "Walk", coreTimeout, overlay)
	if err == nil && why != "" {
		o.by, o.kind, o.after, o.why = "walk of core "+filepath.Base(dir), byWalk, time.Since(began), why
	}
	return err
}

// onRealEtcd has the test on real etcd notice the mutant.
func (r *runner) onRealEtcd(ctx context.Context, o *outcome, overlay []string) error {
	pkg, test := o.mutant.real[0], o.mutant.real[1]
	began := time.Now()
	why, err := r.fails(ctx, filepath.Join(integration, pkg), "^"+test+"$", realTimeout, overlay)
	switch {
	case err != nil:
		return err
	case why == "":
		o.real = test + " passes"
	case o.by == "":
		o.by, o.kind, o.after, o.why = test, byReal, time.Since(began), why
	default:
		o.real = test + " notices it, too"
	}
	return nil
}

// inPackage has the test of the mutated package that the mutant names notice it.
func (r *runner) inPackage(ctx context.Context, o *outcome, overlay []string) error {
	began := time.Now()
	why, err := r.fails(ctx, o.mutant.dir(), "^"+o.mutant.unit+"$", coreTimeout, overlay)
	if err == nil && why != "" {
		o.by, o.kind, o.after, o.why = o.mutant.unit, byUnit, time.Since(began), why
	}
	return err
}

// fails returns what tests of a package say if they fail with a mutant, "" if they pass. It is an error if they fail
// without one, too, or if there are none.
func (r *runner) fails(ctx context.Context, dir, tests string, timeout time.Duration, overlay []string) (why string, err error) {
	if err := r.isSound(ctx, dir, tests, timeout); err != nil {
		return "", err
	}
	_, why, err = r.test(ctx, dir, tests, timeout, overlay)
	return why, err
}

// isSound returns why tests do not count, nil if they pass without any mutant. It runs them once.
func (r *runner) isSound(ctx context.Context, dir, tests string, timeout time.Duration) error {
	r.mu.Lock()
	sound := r.sound[dir+tests]
	if sound == nil {
		sound = sync.OnceValue(func() error {
			passed, why, err := r.test(ctx, dir, tests, timeout, nil)
			if err == nil && (why != "" || passed == 0) {
				err = fmt.Errorf("the tests %q of %s do not pass without any mutant: %s", tests, dir, why)
			}
			return err
		})
		r.sound[dir+tests] = sound
	}
	r.mu.Unlock()
	return sound()
}

// test runs tests of a package. It returns how many passed, and what a failed one says.
func (r *runner) test(ctx context.Context, dir, tests string, timeout time.Duration, overlay []string) (passed int, why string, err error) {
	binary, err := r.compile(ctx, dir, overlay)
	if err != nil {
		return 0, "", err
	}
	defer os.RemoveAll(binary)
	out, err := output(ctx, filepath.Join(r.root, dir), overlay, binary, "-test.v", "-test.run="+tests, "-test.timeout="+timeout.String())
	if ctx.Err() != nil {
		return 0, "", ctx.Err()
	}
	if err != nil {
		return 0, complaint(out), nil
	}
	return strings.Count("\n"+out, "\n--- PASS: "), "", nil
}

// compile builds the tests of a package, and returns the binary.
func (r *runner) compile(ctx context.Context, dir string, overlay []string) (binary string, err error) {
	r.mu.Lock()
	r.builds++
	binary = filepath.Join(r.dir, fmt.Sprintf("%d.test", r.builds))
	r.mu.Unlock()
	_, err = output(ctx, filepath.Join(r.root, dir), overlay, "go", "test", "-c", "-o", binary, ".")
	return binary, err
}

// output runs a command in dir, with more in its environment. Its error has what the command printed.
func output(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s in %s: %w\n%s", name, strings.Join(args, " "), dir, err, out)
	}
	return string(out), nil
}

// complaint returns what a failed test said first, for people.
func complaint(out string) string {
	first := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.Contains(line, "_test.go:") {
			return line
		}
		if first == "" && line != "" && !strings.HasPrefix(line, "=== ") {
			first = line
		}
	}
	return "it fails: " + first
}
