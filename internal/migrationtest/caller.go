package migrationtest

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

// caller makes calls until it is stopped.
type caller struct {
	t    *testing.T
	kind *kind
	stop func()

	mu     sync.Mutex
	made   counts
	recent map[string]int // calls by server, since the last reset
}

// counts are the calls of a caller.
type counts struct {
	calls, failed int
	first         error
}

func newCaller(t *testing.T, k *kind) *caller {
	t.Helper()
	c := &caller{t: t, kind: k, recent: make(map[string]int)}
	call, hangUp := k.Dial()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range atOnce {
		running.Go(func() {
			for ctx.Err() == nil {
				c.call(call)
				time.Sleep(2 * time.Millisecond) // leaves processors to parallel tests
			}
		})
	}
	c.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		hangUp()
	})
	t.Cleanup(c.stop)
	return c
}

func (c *caller) call(call Call) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	server, err := call(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made.calls++
	if err != nil {
		c.made.failed++
		c.made.first = cmp.Or(c.made.first, err)
	}
	c.recent[server]++
}

func (c *caller) counts() counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made
}

// reaches waits until consecutive calls reach exactly these servers: enough calls for a policy that picks at random.
func (c *caller) reaches(names []string) {
	c.t.Helper()
	var got []string
	start := c.counts().calls
	eventually(c.t, func() string {
		return fmt.Sprintf("the %s caller reaches %q, but last reached %q", c.kind.name, names, got)
	}, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.made.calls < start+20*len(names) {
			return false
		}
		got = slices.Sorted(maps.Keys(c.recent))
		start, c.recent = c.made.calls, make(map[string]int)
		return slices.Equal(got, names)
	})
}
