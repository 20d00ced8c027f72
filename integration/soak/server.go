package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// leaseTTL is shorter than many outages.
const leaseTTL = 5 * time.Second

var silent = runtime.WithLogger(slog.New(slog.DiscardHandler))

// server is one of the ten servers, which may be down.
type server struct {
	last    string // the last address of the server
	current atomic.Pointer[incarnation]
}

// incarnation is one process of a server.
type incarnation struct {
	addr     string
	client   *clientv3.Client
	registry *runtime.Registry
	grpc     *grpc.Server
	server   *runtime.Server
	stop     context.CancelFunc
	served   chan error
}

// greeter is a service that answers with the address of its server, after up to
// 10 ms.
type greeter struct {
	basic.UnimplementedGreeterServer
	addr string
}

func (g greeter) SayHello(
	ctx context.Context,
	_ *basic.HelloRequest,
) (*basic.HelloReply, error) {
	select {
	case <-time.After(rand.N(10 * time.Millisecond)):
		return &basic.HelloReply{Message: g.addr}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// start starts the server. Unless moved, it takes its last address, if that is
// free.
func (s *server) start(cfg clientv3.Config, moved bool) error {
	addr := "127.0.0.1:0"
	if s.last != "" && !moved {
		addr = s.last
	}

	lis, err := net.Listen("tcp", addr)
	if err != nil { // another process has taken the port
		lis, err = net.Listen("tcp", "127.0.0.1:0")
	}

	if err != nil {
		return err
	}

	client, err := clientv3.New(cfg)
	if err != nil {
		return errors.Join(err, lis.Close())
	}

	l := &incarnation{
		addr:   lis.Addr().String(),
		client: client,
		grpc:   grpc.NewServer(),
		served: make(chan error, 1),
	}

	l.registry = runtime.NewRegistry(client, silent, runtime.WithLeaseTTL(leaseTTL))
	l.server = l.registry.NewServer(l.grpc, runtime.WithDrainDelay(500*time.Millisecond),
		runtime.WithStopTimeout(5*time.Second))
	basic.RegisterGreeterServerToEtcd(l.server, greeter{addr: l.addr})

	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	go func() { l.served <- l.server.Serve(ctx, lis) }()

	s.last = l.addr
	s.current.Store(l)

	return nil
}

// kill stops the server as SIGKILL does: its connections break, and its entry
// stays until the lease expires.
func (s *server) kill() {
	l := s.current.Swap(nil)
	if l == nil {
		return
	}

	l.client.Close() // first, so that etcd gets no request of the shutdown
	l.grpc.Stop()
	l.stop()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	// a killed process returns no errors
	_ = errors.Join(<-l.served, l.registry.Close(ctx))
}

// drain stops the server in order.
func (s *server) drain() error {
	l := s.current.Swap(nil)
	if l == nil {
		return nil
	}

	l.stop()
	err := <-l.served

	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()

	err = errors.Join(err, l.registry.Close(ctx))
	l.client.Close()

	if err != nil {
		return fmt.Errorf("drain %s: %w", l.addr, err)
	}

	return nil
}
