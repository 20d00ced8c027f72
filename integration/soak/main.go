// Command soak injects random faults into an etcd of three members, ten servers and twenty clients
// that call without a pause. It fails if a call fails. It fails if, after a storm of faults, etcd or a
// client does not have exactly the running servers, or a client does not reach each of them. It fails if
// a key, lease, goroutine or file descriptor is left at the end. Clients retry UNAVAILABLE, and three
// servers that every client knows always run.
//
// The simulation checks more, in virtual time. Here the network, the clock and the file descriptors are real.
// A seed gives the same faults at the same times after the start of each storm.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/goleak"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

func main() {
	duration := flag.Duration("duration", 2*time.Minute, "how long to go on; the storm at that time is brought to its end")
	seed := flag.Uint64("seed", 0, "which faults to have; 0 chooses a seed")
	flag.Parse()
	if *seed == 0 {
		*seed = rand.Uint64N(1_000_000) + 1
	}
	w := &world{start: time.Now()}
	w.logf("seed %d, for %v", *seed, *duration)
	if err := w.run(newPlan(*seed), *duration); err != nil {
		w.logf("FAILED with seed %d: %v", *seed, err)
		os.Exit(1)
	}
	w.logf("PASSED with seed %d: %d calls, none failed", *seed, w.calls.Load())
}

// world holds everything that runs.
type world struct {
	etcd    *etcdtest.Cluster
	servers [servers]server
	clients []*client
	calls   atomic.Int64
	start   time.Time

	violated context.CancelCauseFunc // with the violation as cause
}

// run runs storms until the time is over and returns the violation, or nil.
func (w *world) run(plan *plan, duration time.Duration) error {
	goroutines, files := goleak.IgnoreCurrent(), openFiles()
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if w.etcd, err = etcdtest.New(dir, etcdtest.WithMembers(members)); err != nil {
		return err
	}
	err = cmp.Or(w.soak(plan, duration), w.end())
	w.etcd.Close()
	if err != nil {
		return err
	}
	if more := openFiles() - files; more > 0 {
		err = fmt.Errorf("%d more file descriptors than at the start", more)
	}
	return errors.Join(err, goleak.Find(goroutines))
}

// soak starts the servers, then the clients, and runs storms with a calm after each.
func (w *world) soak(plan *plan, duration time.Duration) error {
	ctx, violated := context.WithCancelCause(context.Background())
	w.violated = violated
	var callers sync.WaitGroup
	defer callers.Wait()
	defer violated(nil)
	for i := range w.servers {
		w.note(w.servers[i].start(w.etcd.Config(), true))
	}
	for i := range clients {
		c, err := newClient(i, w.etcd.Config())
		if err != nil {
			return err
		}
		w.clients = append(w.clients, c)
	}
	w.note(w.calm(ctx))
	for _, c := range w.clients {
		callers.Go(func() { w.note(c.call(ctx, &w.calls)) })
	}
	for ctx.Err() == nil && time.Since(w.start) < duration {
		w.storm(ctx, plan.next())
		w.note(w.calm(ctx))
	}
	return context.Cause(ctx)
}

// note records a violation. The first one ends the soak.
func (w *world) note(err error) {
	if err != nil {
		w.violated(err)
	}
}

// storm injects the faults and returns when all of them are over.
func (w *world) storm(ctx context.Context, faults []fault) {
	began := time.Now()
	var all sync.WaitGroup
	defer all.Wait()
	for _, f := range faults {
		sleep(ctx, time.Until(began.Add(f.after)))
		if ctx.Err() != nil {
			return
		}
		w.logf("  %v", f)
		all.Go(func() { w.note(w.apply(ctx, f)) })
	}
}

// apply injects one fault and waits for its end. An error is a violation.
func (w *world) apply(ctx context.Context, f fault) (err error) {
	switch f.kind {
	case cut:
		w.forAWhile(ctx, f, (*etcdtest.Member).Cut, (*etcdtest.Member).Restore)
	case pause:
		w.forAWhile(ctx, f, (*etcdtest.Member).Pause, (*etcdtest.Member).Resume)
	case halt:
		w.forAWhile(ctx, f, (*etcdtest.Member).Stop, func(m *etcdtest.Member) { err = errors.Join(err, m.Restart()) })
	case wipe:
		err = w.etcd.Wipe()
	case compact, revoke, remove:
		w.meddle(ctx, f)
	case kill:
		w.servers[f.on[0]].kill()
	case drain:
		_ = w.servers[f.on[0]].drain() // other faults may keep its key in etcd
	default:
		err = w.servers[f.on[0]].start(w.etcd.Config(), f.kind == move)
	}
	return err
}

func (w *world) forAWhile(ctx context.Context, f fault, begin, end func(*etcdtest.Member)) {
	for _, i := range f.on {
		begin(w.etcd.Member(i))
	}
	sleep(ctx, f.lasts)
	for _, i := range f.on {
		end(w.etcd.Member(i))
	}
}

// meddle applies an operator's manual change. Errors from etcd are ignored.
func (w *world) meddle(ctx context.Context, f fault) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if f.kind == compact {
		_, _ = w.etcd.Compact(ctx)
		return
	}
	for _, i := range f.on {
		l := w.servers[i].current.Load()
		if l == nil {
			continue
		}
		for _, status := range l.server.Status() {
			if f.kind == revoke {
				_, _ = w.etcd.Admin().Revoke(ctx, status.LeaseID)
			} else {
				_, _ = w.etcd.Admin().Delete(ctx, prefix+l.addr)
			}
		}
	}
}

// logf prints a line.
func (w *world) logf(format string, args ...any) {
	fmt.Printf("%10v  %s\n", time.Since(w.start).Round(time.Millisecond), fmt.Sprintf(format, args...))
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// openFiles returns the number of this process's file descriptors, or 0 on systems that do not list them.
func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}
