package show

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
)

// Load is a caller that calls without a pause, of which no call may fail.
type Load struct {
	Stop func() error // ends it, with the errors of calls that failed; calling it again does nothing

	mu     sync.Mutex
	calls  int
	shares Shares // since take was called last
	err    error  // of calls that failed
}

// Load calls until its Stop, or the example is over.
func (s *Stage) Load(ctx context.Context, client greeterv1.GreeterServiceClient) *Load {
	l := &Load{shares: make(Shares)}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			l.call(context.WithoutCancel(ctx), client) // a call that has begun is to end in its own way
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
	server, err := Greet(client)(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if err != nil {
		l.err = errors.Join(l.err, fmt.Errorf("call %d: %w", l.calls, err))
		return
	}
	l.shares[server]++
}

func (l *Load) take() (Shares, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	shares := l.shares
	l.shares = make(Shares)
	return shares, l.err
}

// Total is how many calls there were.
func (l *Load) Total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls
}

// Reach waits until the calls of some time reach exactly these servers.
func (s *Stage) Reach(ctx context.Context, calls *Load, servers ...string) error {
	return s.Until(ctx, fmt.Sprintf("calls reach %v", servers), func(ctx context.Context) (bool, error) {
		if _, err := calls.take(); err != nil {
			return false, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
		shares, err := calls.take()
		return shares.Only(servers...), err
	})
}
