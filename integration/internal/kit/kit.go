// Package kit holds helpers for tests on real etcd: for deadlines, waiting,
// servers, logs and registries.
package kit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/porttest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Soon is how long tests wait for changes that should happen at once. It is
// long because machines may be busy.
const Soon = time.Minute

// Insecure is the dial option for connections without TLS.
var Insecure = grpc.WithTransportCredentials(insecure.NewCredentials())

// Context returns a context that ends after Soon, or with the test.
func Context(t testing.TB) context.Context {
	return Bounded(t, Soon)
}

// Bounded returns a context that ends after d, or with the test.
func Bounded(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)

	return ctx
}

// Pause waits for d, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Eventually polls ok until it returns true. After the time Soon, Eventually
// fails the test with the text what.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	EventuallyOr(t, Soon, func() string { return what }, ok)
}

// EventuallyOr does the same as Eventually, with the given timeout. It calls
// what for the text after the timeout.
func EventuallyOr(
	t testing.TB,
	timeout time.Duration,
	what func() string,
	ok func() bool,
) {
	t.Helper()

	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()

	for !ok() {
		if time.Since(start) > timeout {
			t.Fatalf("timeout after %v, want: %s", timeout, what())
		}

		<-tick.C
	}
}

// Listen listens on a free loopback port until the server closes the listener
// or the test ends. From then on the port refuses connections, and no other
// server gets it before the end of the test.
func Listen(t testing.TB) net.Listener {
	t.Helper()

	lis, err := net.Listen("tcp", "127.0.0.1:0")
	Must(t, err)
	porttest.Hold(t, lis)
	t.Cleanup(func() { _ = lis.Close() }) // fails if the server has closed it

	return lis
}

// Serve serves until the test ends or stop is called. It fails the test if
// g.Serve returns an error.
func Serve(t testing.TB, g *grpc.Server, lis net.Listener) (stop func()) {
	end := Run(t, func(ctx context.Context) error {
		context.AfterFunc(ctx, g.Stop)
		return g.Serve(lis)
	})

	stop = func() {
		t.Helper()

		// the server may be stopped before it serves
		err := end()
		if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serve at %s: %v", lis.Addr(), err)
		}
	}

	t.Cleanup(stop)

	return stop
}

// Run calls run in the background. stop ends the context of run, and waits for
// the result of run and returns it. The end of the test calls stop.
func Run(t testing.TB, run func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()

	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})

	t.Cleanup(func() { _ = stop() })

	return stop
}

// Registered waits until all entries of a server are in etcd.
func Registered(t *testing.T, server interface{ Status() []runtime.Status }) {
	t.Helper()

	want := func() string {
		return fmt.Sprintf("the server is registered; its status: %+v", server.Status())
	}
	registered := func() bool {
		all := server.Status()

		return len(all) > 0 && !slices.ContainsFunc(all, func(s runtime.Status) bool {
			return s.State != runtime.StateRegistered
		})
	}

	EventuallyOr(t, Soon, want, registered)
}

// Logs is a writer for a slog.Handler that collects log lines. It is safe for
// concurrent use.
type Logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *Logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.lines = append(l.lines, string(p))

	return len(p), nil
}

// Lines returns all lines logged so far.
func (l *Logs) Lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return slices.Clone(l.lines)
}

// Count returns the number of lines that contain text.
func (l *Logs) Count(text string) int {
	n := 0
	for _, line := range l.Lines() {
		if strings.Contains(line, text) {
			n++
		}
	}

	return n
}

// Must fails and ends the test if err is not nil.
var Must = must.Succeed

// OnEtcd starts an etcd for all tests of a package, runs the tests, and returns
// the exit code for TestMain. Each test uses its own namespace.
func OnEtcd(m *testing.M, etcd **etcdtest.Cluster) int {
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	*etcd, err = etcdtest.New(dir)
	if err != nil {
		panic(err)
	}
	defer (*etcd).Close()

	return m.Run()
}

// asking is a handler that asks a registry for its status at each new message,
// as a program's handler may do. If the runtime logs while it holds a lock that
// Status takes, the test deadlocks.
type asking struct {
	slog.Handler
	registry atomic.Pointer[runtime.Registry]
	seen     sync.Map // messages that were logged before
}

// Handle implements slog.Handler.
func (a *asking) Handle(ctx context.Context, r slog.Record) error {
	_, seen := a.seen.LoadOrStore(r.Message, true)
	if registry := a.registry.Load(); registry != nil && !seen {
		registry.Status()
	}

	return a.Handler.Handle(ctx, r)
}

// Registry returns a registry that logs to a writer. At the end of the test the
// registry is closed. An error of Close is only logged, because etcd may be
// down by then.
func Registry(
	t testing.TB,
	logs io.Writer,
	client *clientv3.Client,
	opts ...runtime.Option,
) *runtime.Registry {
	t.Helper()

	handler := &asking{Handler: slog.NewTextHandler(logs, nil)}
	opts = append([]runtime.Option{runtime.WithLogger(slog.New(handler))}, opts...)
	registry := runtime.NewRegistry(client, opts...)
	handler.registry.Store(registry)

	t.Cleanup(func() {
		if err := registry.Close(Bounded(t, time.Second)); err != nil {
			t.Logf("close the registry: %v", err)
		}
	})

	return registry
}
