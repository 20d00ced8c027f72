package seeds

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// pause is how long a caller waits after a call that is not counted, to leave the processors to callers whose calls are.
const pause = 10 * time.Millisecond

// load makes calls all the time, none of which may fail.
type load struct {
	w    *world
	name string
	stop func()
	busy atomic.Bool // calls are counted, and made without a pause

	mu       sync.Mutex
	calls    int
	counts   map[string]int // by server, since the last reset
	failures int
	failed   error // the first
}

// load starts two callers on a connection. Stop them before the last server.
func (w *world) load(name string, conn grpc.ClientConnInterface) *load {
	l := &load{w: w, name: name, counts: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			for ctx.Err() == nil {
				l.call(conn)
				if !l.busy.Load() {
					time.Sleep(pause)
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if l.failed != nil {
			w.t.Errorf("%s: %d of %d calls failed, the first with %v", name, l.failures, l.calls, l.failed)
		}
	})
	w.t.Cleanup(l.stop)
	return l
}

func (l *load) call(conn grpc.ClientConnInterface) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	server, err := sayHello(ctx, conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failures++
		l.failed = cmp.Or(l.failed, err)
	}
	l.calls++
	l.counts[server]++
}

// reaches waits until calls reach exactly the named servers.
func (l *load) reaches(names ...string) {
	l.w.t.Helper()
	slices.Sort(names)
	var got map[string]int
	l.w.eventuallyOr(func() string { return fmt.Sprintf("%s reaches %v: last %v", l.name, names, got) }, func() bool {
		got = l.during(50)
		if len(got) != len(names) {
			return false
		}
		for _, name := range names {
			if got[name] == 0 {
				return false
			}
		}
		return true
	})
}

// during returns how many of the next n calls each server answered.
func (l *load) during(n int) map[string]int {
	l.busy.Store(true)
	defer l.busy.Store(false)
	l.mu.Lock()
	l.counts = map[string]int{}
	until := l.calls + n
	l.mu.Unlock()
	var got map[string]int
	l.w.eventually(fmt.Sprintf("%s makes %d calls", l.name, n), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.calls < until {
			return false
		}
		got = l.counts
		l.counts = map[string]int{}
		return true
	})
	return got
}

// judgedCalls is the least number of calls that shares are judged by, and judgedSlack by how many calls a server may miss
// its exact share. Four are for the calls of the two callers that are under way when counting begins and ends, and four for
// the order in which a policy takes turns; smooth weighted round robin needs one.
const judgedCalls, judgedSlack = 400, 8

// shares waits until calls are shared roughly by weight, and then compares the next ones with the exact shares.
func (l *load) shares(step string, weights map[string]int) {
	l.w.t.Helper()
	var got map[string]int
	l.w.eventuallyOr(func() string {
		return fmt.Sprintf("%s: %s shares its calls by %v: last %v", step, l.name, weights, got)
	}, func() bool {
		got = l.during(100)
		return farthest(got, weights) <= total(got)/10
	})
	got = l.during(judgedCalls)
	off := farthest(got, weights)
	l.w.t.Logf("%s: %s: of %d calls %v, %d off", step, l.name, total(got), got, off)
	if off > judgedSlack {
		l.w.t.Errorf("that is more than %d off the shares by weights of %v", judgedSlack, weights)
	}
}

// farthest returns by how many calls a server misses its share at most. A server without a weight must get no calls.
func farthest(got, weights map[string]int) (most int) {
	sum, all := total(weights), total(got)
	for name := range got {
		if weights[name] == 0 {
			return all
		}
	}
	for name, weight := range weights {
		off := got[name]*sum - weight*all
		most = max(most, (max(off, -off)+sum-1)/sum)
	}
	return most
}

func total(counts map[string]int) (sum int) {
	for _, n := range counts {
		sum += n
	}
	return sum
}
