package discovery

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// soon bounds what is to happen at once: generous, for machines that are busy.
const soon = time.Minute

// call makes one call and returns the name of the server that answered.
func call(ctx context.Context, conn grpc.ClientConnInterface, opts ...grpc.CallOption) (string, error) {
	reply, err := basic.NewGreeterClient(conn).SayHello(ctx, &basic.HelloRequest{}, opts...)
	return reply.GetMessage(), err
}

// within makes one call that ends after d at the latest.
func within(conn grpc.ClientConnInterface, d time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return call(ctx, conn)
}

// reached calls until exactly the named servers answer.
func reached(t *testing.T, conn grpc.ClientConnInterface, bound time.Duration, names ...string) {
	t.Helper()
	kit.Eventually(t, bound, fmt.Sprintf("calls reach %q and no others", names), func() bool {
		seen, err := round(conn, 3*len(names))
		return err == nil && slices.Equal(seen, names)
	})
}

// round makes n calls and returns who answered, sorted.
func round(conn grpc.ClientConnInterface, n int) ([]string, error) {
	var seen []string
	for range n {
		name, err := within(conn, soon)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(seen, name) {
			seen = append(seen, name)
		}
	}
	slices.Sort(seen)
	return seen, nil
}

// counting is a listener that counts connections.
type counting struct {
	net.Listener
	n *atomic.Int64
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

// load calls without a pause until it is stopped.
type load struct {
	calls  atomic.Int64
	failed atomic.Int64
	stop   func()

	mu    sync.Mutex
	first error
}

// pause is between the calls of one caller, who would else keep a processor from what is tested.
const pause = time.Millisecond

// underLoad starts callers on conn. No call of theirs may fail. The calls carry an affinity, for policies that need one.
func underLoad(t *testing.T, conn grpc.ClientConnInterface, callers int) *load {
	t.Helper()
	l := &load{}
	done := make(chan struct{})
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				l.call(conn)
				time.Sleep(pause)
			}
		})
	}
	l.stop = sync.OnceFunc(func() { close(done); running.Wait() })
	t.Cleanup(l.stop)
	return l
}

func (l *load) call(conn grpc.ClientConnInterface) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if _, err := call(runtime.WithAffinity(ctx, "k"), conn); err != nil {
		l.failed.Add(1)
		l.mu.Lock()
		l.first = cmp.Or(l.first, err)
		l.mu.Unlock()
	}
	l.calls.Add(1)
}

// none stops the load and fails the test if a call failed.
func (l *load) none(t *testing.T) {
	t.Helper()
	l.stop()
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d of %d calls failed, the first with: %v", n, l.calls.Load(), l.first)
	}
}

// more waits until n more calls were made.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	target := l.calls.Load() + n
	kit.Eventually(t, soon, "calls go on", func() bool { return l.calls.Load() >= target })
}

// instances returns the instances of the service.
func (w *world) instances(opts ...grpc.DialOption) *runtime.Instances {
	w.t.Helper()
	i, err := w.registry.NewInstances(greeterAt(key), append([]grpc.DialOption{insecurely}, opts...)...)
	must(w.t, err)
	return i
}

// ask calls each instance and returns who answered, sorted. It is an error if one answers for another.
func ask(ctx context.Context, i *runtime.Instances) ([]string, error) {
	var mu sync.Mutex
	var names []string
	err := runtime.Each(ctx, i, func(c grpc.ClientConnInterface) grpc.ClientConnInterface { return c },
		func(ctx context.Context, e runtime.Endpoint, c grpc.ClientConnInterface) error {
			name, err := call(ctx, c)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			names = append(names, name)
			if name != e.Instance {
				return fmt.Errorf("%s answers for %s", name, e.Instance)
			}
			return nil
		})
	slices.Sort(names)
	return names, err
}
