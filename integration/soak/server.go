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

// leaseTTL is short, so that outages outlast it.
const leaseTTL = 5 * time.Second

var silent = runtime.WithLogger(slog.New(slog.DiscardHandler))

// server is a server that may restart.
type server struct {
	last    string // its last address, for start
	current atomic.Pointer[incarnation]
}

// incarnation stands for one process of a server.
type incarnation struct {
	addr     string
	client   *clientv3.Client
	registry *runtime.Registry
	grpc     *grpc.Server
	server   *runtime.Server
	stop     context.CancelFunc
	served   chan error
}

// greeter answers with the address of its server, after a delay.
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

// start starts the server, at its last address if that is free.
func (s *server) start(cfg clientv3.Config, moved bool) error {
	addr := "127.0.0.1:0"
	if s.last != "" && !moved {
		addr = s.last
	}
	lis, err := net.Listen("tcp", addr)
	if err != nil { // the port is taken by now
		lis, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return err
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		return errors.Join(err, lis.Close())
	}
	l := &incarnation{addr: lis.Addr().String(), client: client, grpc: grpc.NewServer(), served: make(chan error, 1)}
	l.registry = runtime.NewRegistry(client, silent, runtime.WithLeaseTTL(leaseTTL))
	l.server = l.registry.NewServer(l.grpc, runtime.WithDrainDelay(500*time.Millisecond), runtime.WithStopTimeout(5*time.Second))
	basic.RegisterGreeterServerToEtcd(l.server, greeter{addr: l.addr})
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	go func() { l.served <- l.server.Serve(ctx, lis) }()
	s.last = l.addr
	s.current.Store(l)
	return nil
}

// kill stops the server as SIGKILL does: connections break, and entries stay until the lease
// expires.
func (s *server) kill() {
	l := s.current.Swap(nil)
	if l == nil {
		return
	}
	l.client.Close() // before the rest, so that etcd receives no request
	l.grpc.Stop()
	l.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = errors.Join(<-l.served, l.registry.Close(ctx)) // a killed process would return no errors
}

// drain stops the server gracefully.
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
