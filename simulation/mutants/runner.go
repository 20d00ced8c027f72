package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"
)

// walkDir is the package that walks schedules.
const walkDir = "simulation/walk"

// test is a test by its package, relative to the root of the repository, and its name, a regular expression. Of package
// walk, TestWalk/17 is the schedule of seed 17, and TestWalk/1-50 are those of 50 seeds.
type test struct{ dir, name string }

func (t test) onEtcd() bool { return strings.HasPrefix(t.dir, "integration/") }

// isWalk reports whether make cores or make simulate runs the test, on a push and without -short.
func (t test) isWalk() bool {
	return strings.Contains(t.name, "Walk") && (t.dir == walkDir || strings.HasPrefix(t.dir, "runtime/internal/"))
}

// when says which runs of the tests have one.
type when string

const (
	push  when = "push"  // go test -short, make cores and make simulate
	night when = "night" // go test
)

// args returns the arguments of a test binary.
func (p probe) args() []string {
	args := []string{"-test.v", "-test.failfast", "-test.timeout=" + p.timeout().String()}
	if p.at == push && !p.isWalk() {
		args = append(args, "-test.short")
	}
	name := p.name
	if walk, seeds, ok := strings.Cut(name, "/"); ok && p.dir == walkDir {
		var first, last int
		if n, _ := fmt.Sscanf(seeds, "%d-%d", &first, &last); n < 2 {
			last = first
		}
		name, args = walk, append(args, fmt.Sprintf("-first=%d", first), fmt.Sprintf("-seeds=%d", last-first+1))
	}
	return append(args, "-test.run=^"+name+"$")
}

// timeout returns after what time tests hang.
func (p probe) timeout() time.Duration {
	if p.onEtcd() || strings.ContainsAny(p.name, "*-") {
		return 3 * time.Minute
	}
	return time.Minute // for one test, as a mutant may well have it hang
}

// result is how tests went.
type result struct {
	failed string // the first that failed; "": none did
	why    string // what it said
	passed bool   // not all were skipped
	took   time.Duration
}

var (
	failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)
	lastTest   = regexp.MustCompile(`(?s).*\n=== RUN   (\w+)`)
	lastSeed   = regexp.MustCompile(`(?s).*\n=== RUN   (TestWalk/\d+)`)
	passedTest = regexp.MustCompile(`(?m)^--- PASS: `)
)

// parseOutput returns what the output of a test binary says.
func parseOutput(t test, out string, failed error) result {
	r := result{passed: passedTest.MatchString(out)}
	if failed == nil {
		return r
	}
	patterns := []*regexp.Regexp{failedTest, lastTest}
	if t.dir == walkDir {
		patterns = []*regexp.Regexp{lastSeed, failedTest}
	}
	for _, p := range patterns {
		if found := p.FindStringSubmatch("\n" + out); found != nil && r.failed == "" {
			r.failed = found[1]
		}
	}
	_, said, _ := strings.Cut(out, "=== RUN   "+r.failed+"\n")
	r.failed, r.why = cmp.Or(r.failed, t.name), complaint(cmp.Or(said, out))
	return r
}

// complaint returns what a failed test said first, for people.
func complaint(out string) string {
	first := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.Contains(line, "_test.go:") {
			return line[:min(len(line), 200)]
		}
		if first == "" && !strings.HasPrefix(line, "=== ") {
			first = line
		}
	}
	return first
}

// runner builds tests, with all mutants in them, and runs them. It is safe for concurrent use.
type runner struct {
	root string
	env  []string // has the go command take the files with mutants
	dir  string   // for what is built

	busy, waiting chan struct{} // places for tests that keep a processor busy, and for those that mostly wait

	mu       sync.Mutex
	binaries map[string]func() (string, error) // by package
	sound    map[string]func() (result, error) // tests without any mutant
}

func newRunner(root, dir, overlay string) *runner {
	return &runner{
		root: root, dir: dir,
		env:      append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" '-overlay="+overlay+"'"),
		busy:     make(chan struct{}, runtime.NumCPU()),
		waiting:  make(chan struct{}, 2*runtime.NumCPU()),
		binaries: make(map[string]func() (string, error)),
		sound:    make(map[string]func() (result, error)),
	}
}

// run runs tests with a mutant in force, or none.
func (r *runner) run(ctx context.Context, p probe, mutant string) (result, error) {
	binary, err := once(r, r.binaries, p.dir, func() (string, error) { return r.build(ctx, p.dir) })
	if err != nil || binary == "" {
		return result{}, err
	}
	place := r.busy
	if p.onEtcd() {
		place = r.waiting
	}
	place <- struct{}{}
	defer func() { <-place }()
	began := time.Now()
	out, failed := r.output(ctx, filepath.Join(r.root, p.dir), mutant, binary, p.args()...)
	if err := ctx.Err(); err != nil {
		return result{}, err
	}
	if exit := (*exec.ExitError)(nil); failed != nil && !errors.As(failed, &exit) {
		return result{}, failed
	}
	got := parseOutput(p.test, out, failed)
	got.took = time.Since(began)
	return got, nil
}

// isSound returns an error unless a test passes without any mutant.
func (r *runner) isSound(ctx context.Context, p probe) error {
	_, err := once(r, r.sound, fmt.Sprint(p), func() (result, error) {
		got, err := r.run(ctx, p, "")
		if err == nil && !got.passed {
			err = fmt.Errorf("%s in %s does not pass without any mutant: %s", p.name, p.dir, got.why)
		}
		return got, err
	})
	return err
}

// build builds the tests of a package. Without tests there is no binary.
func (r *runner) build(ctx context.Context, dir string) (binary string, err error) {
	r.busy <- struct{}{}
	defer func() { <-r.busy }()
	binary = filepath.Join(r.dir, strings.ReplaceAll(dir, "/", "-")+".test")
	out, err := r.output(ctx, filepath.Join(r.root, dir), "", "go", "test", "-c", "-o", binary, ".")
	if err != nil {
		return "", fmt.Errorf("building the tests of %s: %w\n%s", dir, err, out)
	}
	if _, err := os.Stat(binary); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return binary, nil
}

func (r *runner) output(ctx context.Context, dir, mutant, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(r.env[:len(r.env):len(r.env)], inForce+"="+mutant)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// once returns what f returned for the key, which it calls once.
func once[T any](r *runner, all map[string]func() (T, error), key string, f func() (T, error)) (T, error) {
	r.mu.Lock()
	if all[key] == nil {
		all[key] = sync.OnceValues(f)
	}
	get := all[key]
	r.mu.Unlock()
	return get()
}
