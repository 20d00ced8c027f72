package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
)

// closeBound is how long a client may take to close: it has nothing in etcd to wait for.
const closeBound = time.Second

// end stops everything in order and checks that nothing of it is left in etcd.
func (w *world) end() error {
	errs := []error{w.endClients()}
	for _, s := range w.servers {
		w.ending.Go(func() {
			if err := s.drain(); err != nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	w.ending.Wait()
	errs = append(errs, w.leftInEtcd())
	w.etcd.Close()
	w.figures.calls, w.figures.slowest = w.load.calls.Load(), time.Duration(w.load.slowest.Load())
	if err := errors.Join(errs...); err != nil {
		return w.explain(fmt.Errorf("at the end: %w", err))
	}
	return nil
}

// abandon stops everything after a violation.
func (w *world) abandon() {
	_ = w.endClients() // there is a violation to report already
	for _, s := range w.servers {
		if s != nil {
			s.kill()
		}
	}
	w.ending.Wait()
	w.etcd.Close()
}

func (w *world) endClients() error {
	w.stop()
	w.running.Wait()
	errs := make([]error, len(w.clients))
	var closing sync.WaitGroup
	for i, c := range w.clients {
		closing.Go(func() {
			began := time.Now()
			errs[i] = c.close()
			if took := time.Since(began); took > closeBound {
				errs[i] = errors.Join(errs[i], fmt.Errorf("client %d took %v to close, more than %v", i, took, closeBound))
			}
		})
	}
	closing.Wait()
	return errors.Join(errs...)
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

// stock is what the process has open.
type stock struct {
	goroutines goleak.Option
	files      map[string]int
}

func takeStock() (stock, error) {
	files, err := openFiles()
	return stock{goleak.IgnoreCurrent(), files}, err
}

// compare tells what there is more of than at the start.
func (s stock) compare() error {
	var errs []error
	if err := goleak.Find(s.goroutines); err != nil {
		errs = append(errs, err)
	}
	files, err := openFiles()
	errs = append(errs, err)
	for name, n := range files {
		if n > s.files[name] {
			errs = append(errs, fmt.Errorf("%d file descriptors more than at the start: %s", n-s.files[name], name))
		}
	}
	return errors.Join(errs...)
}

// openFiles counts this process's file descriptors by what they are. Where the system does not tell,
// there are none.
func openFiles() (map[string]int, error) {
	const dir = "/proc/self/fd"
	files := make(map[string]int)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return files, nil
	}
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if name, err := os.Readlink(dir + "/" + entry.Name()); err == nil { // else it was dir's own
			files[name]++
		}
	}
	return files, nil
}

// figures are what a soak measures: counts, and the worst of each time.
type figures struct {
	storms  int
	faults  [kinds]int
	calls   int64
	slowest time.Duration

	back, converged, gone, reached time.Duration
}

func (f *figures) print(out io.Writer) {
	fmt.Fprintf(out, "\n%d storms:", f.storms)
	for k, n := range f.faults {
		fmt.Fprintf(out, " %d %v,", n, kind(k))
	}
	fmt.Fprintf(out, "\n%d calls, none failed, the slowest took %v\n", f.calls, f.slowest.Round(time.Millisecond))
	fmt.Fprintf(out, "at the worst, after a storm: servers registered %v, clients converged %v, dead keys gone %v, connections exact %v later\n",
		f.back.Round(time.Millisecond), f.converged.Round(time.Millisecond), f.gone.Round(time.Millisecond), f.reached.Round(time.Millisecond))
}

// report adds the figures to those of the fault tests.
func (f *figures) report() error {
	faults := 0
	for _, n := range f.faults {
		faults += n
	}
	return errors.Join(
		report.Write(report.Figure{Row: "soak", Label: "faults", Value: fmt.Sprint(faults)}),
		report.Write(report.Figure{Row: "soak", Label: "calls", Value: fmt.Sprint(f.calls)}),
		report.Write(report.Figure{Row: "soak", Label: "failed calls", Value: "0"}),
		report.Write(report.Figure{Row: "soak", Label: "all servers registered after a storm, at the worst", Value: f.back.Round(time.Millisecond).String()}),
		report.Write(report.Figure{Row: "soak", Label: "all clients converged after a storm, at the worst", Value: f.converged.Round(time.Millisecond).String()}),
	)
}
