package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// The kinds of tests.
const (
	// tests of a package of the product, including random walks of state
	// machines
	unit = "unit"

	etcd     = "etcd"     // tests of module integration, on real etcd
	schedule = "schedule" // schedules of the simulation
)

// test is a test, or several tests of a package.
type test struct {
	room string
	dir  string // the directory of the package, relative to the root of the repository
	name string // a regular expression; the seed if it is a schedule
	long bool   // the test runs without -short
}

// scheduleOf returns the test that runs the schedule of a seed.
func scheduleOf(seed int) test {
	return test{
		room: schedule,
		dir:  "simulation/walk",
		name: fmt.Sprint(seed),
		long: true,
	}
}

// args returns the arguments of a test binary, with a timeout, because a mutant
// may make a test hang.
func (t test) args() []string {
	if t.room == schedule {
		return []string{
			"-test.v",
			"-test.timeout=1m",
			"-test.run=^TestWalk$",
			"-seeds=1",
			"-first=" + t.name,
		}
	}

	walk := strings.Contains(t.name, "Walk")
	timeout := "-test.timeout=1m"
	if t.room == etcd || walk || strings.Contains(t.name, "*") {
		timeout = "-test.timeout=3m"
	}

	args := []string{"-test.v", "-test.failfast", "-test.run=^" + t.name + "$", timeout}

	// only make cores runs random walks, without -short
	if !t.long && !walk {
		args = append(args, "-test.short")
	}

	return args
}

func (t test) String() string {
	if t.room == schedule {
		return "schedule " + t.name
	}

	return fmt.Sprintf("%s %s in %s", t.room, t.name, t.dir)
}

// result is the result of tests.
type result struct {
	failed *test  // the first failure
	why    string // the message of the failure
	passed bool   // a test passed
	took   time.Duration
}

func (r result) String() string {
	if r.failed == nil {
		return "nobody"
	}

	return fmt.Sprintf("%v, %.1f s: %s", r.failed, r.took.Seconds(), r.why)
}

var (
	passedTest = regexp.MustCompile(`(?m)^--- PASS: `)
	failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)
	begunTest  = regexp.MustCompile(`(?m)^=== RUN   (\w+)`)
	complaint  = regexp.MustCompile(
		`(?m)^.*(_test\.go:\d+: |panic: |fatal error: ).{0,120}`)
)

// parseOutput parses the output of a test binary. If the process crashed, the
// test that began last has failed.
func parseOutput(t test, out string, failed error) result {
	r := result{passed: passedTest.MatchString(out)}
	if failed == nil {
		return r
	}

	said := out
	if t.room != schedule {
		found := failedTest.FindStringSubmatch(out)
		begun := begunTest.FindAllStringSubmatch(out, -1)
		if found == nil && begun != nil {
			found = begun[len(begun)-1]
		}

		if found != nil {
			t.name = found[1]
			_, said, _ = strings.Cut(out, "=== RUN   "+t.name+"\n")
		}
	}

	r.failed = &t
	r.why = strings.TrimSpace(complaint.FindString(said))

	return r
}

// runner builds tests, with all mutants in them, and runs them. It is safe for
// concurrent use.
type runner struct {
	root  string
	env   []string // makes the go command use the files with mutants
	dir   string   // the directory for built files
	seeds int      // the number of schedules to try

	binaries memo[string, string] // the test binary of each package
	sound    memo[test, result]   // the result of each test without a mutant
}

// try runs the tests that a mutant names, then the tests of the mutant's
// package, then schedules. It returns the result of the first test that fails.
// Its error explains failures that do not count.
func (r *runner) try(ctx context.Context, m *mutant) (result, error) {
	own := m.edits[0].dir
	all := append(slices.Clone(m.tests),
		test{room: unit, dir: own, name: ".*"},
		test{room: unit, dir: own, name: ".*Walk.*"})
	for seed := range r.seeds {
		all = append(all, scheduleOf(seed+1))
	}

	var errs []error
	for _, t := range all {
		got, err := r.notices(ctx, t, m.id)
		if ctx.Err() != nil || err == nil && got.failed != nil {
			return got, err
		}

		errs = append(errs, err)
	}

	return result{}, errors.Join(errs...)
}

// notices runs tests with a mutant. A failure counts if the test also fails
// when it runs alone, and passes without the mutant.
func (r *runner) notices(ctx context.Context, t test, mutant string) (result, error) {
	got, err := r.run(ctx, t, mutant)
	if err == nil && got.failed == nil && !got.passed && !t.long {
		t.long = true // -short skips the test
		got, err = r.run(ctx, t, mutant)
	}

	if err == nil && got.failed != nil && *got.failed != t {
		got, err = r.run(ctx, *got.failed, mutant)
	}

	if err != nil || got.failed == nil {
		return got, err
	}

	alone, err := r.sound.get(*got.failed, func() (result, error) {
		return r.run(ctx, *got.failed, "")
	})
	if err == nil && !alone.passed {
		err = fmt.Errorf("%v fails without a mutant, too: %s", got.failed, alone.why)
	}

	return got, err
}

// run runs tests with a mutant in force, or without one if mutant is "".
func (r *runner) run(ctx context.Context, t test, mutant string) (result, error) {
	binary, err := r.binaries.get(t.dir, func() (string, error) {
		return r.build(ctx, t.dir)
	})
	if err != nil || binary == "" {
		return result{}, err
	}

	began := time.Now()
	out, failed := r.output(ctx, t.dir, mutant, binary, t.args()...)

	if err := ctx.Err(); err != nil {
		return result{}, err
	}

	if exit := (*exec.ExitError)(nil); failed != nil && !errors.As(failed, &exit) {
		return result{}, failed
	}

	got := parseOutput(t, out, failed)
	got.took = time.Since(began)

	return got, nil
}

// build builds the tests of a package. It returns "" if the package has no
// tests.
func (r *runner) build(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(r.dir, strings.ReplaceAll(dir, "/", "-")+".test")
	out, err := r.output(ctx, dir, "", "go", "test", "-c", "-o", binary, ".")
	if err != nil {
		return "", fmt.Errorf("building the tests of %s: %w\n%s", dir, err, out)
	}

	if _, err := os.Stat(binary); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}

	return binary, nil
}

// output runs a command in a directory of the repository.
func (r *runner) output(
	ctx context.Context,
	dir, mutant, name string,
	args ...string,
) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = filepath.Join(r.root, dir)
	cmd.Env = append(r.env[:len(r.env):len(r.env)], inForce+"="+mutant)
	out, err := cmd.CombinedOutput()

	return string(out), err
}

// memo caches the result of a function for each key.
type memo[K comparable, V any] struct{ all sync.Map }

// get calls f, once for each key.
func (m *memo[K, V]) get(key K, f func() (V, error)) (V, error) {
	once, _ := m.all.LoadOrStore(key, sync.OnceValues(f))
	return once.(func() (V, error))()
}
