package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// world is everything that runs.
type world struct {
	etcd    *etcdtest.Cluster
	logger  *slog.Logger
	servers [servers]*server
	clients []*client
	start   time.Time
	figures figures
	load    load

	violated context.CancelCauseFunc // with what is violated
	stop     context.CancelFunc      // ends the callers
	running  sync.WaitGroup          // callers and watches
	ending   sync.WaitGroup          // what is left of servers that ended

	stormy atomic.Bool // etcd has not been whole all the time since the storm began

	mu      sync.Mutex
	said    []string            // the last lines
	retired map[string]struct{} // the addresses of servers that ended
}

func newWorld(dir string, verbose bool) (*world, error) {
	var out io.Writer = io.Discard
	if verbose {
		out = os.Stderr
	}
	w := &world{logger: slog.New(slog.NewTextHandler(out, nil)), retired: make(map[string]struct{}), stop: func() {}}
	etcd, err := etcdtest.New(dir, etcdtest.WithMembers(members))
	if err != nil {
		return nil, err
	}
	w.etcd = etcd
	w.start = time.Now()
	return w, nil
}

// begin starts the servers, then the clients, and waits for everyone to know everyone.
func (w *world) begin(ctx context.Context) error {
	for i := range w.servers {
		w.servers[i] = &server{index: i, logger: w.logger.With("server", i), ending: &w.ending}
		if err := w.servers[i].start(w.etcd.Config(), true); err != nil {
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
	following, stop := context.WithCancel(ctx)
	w.stop = stop
	if err := w.calm(ctx); err != nil {
		return w.explain(err)
	}
	w.figures = figures{} // to start is no fault
	for _, c := range w.clients {
		w.running.Go(func() {
			if err := c.call(following, &w.load); err != nil {
				w.violated(fmt.Errorf("at %v: %w", w.at(), err))
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
		select {
		case <-time.After(time.Until(began.Add(f.after))):
		case <-ctx.Done():
			return
		}
		w.say("  %v", f)
		w.figures.faults[f.kind]++
		all.Go(func() {
			if err := w.apply(ctx, f); err != nil {
				w.violated(fmt.Errorf("at %v: %w", w.at(), err))
			}
		})
	}
}

// apply has one fault happen, to its end. An error is a violation.
func (w *world) apply(ctx context.Context, f fault) error {
	switch f.kind {
	case cut:
		w.forAWhile(ctx, f, (*etcdtest.Member).Cut, (*etcdtest.Member).Restore)
	case pause:
		w.forAWhile(ctx, f, (*etcdtest.Member).Pause, (*etcdtest.Member).Resume)
	case halt:
		var errs []error
		w.forAWhile(ctx, f, (*etcdtest.Member).Stop, func(m *etcdtest.Member) { errs = append(errs, m.Restart()) })
		return errors.Join(errs...)
	case wipe:
		return w.etcd.Wipe()
	case compact, revoke, remove:
		w.meddle(ctx, f)
	default:
		return w.onServer(f)
	}
	return nil
}

func (w *world) forAWhile(ctx context.Context, f fault, begin, end func(*etcdtest.Member)) {
	for _, i := range f.on {
		begin(w.etcd.Member(i))
	}
	select {
	case <-time.After(f.lasts):
	case <-ctx.Done():
	}
	for _, i := range f.on {
		end(w.etcd.Member(i))
	}
	w.say("  %v is over", f.kind)
}

// meddle does by hand what an operator could. etcd may be unable to: then that is so.
func (w *world) meddle(ctx context.Context, f fault) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	admin := w.etcd.Admin()
	var err error
	if f.kind == compact {
		_, err = w.etcd.Compact(ctx)
	}
	for _, i := range f.on {
		_, addr := w.servers[i].current()
		if f.kind == remove {
			_, err = admin.Delete(ctx, prefix+addr)
			continue
		}
		var got *clientv3.GetResponse
		if got, err = admin.Get(ctx, prefix+addr); err != nil || len(got.Kvs) == 0 {
			continue
		}
		_, err = admin.Revoke(ctx, clientv3.LeaseID(got.Kvs[0].Lease))
	}
	if err != nil {
		w.say("  %v: %v", f.kind, err)
	}
}

func (w *world) onServer(f fault) error {
	s := w.servers[f.on[0]]
	s.starting.Lock()
	defer s.starting.Unlock()
	_, addr := s.current()
	switch f.kind {
	case kill:
		s.kill()
		w.retire(addr, true)
	case drain:
		err := s.drain()
		w.retire(addr, true)
		if !w.stormy.Load() {
			return err
		} // else it could not take its key out
	case launch:
		if err := s.start(w.etcd.Config(), f.moved); err != nil {
			return err
		}
		_, addr := s.current()
		w.retire(addr, false)
	}
	return nil
}

// retire notes whether an address is one of the past.
func (w *world) retire(addr string, past bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if past {
		w.retired[addr] = struct{}{}
	} else {
		delete(w.retired, addr)
	}
}

// at is the time since the start.
func (w *world) at() time.Duration { return time.Since(w.start).Round(time.Millisecond) }

// say prints a line, and keeps it for explain.
func (w *world) say(format string, args ...any) {
	line := fmt.Sprintf("%10v  %s", w.at(), fmt.Sprintf(format, args...))
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Println(line)
	w.said = append(w.said[max(0, len(w.said)-40):], line)
}

// explain adds the last faults to a violation.
func (w *world) explain(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Errorf("violated: %w\nWhat came before:\n%s", err, strings.Join(w.said, "\n"))
}

// prefix is what the keys of the endpoints begin with.
var prefix = basic.Greeter_EtcdServiceDesc.Key + "/"
