// Package leak checks that what was started has ended.
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

// patience is how long goroutines that are about to end are waited for.
const patience = 10 * time.Second

// tests are those that are checked already.
var tests sync.Map

// Check fails the test if, after all its later clean-ups, there are goroutines that were not there
// before: of whatever code, etcd's and gRPC's too. It must come before anything that is cleaned up,
// and not in parallel tests. A second call does nothing.
func Check(t testing.TB) {
	t.Helper()
	if _, again := tests.LoadOrStore(t, true); again {
		return
	}
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		tests.Delete(t)
		if t.Failed() || t.Skipped() {
			return // what failed may well have left something
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

// Beside has a test run beside others: it waits more than it works. The check is left to [Main].
func Beside(t *testing.T) {
	t.Helper()
	t.Parallel()
	tests.Store(t, true) // Check does nothing for it
	t.Cleanup(func() { tests.Delete(t) })
}

// Main runs the tests of a package for its TestMain, and returns the exit code. It is not 0 if goroutines are
// left when all tests have ended. Parallel tests mostly wait: more of them than there are processors keep these busy.
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

// None fails the test if there are goroutines of the packages below runtime, or that these started,
// whatever else is still running.
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
	t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
}

// Ours are the stacks of the goroutines that None is about.
func Ours() []string {
	const module = "github.com/etcdrpc/protoc-gen-go-etcd"
	return In(module+"/runtime.", module+"/runtime/")
}

// In are the stacks of the goroutines that are in one of these functions, or in one whose name begins so.
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
