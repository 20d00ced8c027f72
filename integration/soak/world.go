package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// prefix is what the keys of the endpoints begin with.
var prefix = basic.Greeter_EtcdServiceDesc.Key + "/"

// world is everything that runs.
type world struct {
	etcd    *etcdtest.Cluster
	logger  *slog.Logger
	servers [servers]*server
	clients []*client
	start   time.Time

	violated context.CancelCauseFunc // with what is violated
	callers  sync.WaitGroup
	stormy   atomic.Bool // etcd has not been whole all the time since the storm began

	faults          int
	calls           atomic.Int64
	back, converged time.Duration // the worst
}

func newWorld(dir string, verbose bool) (*world, error) {
	var out io.Writer = io.Discard
	if verbose {
		out = os.Stderr
	}
	w := &world{logger: slog.New(slog.NewTextHandler(out, nil)), start: time.Now()}
	for i := range w.servers {
		w.servers[i] = &server{index: i, logger: w.logger.With("server", i)}
	}
	etcd, err := etcdtest.New(dir, etcdtest.WithMembers(members))
	w.etcd = etcd
	return w, err
}

// soak has storms, with a calm after each, until the time is over.
func (w *world) soak(ctx context.Context, seed uint64, duration time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer w.callers.Wait()
	defer cancel(nil)
	w.violated = cancel
	if err := w.begin(ctx); err != nil {
		return err
	}
	plan := newPlan(seed)
	for n := 1; time.Since(w.start) < duration; n++ {
		w.say("storm %d", n)
		w.storm(ctx, plan.next())
		if err := w.calm(ctx); err != nil {
			w.violated(err) // unless something was before, which is why
			return fmt.Errorf("violated after %v: %w", time.Since(w.start), context.Cause(ctx))
		}
	}
	return nil
}

// begin starts the servers, then the clients, waits for everyone to know everyone, and has the clients call.
func (w *world) begin(ctx context.Context) error {
	for _, s := range w.servers {
		if err := s.start(w.etcd.Config(), true); err != nil {
			return err
		}
	}
	for i := range clients {
		c, err := newClient(i, w.etcd.Config(), w.logger)
		if err != nil {
			return err
		}
		w.clients = append(w.clients, c)
	}
	if err := w.calm(ctx); err != nil {
		return err
	}
	w.back, w.converged = 0, 0 // to start is no fault
	for _, c := range w.clients {
		w.callers.Go(func() {
			if err := c.call(ctx, &w.calls); err != nil {
				w.violated(err)
			}
		})
	}
	return nil
}

// storm has the faults happen, and returns when all of them are over.
func (w *world) storm(ctx context.Context, faults []fault) {
	w.stormy.Store(slices.ContainsFunc(faults, func(f fault) bool { return f.kind <= wipe }))
	began := time.Now()
	var all sync.WaitGroup
	defer all.Wait()
	for _, f := range faults {
		sleep(ctx, time.Until(began.Add(f.after)))
		if ctx.Err() != nil {
			return
		}
		w.say("  %v", f)
		w.faults++
		all.Go(func() {
			if err := w.apply(ctx, f); err != nil {
				w.violated(err)
			}
		})
	}
}

// apply has one fault happen, to its end. An error is a violation.
func (w *world) apply(ctx context.Context, f fault) error {
	switch f.kind {
	case cut:
		return w.forAWhile(ctx, f, (*etcdtest.Member).Cut, succeeds((*etcdtest.Member).Restore))
	case pause:
		return w.forAWhile(ctx, f, (*etcdtest.Member).Pause, succeeds((*etcdtest.Member).Resume))
	case halt:
		return w.forAWhile(ctx, f, (*etcdtest.Member).Stop, (*etcdtest.Member).Restart)
	case wipe:
		return w.etcd.Wipe()
	case compact, revoke, remove:
		w.meddle(ctx, f)
		return nil
	}
	s := w.servers[f.on[0]]
	switch f.kind {
	case kill:
		s.kill()
	case drain:
		if err := s.drain(); !w.stormy.Load() {
			return err
		} // else it could not take its key out
	default:
		return s.start(w.etcd.Config(), f.kind == move)
	}
	return nil
}

func succeeds(do func(*etcdtest.Member)) func(*etcdtest.Member) error {
	return func(m *etcdtest.Member) error {
		do(m)
		return nil
	}
}

func (w *world) forAWhile(ctx context.Context, f fault, begin func(*etcdtest.Member), end func(*etcdtest.Member) error) (err error) {
	for _, i := range f.on {
		begin(w.etcd.Member(i))
	}
	sleep(ctx, f.lasts)
	for _, i := range f.on {
		err = errors.Join(err, end(w.etcd.Member(i)))
	}
	return err
}

// meddle does by hand what an operator could. etcd may be unable to: then that is so.
func (w *world) meddle(ctx context.Context, f fault) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if f.kind == compact {
		_, _ = w.etcd.Compact(ctx)
		return
	}
	for _, i := range f.on {
		l := w.servers[i].life.Load()
		switch {
		case l == nil:
		case f.kind == remove:
			_, _ = w.etcd.Admin().Delete(ctx, prefix+l.addr)
		default:
			for _, status := range l.server.Status() {
				_, _ = w.etcd.Admin().Revoke(ctx, status.LeaseID)
			}
		}
	}
}

// end stops everything in order and checks that nothing of it is left in etcd.
func (w *world) end() error {
	errs := make(chan error, servers)
	for _, s := range w.servers {
		go func() { errs <- s.drain() }()
	}
	err := w.eachClient((*client).close)
	for range servers {
		err = errors.Join(err, <-errs)
	}
	err = errors.Join(err, w.leftInEtcd())
	w.etcd.Close()
	return err
}

// abandon stops everything after a violation.
func (w *world) abandon() {
	for _, s := range w.servers {
		s.kill()
	}
	_ = w.eachClient((*client).close) // there is a violation to report already
	w.etcd.Close()
}

func (w *world) leftInEtcd() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	keys, err := w.etcd.Admin().Get(ctx, "", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	leases, err := w.etcd.Admin().Leases(ctx)
	if err != nil {
		return err
	}
	if len(keys.Kvs)+len(leases.Leases) > 0 {
		return fmt.Errorf("left in etcd: keys %v, leases %v", keys.Kvs, leases.Leases)
	}
	return nil
}

// report prints the figures.
func (w *world) report() {
	fmt.Printf("%d faults, %d calls; all servers registered %v, and all clients converged %v after a storm, at the worst\n",
		w.faults, w.calls.Load(), w.back.Round(time.Millisecond), w.converged.Round(time.Millisecond))
}

// say prints a line.
func (w *world) say(format string, args ...any) {
	fmt.Printf("%10v  %s\n", time.Since(w.start).Round(time.Millisecond), fmt.Sprintf(format, args...))
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// stock is what the process has open.
type stock struct {
	goroutines goleak.Option
	files      int
}

func takeStock() stock { return stock{goleak.IgnoreCurrent(), openFiles()} }

// compare tells what there is more of than at the start.
func (s stock) compare() error {
	err := goleak.Find(s.goroutines)
	if more := openFiles() - s.files; more > 0 {
		err = errors.Join(err, fmt.Errorf("%d file descriptors more than at the start", more))
	}
	return err
}

// openFiles counts this process's file descriptors. Where the system does not tell, there are none.
func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}
