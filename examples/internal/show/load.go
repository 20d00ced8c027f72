package show

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
)

// Load is a caller that calls without a pause. None of its calls may fail.
type Load struct {
	Stop func() error // ends it and returns the errors of failed calls; a second call does nothing

	mu     sync.Mutex
	calls  int
	shares Shares // since the last take
	err    error  // of failed calls
}

// Load starts calls, until Stop or the end of the example.
func (s *Stage) Load(ctx context.Context, client greeterv1.GreeterServiceClient) *Load {
	l := &Load{shares: make(Shares)}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			l.call(context.WithoutCancel(ctx), client) // calls under way finish by themselves
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

// Total returns the number of calls so far.
func (l *Load) Total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls
}

// Reach waits until exactly these servers answer the calls of one period.
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
