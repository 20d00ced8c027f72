// Command soak injects storms of random faults into an etcd of three members
// and ten servers, while twenty clients make calls. Clients retry UNAVAILABLE,
// and at least three servers run throughout a storm. Soak fails if
//
//   - a call fails,
//   - after a storm, etcd or a client does not know exactly the running servers,
//     or a client does not reach one,
//   - a key, lease, goroutine or file descriptor remains at the end.
//
// A seed gives the same faults at the same times of each storm. Unlike in
// module simulation, the network and the clock are real.
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
	duration := flag.Duration("duration", 2*time.Minute,
		"how long to start storms; the last storm is finished")
	seed := flag.Uint64("seed", 0, "seed of the faults; 0: a random seed")
	flag.Parse()

	if *seed == 0 {
		*seed = rand.Uint64N(1_000_000) + 1
	}

	w := &world{start: time.Now()}
	w.logf("seed %d, for %v", *seed, *duration)

	s := &storms{rng: rand.New(rand.NewPCG(*seed, 0))}
	if err := w.run(s, *duration); err != nil {
		w.logf("FAILED with seed %d: %v", *seed, err)
		os.Exit(1)
	}

	w.logf("PASSED with seed %d: %d calls, none failed", *seed, w.calls.Load())
}

// world holds the etcd, the servers and the clients.
type world struct {
	etcd    *etcdtest.Cluster
	servers [servers]server
	clients []*client
	calls   atomic.Int64
	start   time.Time

	violated context.CancelCauseFunc // ends the soak with a violation as the cause
}

// run runs the soak and returns the first violation, or nil.
func (w *world) run(s *storms, duration time.Duration) error {
	goroutines := goleak.IgnoreCurrent()
	files := openFiles()

	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	w.etcd, err = etcdtest.New(dir, etcdtest.WithMembers(members))
	if err != nil {
		return err
	}

	err = cmp.Or(w.soak(s, duration), w.end())
	w.etcd.Close()

	if err != nil {
		return err
	}

	if more := openFiles() - files; more > 0 {
		err = fmt.Errorf("%d more file descriptors than at the start, want no more", more)
	}

	return errors.Join(err, goleak.Find(goroutines))
}

// soak starts the servers and the clients, and runs storms until duration is
// over. It waits for calm after each storm.
func (w *world) soak(s *storms, duration time.Duration) error {
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
		w.storm(ctx, s.next())
		w.note(w.calm(ctx))
	}

	return context.Cause(ctx)
}

// note ends the soak if err, a violation, is not nil.
func (w *world) note(err error) {
	if err != nil {
		w.violated(err)
	}
}

// storm injects each fault at its time, and returns when all faults are over.
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

// apply injects one fault and waits until the fault is over. An error is a
// violation.
func (w *world) apply(ctx context.Context, f fault) (err error) {
	switch f.kind {
	case cut:
		w.forAWhile(ctx, f, (*etcdtest.Member).Cut, (*etcdtest.Member).Restore)
	case pause:
		w.forAWhile(ctx, f, (*etcdtest.Member).Pause, (*etcdtest.Member).Resume)

	case halt:
		w.forAWhile(ctx, f, (*etcdtest.Member).Stop, func(m *etcdtest.Member) {
			err = errors.Join(err, m.Restart())
		})

	case wipe:
		err = w.etcd.Wipe()
	case compact, revoke, remove:
		w.meddle(ctx, f)
	case kill:
		w.servers[f.on[0]].kill()
	case drain:
		// fails if another fault keeps etcd from deleting the key
		_ = w.servers[f.on[0]].drain()
	default:
		err = w.servers[f.on[0]].start(w.etcd.Config(), f.kind == move)
	}

	return err
}

func (w *world) forAWhile(
	ctx context.Context,
	f fault,
	begin, end func(*etcdtest.Member),
) {
	for _, i := range f.on {
		begin(w.etcd.Member(i))
	}

	sleep(ctx, f.lasts)

	for _, i := range f.on {
		end(w.etcd.Member(i))
	}
}

// meddle does what an operator might do by hand in etcd. It ignores errors.
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

// logf prints a line with the time since the start.
func (w *world) logf(format string, args ...any) {
	fmt.Printf("%10v  %s\n", time.Since(w.start).Round(time.Millisecond),
		fmt.Sprintf(format, args...))
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// openFiles returns the number of open file descriptors of this process, or 0
// on systems without /proc/self/fd.
func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}
