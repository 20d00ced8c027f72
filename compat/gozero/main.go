// Command gozero keeps a service in go-zero's zrpc server and has this project announce it. Run it from the
// directory above:
//
//	go run ./gozero
//
// A zrpc server and one of this project's serve under one key. Callers call without a pause: one of this project, and
// zrpc's own client with this project's resolver. Then the process gets SIGTERM, as from Kubernetes. The zrpc server
// leaves etcd first and stops a second later, and no call fails. It exits with 1 if one did.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/core/proc"
	"github.com/zeromicro/go-zero/core/service"
	"github.com/zeromicro/go-zero/zrpc"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// newZrpcServer returns a zrpc server without etcd in its config, which is announced by the registry while it runs.
func newZrpcServer(config zrpc.RpcServerConf, registry *runtime.Registry, impl basic.GreeterServer, opts ...runtime.RegisterOption) (*zrpc.RpcServer, error) {
	return zrpc.NewServer(config, func(g *grpc.Server) {
		server := registry.NewServer(g)
		basic.RegisterGreeterServerToEtcd(server, impl, opts...)
		// zrpc listens already, and serves as soon as this returns.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Announce(ctx, config.ListenOn); err != nil {
			panic(err) // as zrpc's Start does when its own registration fails
		}
		// The first thing that SIGTERM does. zrpc stops taking calls a second later: Shutdown.WrapUpTime in its config.
		proc.AddWrapUpListener(func() {
			if err := server.Withdraw(context.Background()); err != nil {
				logx.Errorf("withdraw: %v", err)
			}
		})
	})
}

// zrpcConfig is the config of a zrpc server, with zrpc's defaults and without the ports that it would open beside.
func zrpcConfig(addr string) (config zrpc.RpcServerConf, err error) {
	if err := conf.FillDefault(&config); err != nil {
		return config, err
	}
	config.Name, config.ListenOn = "greeter", addr
	config.Mode = service.TestMode // no calls are shed on a busy machine
	config.DevServer.Enabled = false
	return config, nil
}

// newZrpcClient returns zrpc's client with our resolver: it keeps zrpc's timeout, breaker, balancer, tracing and metrics.
func newZrpcClient(registry *runtime.Registry, key string) (zrpc.Client, error) {
	var config zrpc.RpcClientConf
	if err := conf.FillDefault(&config); err != nil {
		return nil, err
	}
	config.Target = "etcd:///" + key
	return zrpc.NewClient(config, zrpc.WithDialOption(grpc.WithResolvers(registry.Resolver())))
}

type greeter struct {
	basic.UnimplementedGreeterServer
	name string
}

func (g greeter) SayHello(context.Context, *basic.HelloRequest) (*basic.HelloReply, error) {
	return &basic.HelloReply{Message: g.name}, nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gozero:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	dir, err := os.MkdirTemp("", "gozero")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	etcd, err := etcdtest.New(dir)
	if err != nil {
		return err
	}
	defer etcd.Close()
	client, err := clientv3.New(etcd.Config())
	if err != nil {
		return err
	}
	defer client.Close()
	registry := runtime.NewRegistry(client, runtime.WithLogger(slog.New(slog.DiscardHandler)))
	defer func() { err = errors.Join(err, registry.Close(context.Background())) }()
	return show(registry)
}

// show stops one of two servers while callers call both.
func show(registry *runtime.Registry) error {
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	config, err := zrpcConfig(addr)
	if err != nil {
		return err
	}
	server, err := newZrpcServer(config, registry, greeter{name: "zrpc"})
	if err != nil {
		return err
	}
	logx.Disable()
	stopOurs, err := serveOurs(registry)
	if err != nil {
		return err
	}
	stopCalls, err := call(registry)
	if err != nil {
		return errors.Join(err, stopOurs())
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		server.Start()
	}()
	if err := stopCalls.until("ours", "zrpc"); err != nil {
		return errors.Join(err, stopOurs())
	}
	fmt.Println("calls reach both servers; now SIGTERM")
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		return err
	}
	<-stopped
	err = errors.Join(stopCalls.until("ours"), stopCalls.stop(), stopOurs())
	if err == nil {
		fmt.Printf("the zrpc server has stopped, and of %d calls none has failed\n", stopCalls.total)
	}
	return err
}

// serveOurs starts a plain gRPC server, and returns when it is announced.
func serveOurs(registry *runtime.Registry) (stop func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := grpc.NewServer()
	server := registry.NewServer(g)
	basic.RegisterGreeterServerToEtcd(server, greeter{name: "ours"})
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(listener) }()
	stop = func() error {
		err := server.Withdraw(context.Background())
		g.GracefulStop()
		return errors.Join(err, <-ended)
	}
	if err := server.Announce(context.Background(), listener.Addr().String()); err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// calls are two callers that never pause.
type calls struct {
	stop func() error

	mu     sync.Mutex
	total  int
	recent map[string]bool // the servers that have answered since until last looked
	err    error           // of the first call that failed
}

func call(registry *runtime.Registry) (*calls, error) {
	plaintext := grpc.WithTransportCredentials(insecure.NewCredentials())
	ours, err := basic.NewGreeterClientFromEtcd(registry, plaintext)
	if err != nil {
		return nil, err
	}
	theirs, err := newZrpcClient(registry, basic.Greeter_EtcdServiceDesc.Key)
	if err != nil {
		return nil, err
	}
	c := &calls{recent: make(map[string]bool)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, client := range []basic.GreeterClient{ours, basic.NewGreeterClient(theirs.Conn())} {
		running.Go(func() {
			for ctx.Err() == nil {
				c.one(client)
			}
		})
	}
	c.stop = func() error {
		cancel()
		running.Wait()
		theirs.Conn().Close()
		return c.err
	}
	return c, nil
}

func (c *calls) one(client basic.GreeterClient) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reply, err := client.SayHello(ctx, &basic.HelloRequest{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	if c.err == nil {
		c.err = err
	}
	c.recent[reply.GetMessage()] = true
}

// until waits until calls reach exactly the named servers.
func (c *calls) until(names ...string) error {
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		c.mu.Lock()
		reached, err := c.recent, c.err
		c.recent = make(map[string]bool)
		c.mu.Unlock()
		if err != nil {
			return err
		}
		right := len(reached) == len(names)
		for _, name := range names {
			right = right && reached[name]
		}
		if right {
			return nil
		}
	}
	return fmt.Errorf("after 15 s, calls do not reach exactly %v", names)
}

// freeAddr returns an address for zrpc to listen on, for it takes no listener.
func freeAddr() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
