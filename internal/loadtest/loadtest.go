// Package loadtest makes calls, none of which may fail, while a test changes
// the servers, the callers or etcd.
package loadtest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// Call makes a call, and returns the name of the server that answered.
type Call func(ctx context.Context) (server string, err error)

// atOnce is the number of calls that a caller makes at the same time.
const atOnce = 2

// patience bounds a call, and a wait, on a busy machine.
const patience = time.Minute

// Caller makes calls until it is stopped.
type Caller struct {
	Name string // in messages

	// Stop ends the calls, and returns their number. It fails the test if a
	// call has failed. The end of the test stops a caller, too.
	Stop func() (calls int)

	t      *testing.T
	mu     sync.Mutex
	calls  int
	failed int
	first  error          // the first error
	recent map[string]int // calls by server, since the last reset
}

// Start starts a caller.
func Start(t *testing.T, name string, call Call) *Caller {
	t.Helper()

	c := &Caller{Name: name, t: t, recent: make(map[string]int)}
	ctx, cancel := context.WithCancel(context.Background())

	var running sync.WaitGroup
	for range atOnce {
		running.Go(func() {
			for ctx.Err() == nil {
				c.call(call)
				time.Sleep(2 * time.Millisecond) // parallel tests need processors, too
			}
		})
	}

	c.Stop = sync.OnceValue(func() int {
		cancel()
		running.Wait()

		if c.failed > 0 {
			t.Errorf("%s: %d of %d calls failed, want none; the first error: %v",
				name, c.failed, c.calls, c.first)
		}

		return c.calls
	})

	t.Cleanup(func() { c.Stop() })

	return c
}

func (c *Caller) call(call Call) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	server, err := call(ctx)

	c.mu.Lock()
	defer c.mu.Unlock()

	c.calls++
	c.recent[server]++

	if err != nil {
		c.failed++
		c.first = cmp.Or(c.first, err)
	}
}

// More waits until n more calls have ended.
func (c *Caller) More(n int) {
	c.t.Helper()

	c.mu.Lock()
	target := c.calls + n
	c.mu.Unlock()

	complaint := func() string {
		return fmt.Sprintf("has ended %d of %d calls", c.calls, target)
	}
	c.await(complaint, func() bool { return c.calls >= target })
}

// Reaches waits until the calls of a round reach exactly these servers. A round
// has at least 20 calls for each server, enough for a policy that picks at
// random.
func (c *Caller) Reaches(names ...string) {
	c.t.Helper()

	slices.Sort(names)

	var got []string

	start := -1 // the number of calls before this round, -1 before the first
	complaint := func() string {
		return fmt.Sprintf("reached %q in the last round, want %q", got, names)
	}

	c.await(complaint, func() bool {
		if start >= 0 && c.calls < start+20*len(names) {
			return false
		}

		got = slices.Sorted(maps.Keys(c.recent))
		done := start >= 0 && slices.Equal(got, names)
		start = c.calls
		c.recent = make(map[string]int)

		return done
	})
}

// await polls until ok returns true, or fails the test with a complaint. It
// holds mu while it calls ok or complaint.
func (c *Caller) await(complaint func() string, ok func() bool) {
	c.t.Helper()

	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()

	for deadline := time.Now().Add(patience); ; <-tick.C {
		c.mu.Lock()
		done := ok()
		text := ""
		if !done && time.Now().After(deadline) {
			text = complaint()
		}

		c.mu.Unlock()

		switch {
		case done:
			return
		case text != "":
			c.t.Fatalf("after %v, %s %s", patience, c.Name, text)
		}
	}
}
