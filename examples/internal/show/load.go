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
	shares Shares // since Next was called last
	err    error  // of the first call that failed
}

// StartLoad calls until Stop, and calls closed then.
func StartLoad(ctx context.Context, client greeterv1.GreeterServiceClient, closed func()) *Load {
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
		closed()
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.err
	})
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

// Next returns where the calls of the next so long go, and the error of one that failed.
func (l *Load) Next(ctx context.Context, d time.Duration) (Shares, error) {
	if _, err := l.take(); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(d):
	}
	return l.take()
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
