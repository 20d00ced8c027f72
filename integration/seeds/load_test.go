package seeds

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// pause follows a call that is not counted, and leaves the processors to callers whose calls are.
const pause = 10 * time.Millisecond

// load makes calls all the time. None may fail.
type load struct {
	w    *world
	name string
	stop func()
	busy atomic.Bool // calls are counted and made without a pause

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
	l.busy.Store(true)
	defer l.busy.Store(false)
	var got []string
	from := -1 // earlier calls belong to another fleet
	l.w.eventuallyOr(func() string { return fmt.Sprintf("%s reaches %v: last %v", l.name, names, got) }, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if from >= 0 && l.calls < from+50 {
			return false
		}
		got = slices.Sorted(maps.Keys(l.counts))
		done := from >= 0 && slices.Equal(got, names)
		from, l.counts = l.calls, map[string]int{}
		return done
	})
}
