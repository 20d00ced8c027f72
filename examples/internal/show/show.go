// Package show has the common parts of the examples: an etcd, servers that
// answer with their names, output, and waits that fail if an expected change
// does not happen.
package show

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// patience is the longest wait for a change, which should take a moment.
const patience = 15 * time.Second

// Example is one of the examples.
type Example struct {
	Name string // the directory of the example
	Play func(context.Context, *Stage) error
}

// Run runs the example on an etcd of its own and prints to out.
func (e Example) Run(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	etcd, err := etcdtest.New(dir)
	if err != nil {
		return err
	}
	defer etcd.Close()

	s := &Stage{Etcd: etcd, Dir: dir, out: out}
	defer func() { err = errors.Join(err, s.close()) }()

	return e.Play(ctx, s)
}

// Stage is the environment of an example. Its methods are for one goroutine.
type Stage struct {
	Etcd *etcdtest.Cluster
	Dir  string // removed after the example

	out     io.Writer
	closers []func() error // run in reverse order
}

// Say prints a line.
func (s *Stage) Say(format string, args ...any) {
	fmt.Fprintf(s.out, format+"\n", args...)
}

// Registry returns a registry with its own etcd client, as a process has it.
// Both are closed after the example.
func (s *Stage) Registry() (*runtime.Registry, error) {
	client, err := clientv3.New(s.Etcd.Config())
	if err != nil {
		return nil, fmt.Errorf("connect to etcd: %w", err)
	}

	s.Later(client.Close)

	quiet := &slog.HandlerOptions{Level: slog.LevelError}
	registry := runtime.NewRegistry(client,
		runtime.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, quiet))))
	s.Later(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()

		return registry.Close(ctx)
	})

	return registry, nil
}

// Later registers do for the end of the example.
func (s *Stage) Later(do func() error) {
	s.closers = append(s.closers, do)
}

func (s *Stage) close() error {
	var errs []error
	for _, do := range slices.Backward(s.closers) {
		errs = append(errs, do())
	}

	return errors.Join(errs...)
}

// Until waits until ok returns true, for at most 15 s. An error of ok ends the
// wait, except at its timeout.
func Until(
	ctx context.Context,
	what string,
	ok func(context.Context) (bool, error),
) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience,
		fmt.Errorf("timeout after %v", patience))
	defer cancel()

	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()

	for {
		done, err := ok(ctx)
		if done || err != nil && ctx.Err() == nil {
			return err
		}

		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, want: %s", context.Cause(ctx), what)
		case <-poll.C:
		}
	}
}

// Load is a caller that calls without a pause. None of its calls may fail.
type Load struct {
	// ends the load and returns the errors of failed calls; later calls return
	// the same errors
	Stop func() error

	mu     sync.Mutex
	calls  int
	shares map[string]int // the answers of each server since the latest call of take
	err    error          // the errors of failed calls
}

// Load starts calls, until Stop or the end of the example.
func (s *Stage) Load(ctx context.Context, client greeterv1.GreeterServiceClient) *Load {
	l := &Load{shares: make(map[string]int)}
	ctx, cancel := context.WithCancel(ctx)

	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			// calls under way finish by themselves
			l.call(context.WithoutCancel(ctx), client)
		}
	})

	l.Stop = sync.OnceValue(func() error {
		cancel()
		running.Wait()
		_, err := l.take()

		return err
	})

	s.Later(l.Stop)

	return l
}

func (l *Load) call(ctx context.Context, client greeterv1.GreeterServiceClient) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	reply, err := client.SayHello(ctx, &greeterv1.SayHelloRequest{Name: "world"})
	l.mu.Lock()
	defer l.mu.Unlock()

	l.calls++
	if err != nil {
		l.err = errors.Join(l.err, fmt.Errorf("call %d: %w", l.calls, err))
		return
	}

	l.shares[reply.GetServer()]++
}

func (l *Load) take() (map[string]int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	shares := l.shares
	l.shares = make(map[string]int)

	return shares, l.err
}

// Total returns the number of calls so far.
func (l *Load) Total() int {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.calls
}

// Reach waits until exactly these servers answer the calls made within 50 ms.
func (s *Stage) Reach(ctx context.Context, calls *Load, servers ...string) error {
	reached := func(ctx context.Context) (bool, error) {
		if _, err := calls.take(); err != nil {
			return false, err
		}

		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}

		shares, err := calls.take()
		missing := slices.ContainsFunc(servers, func(server string) bool {
			return shares[server] == 0
		})

		return !missing && len(shares) == len(servers), err
	}

	return Until(ctx, fmt.Sprintf("calls reach %v", servers), reached)
}
