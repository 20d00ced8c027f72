// Package kit holds helpers for tests on real etcd: for deadlines, waiting, servers, logs and registries.
package kit

import (
	"context"
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
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Soon is how long tests wait for changes that should happen at once. It is long because machines may be busy.
const Soon = time.Minute

// Insecure is the dial option for connections without TLS.
var Insecure = grpc.WithTransportCredentials(insecure.NewCredentials())

// Bounded returns a context that ends after d, or with the test.
func Bounded(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// Eventually polls ok until it returns true. After timeout it fails the test, and prints what.
func Eventually(t *testing.T, timeout time.Duration, what string, ok func() bool) {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(start) > timeout {
			t.Fatalf("timeout after %v, want: %s", timeout, what)
		}
		<-tick.C
	}
}

// Listen listens on a free loopback port until the server closes the listener or the test ends.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() }) // fails if the server has closed it
	return lis
}

// Serve serves until the test ends or stop is called. After stop it keeps the port until the test ends, so that no other
// server gets the port, and closes new connections at once.
func Serve(t testing.TB, g *grpc.Server, lis net.Listener) (stop func()) {
	h := &held{Listener: lis, conns: make(chan net.Conn), closed: make(chan struct{})}
	var running sync.WaitGroup
	running.Go(h.run)
	t.Cleanup(func() { _ = lis.Close(); running.Wait() }) // runs after stop
	running.Go(func() { _ = g.Serve(h) })                 // ends with Stop
	stop = sync.OnceFunc(g.Stop)
	t.Cleanup(stop)
	return stop
}

// held is a listener whose Close keeps the port.
type held struct {
	net.Listener
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// run accepts connections until the embedded listener is closed.
func (h *held) run() {
	for {
		conn, err := h.Listener.Accept()
		if err != nil {
			return
		}
		select {
		case h.conns <- conn:
		case <-h.closed:
			_ = conn.Close() // before a byte is sent
		}
	}
}

func (h *held) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *held) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Logs is a writer for a slog.Handler that collects log lines. It is safe for concurrent use.
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
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// OnEtcd starts an etcd for all tests of a package, runs the tests, and returns the exit code for TestMain. Each test uses
// its own namespace.
func OnEtcd(m *testing.M, etcd **etcdtest.Cluster) int {
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if *etcd, err = etcdtest.New(dir); err != nil {
		panic(err)
	}
	defer (*etcd).Close()
	return m.Run()
}

// AskingLogger returns a logger whose handler calls a function at each new message, as a program's handler may do. If the
// runtime logs while it holds a lock that the function takes, the test deadlocks. ask sets the function.
func AskingLogger(w io.Writer) (logger *slog.Logger, ask func(func())) {
	h := asking{slog.NewTextHandler(w, nil), new(atomic.Pointer[func()]), new(sync.Map)}
	return slog.New(h), func(f func()) { h.ask.Store(&f) }
}

type asking struct {
	slog.Handler
	ask  *atomic.Pointer[func()]
	seen *sync.Map // messages that were logged before
}

// Handle implements slog.Handler.
func (a asking) Handle(ctx context.Context, r slog.Record) error {
	_, seen := a.seen.LoadOrStore(r.Message, true)
	if ask := a.ask.Load(); ask != nil && !seen {
		(*ask)()
	}
	return a.Handler.Handle(ctx, r)
}

// Registry returns a registry that logs to a writer. At the end of the test the registry is closed. An error of Close is only
// logged, because etcd may be down by then.
func Registry(t testing.TB, logs io.Writer, client *clientv3.Client, opts ...runtime.Option) *runtime.Registry {
	t.Helper()
	logger, ask := AskingLogger(logs)
	registry := runtime.NewRegistry(client, append([]runtime.Option{runtime.WithLogger(logger)}, opts...)...)
	ask(func() { registry.Status() })
	t.Cleanup(func() {
		if err := registry.Close(Bounded(t, time.Second)); err != nil {
			t.Logf("close the registry: %v", err)
		}
	})
	return registry
}
