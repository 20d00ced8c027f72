package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

const (
	leaseTTL    = 5 * time.Second // short, for outages to outlast it
	drainDelay  = 500 * time.Millisecond
	stopTimeout = 5 * time.Second
	// drainBound is what Serve promises: 3 s for etcd, the delay, the timeout, and some room.
	drainBound = 3*time.Second + drainDelay + stopTimeout + 2*time.Second
)

// server is one of the servers, through all its lives.
type server struct {
	index  int
	logger *slog.Logger
	ending *sync.WaitGroup // what is left of lives that are over

	starting sync.Mutex // one thing at a time is done to a server

	mu   sync.Mutex
	addr string // of this life, or of the last one
	life *life  // nil while it does not run
}

// life is a server while it runs: what a process would have.
type life struct {
	client   *clientv3.Client
	registry *runtime.Registry
	grpc     *grpc.Server
	server   *runtime.Server
	stop     context.CancelFunc
	served   chan error
}

// greeter answers with the address of its server, after a moment.
type greeter struct {
	basic.UnimplementedGreeterServer
	addr string
}

func (g greeter) SayHello(ctx context.Context, _ *basic.HelloRequest) (*basic.HelloReply, error) {
	select {
	case <-time.After(rand.N(10 * time.Millisecond)):
		return &basic.HelloReply{Message: g.addr}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// start begins a life, at the last address if that is to be had.
func (s *server) start(cfg clientv3.Config, moved bool) error {
	lis, err := s.listen(moved)
	if err != nil {
		return err
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		return errors.Join(err, lis.Close())
	}
	l := &life{client: client, grpc: grpc.NewServer(), served: make(chan error, 1)}
	l.registry = runtime.NewRegistry(client, runtime.WithLogger(s.logger), runtime.WithLeaseTTL(leaseTTL))
	l.server = l.registry.NewServer(l.grpc, runtime.WithDrainDelay(drainDelay), runtime.WithStopTimeout(stopTimeout))
	addr := lis.Addr().String()
	healthpb.RegisterHealthServer(l.server, health.NewServer())
	basic.RegisterGreeterServerToEtcd(l.server, greeter{addr: addr}, runtime.WithMetadata("server", strconv.Itoa(s.index)))
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	go func() { l.served <- l.server.Serve(ctx, lis) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addr, s.life = addr, l
	return nil
}

func (s *server) listen(moved bool) (net.Listener, error) {
	if s.addr != "" && !moved {
		if lis, err := net.Listen("tcp", s.addr); err == nil {
			return lis, nil
		} // else someone else has it by now
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// current is the life and its address; nil while the server does not run.
func (s *server) current() (*life, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life, s.addr
}

// take ends what current returns.
func (s *server) take() *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.life
	s.life = nil
	return l
}

// kill ends a life as a killed process does: its connections break, and what it has in etcd stays
// until the lease expires.
func (s *server) kill() {
	l := s.take()
	if l == nil {
		return
	}
	l.client.Close() // first, so that it says nothing to etcd any more
	l.grpc.Stop()
	l.stop()
	s.ending.Go(func() {
		err := <-l.served
		s.logger.Debug("a process would just be gone", "error", err)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		l.registry.Close(ctx)
	})
}

// drain ends a life in order.
func (s *server) drain() error {
	l := s.take()
	if l == nil {
		return nil
	}
	began := time.Now()
	l.stop()
	err := <-l.served
	if took := time.Since(began); took > drainBound {
		err = errors.Join(err, fmt.Errorf("it took %v, more than %v", took, drainBound))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	err = errors.Join(err, l.registry.Close(ctx))
	l.client.Close()
	if err != nil {
		return fmt.Errorf("drain server %d: %w", s.index, err)
	}
	return nil
}
