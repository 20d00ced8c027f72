// Package leak checks that tests leave no goroutines.
package leak

import (
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a check waits for goroutines to end.
const patience = 10 * time.Second

// tests holds the tests for which Check does nothing.
var tests sync.Map

// Check fails the test if it leaves goroutines, even of etcd or gRPC. The check
// runs after all clean-ups that are registered after Check, so call Check
// first, and not in parallel tests. A second call does nothing.
func Check(t testing.TB) {
	t.Helper()

	if _, again := tests.LoadOrStore(t, true); again {
		return
	}

	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		tests.Delete(t)

		if t.Failed() || t.Skipped() {
			return // a failed test may leave goroutines
		}

		var err error
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			err = goleak.Find(before)
			if err == nil {
				return
			}
		}

		t.Error(err)
	})
}

// Parallel runs a test in parallel with others. [Main] checks for goroutines
// after all of them.
func Parallel(t *testing.T) {
	t.Helper()

	t.Parallel()
	tests.Store(t, true) // Check does nothing for a parallel test
	t.Cleanup(func() { tests.Delete(t) })
}

// Main runs the tests of a package. It returns the exit code for TestMain: not
// 0 if the tests fail or leave goroutines. parallel is the number of parallel
// tests. It may exceed the number of processors, because the tests mostly wait.
func Main(parallel int, run func() int) int {
	// the flag -parallel overrides this number
	if err := flag.Set("test.parallel", fmt.Sprint(parallel)); err != nil {
		panic(err)
	}

	if code := run(); code != 0 {
		return code
	}

	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		err = goleak.Find()
		if err == nil {
			return 0
		}
	}

	fmt.Fprintln(os.Stderr, err)

	return 1
}

// None fails the test if goroutines remain that run, or were started by, code
// of package runtime or of a package below it. more adds texts of stacks:
// goroutines with one of them must not remain either.
func None(t testing.TB, more ...string) {
	t.Helper()

	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()

	var remaining []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		remaining = append(Ours(), In(more...)...)
		if len(remaining) == 0 {
			return
		}
	}

	t.Errorf("%d goroutines are left, want none:\n%s", len(remaining),
		strings.Join(remaining, "\n\n"))
}

// Ours returns the stacks of the goroutines that None checks in any case.
func Ours() []string {
	const module = "github.com/etcdrpc/protoc-gen-go-etcd"
	return In(module+"/runtime.", module+"/runtime/")
}

// In returns the stacks of the goroutines whose stack contains one of these
// texts, such as the start of a function's name.
func In(functions ...string) []string {
	var all strings.Builder

	// as a panic prints them; the writer does not fail
	_ = pprof.Lookup("goroutine").WriteTo(&all, 2)

	var found []string
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if slices.ContainsFunc(functions, func(function string) bool {
			return strings.Contains(stack, function)
		}) {
			found = append(found, stack)
		}
	}

	return found
}
