package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
)

// load is a caller that calls without a pause, of which no call may fail.
type load struct {
	stop func() error // ends it; calling it again does nothing

	mu     sync.Mutex
	calls  int
	shares show.Shares // since next was called last
	err    error       // of the first call that failed
}

// start calls until stop. closed is called after that.
func start(ctx context.Context, client greeterv1.GreeterClient, closed func()) *load {
	l := &load{shares: make(show.Shares)}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			l.call(context.WithoutCancel(ctx), client) // a call that has begun is to end in its own way
		}
	})
	l.stop = sync.OnceValue(func() error {
		cancel()
		running.Wait()
		closed()
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.err
	})
	return l
}

func (l *load) call(ctx context.Context, client greeterv1.GreeterClient) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	server, err := show.Greet(client)(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if err != nil {
		l.err = errors.Join(l.err, fmt.Errorf("call %d: %w", l.calls, err))
		return
	}
	l.shares[server]++
}

// next returns where the calls of the next so long go, and the error of one that failed.
func (l *load) next(ctx context.Context, d time.Duration) (show.Shares, error) {
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

func (l *load) take() (show.Shares, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	shares := l.shares
	l.shares = make(show.Shares)
	return shares, l.err
}

func (l *load) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls
}
