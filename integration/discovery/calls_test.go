package discovery

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// call makes one call and returns the name of the server that answered.
func call(ctx context.Context, conn grpc.ClientConnInterface, opts ...grpc.CallOption) (string, error) {
	reply, err := basic.NewGreeterClient(conn).SayHello(ctx, &basic.HelloRequest{}, opts...)
	return reply.GetMessage(), err
}

// reached calls until exactly the named servers answer, and returns how long that took.
func reached(t *testing.T, conn grpc.ClientConnInterface, within time.Duration, names ...string) time.Duration {
	t.Helper()
	return kit.Eventually(t, within, fmt.Sprintf("calls reach %q and no others", names), func() bool {
		seen, err := round(t, conn, 3*len(names))
		return err == nil && slices.Equal(seen, names)
	})
}

// round makes n calls and returns who answered, sorted.
func round(t *testing.T, conn grpc.ClientConnInterface, n int) ([]string, error) {
	t.Helper()
	var seen []string
	for range n {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		name, err := call(ctx, conn)
		cancel()
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

// underLoad starts callers on conn. No call of theirs may fail.
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
				ctx, cancel := context.WithTimeout(context.Background(), soon)
				if _, err := call(ctx, conn); err != nil {
					l.failed.Add(1)
					l.mu.Lock()
					if l.first == nil {
						l.first = err
					}
					l.mu.Unlock()
				}
				cancel()
				l.calls.Add(1)
				time.Sleep(pause)
			}
		})
	}
	l.stop = sync.OnceFunc(func() { close(done); running.Wait() })
	t.Cleanup(l.stop)
	return l
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
