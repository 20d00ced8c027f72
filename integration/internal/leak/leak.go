// Package leak checks that a test leaves no goroutines.
package leak

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds the wait for goroutines that are about to end.
const patience = 10 * time.Second

// tests holds the tests that have a check.
var tests sync.Map

// Check fails the test if, after all later clean-ups, goroutines exist that did not exist before,
// etcd's and gRPC's included. Call it before anything that registers a clean-up, and not in parallel
// tests. A second call does nothing.
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
			if err = goleak.Find(before); err == nil {
				return
			}
		}
		t.Error(err)
	})
}

// Parallel runs a test in parallel with others. [Main] makes the check for all of them.
func Parallel(t *testing.T) {
	t.Helper()
	t.Parallel()
	tests.Store(t, true) // Check does nothing for it
	t.Cleanup(func() { tests.Delete(t) })
}

// Main runs the tests of a package for its TestMain and returns the exit code, which is not 0 if goroutines are
// left after all tests. parallel may exceed the number of processors, as the tests mostly wait.
func Main(parallel int, run func() int) int {
	if err := flag.Set("test.parallel", fmt.Sprint(parallel)); err != nil { // -parallel overrides it
		panic(err)
	}
	if code := run(); code != 0 {
		return code
	}
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err = goleak.Find(); err == nil {
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// None fails the test if goroutines exist that run code below runtime, or were started there. It
// ignores all others.
func None(t testing.TB) {
	t.Helper()
	var left []string
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if left = Ours(); len(left) == 0 {
			return
		}
	}
	t.Errorf("%d goroutines are left, want none:\n%s", len(left), strings.Join(left, "\n\n"))
}

// Ours returns the stacks of the goroutines that None checks.
func Ours() []string {
	const module = "github.com/etcdrpc/protoc-gen-go-etcd"
	return In(module+"/runtime.", module+"/runtime/")
}

// In returns the stacks of the goroutines that run a function whose name has one of these prefixes.
func In(functions ...string) []string {
	buf := make([]byte, 1<<20)
	n := runtime.Stack(buf, true)
	for ; n == len(buf); n = runtime.Stack(buf, true) {
		buf = make([]byte, 2*len(buf))
	}
	var found []string
	for stack := range strings.SplitSeq(string(buf[:n]), "\n\n") {
		if slices.ContainsFunc(functions, func(function string) bool { return strings.Contains(stack, function) }) {
			found = append(found, stack)
		}
	}
	return found
}
