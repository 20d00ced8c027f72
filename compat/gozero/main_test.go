package main

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/core/proc"
	"github.com/zeromicro/go-zero/zrpc"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

func TestMain(m *testing.M) {
	logx.Disable()
	world.Main(m, map[string]func([]string){
		"example":          func([]string) { main() },
		"server":           func(args []string) { serve(newTheirs, args[0], &world.Greeter{Name: args[1]}) },
		"announced server": func(args []string) { serve(newAnnounced, args[0], &world.Greeter{Name: args[1]}) },
	})
}

// serve is the main function of a zrpc server.
func serve(newServer func(zrpc.RpcServerConf, string, basic.GreeterServer) (*zrpc.RpcServer, error), etcdAddr string, impl basic.GreeterServer) {
	addr, err := freeAddr()
	if err != nil {
		panic(err)
	}
	config, err := zrpcConfig(addr)
	if err != nil {
		panic(err)
	}
	server, err := newServer(config, etcdAddr, impl)
	if err != nil {
		panic(err)
	}
	logx.Disable()
	server.Start()
}

// newTheirs returns a zrpc server that registers itself.
func newTheirs(config zrpc.RpcServerConf, etcdAddr string, impl basic.GreeterServer) (*zrpc.RpcServer, error) {
	config.Etcd = discov.EtcdConf{Hosts: []string{etcdAddr}, Key: user.Key}
	return zrpc.NewServer(config, func(g *grpc.Server) { basic.RegisterGreeterServer(g, impl) })
}

// newAnnounced returns a zrpc server that this project announces, under the key and in the layout of those that register themselves.
func newAnnounced(config zrpc.RpcServerConf, etcdAddr string, impl basic.GreeterServer) (*zrpc.RpcServer, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcdAddr}})
	if err != nil {
		return nil, err
	}
	return newZrpcServer(config, runtime.NewRegistry(client), impl, runtime.WithLayouts(runtime.GoZero))
}

// The example has a process of its own, for it sends itself a signal.
func TestExample(t *testing.T) {
	p := world.New(t).Start("example")
	p.Ends()
	if !strings.Contains(p.Output(), "none has failed") {
		t.Error(p.Output())
	}
}

// start starts a zrpc server, which proc.Shutdown ends.
func start(t *testing.T, w *world.World, server *zrpc.RpcServer) {
	t.Helper()
	w.Run("zrpc", func() error { server.Start(); return nil }, func() {
		proc.WrapUp()
		proc.Shutdown()
		logx.Disable()
	})
}

func config(t *testing.T) zrpc.RpcServerConf {
	t.Helper()
	addr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	config, err := zrpcConfig(addr)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// dial returns the connection of zrpc's own client, with its defaults.
func dial(t *testing.T, w *world.World, key string) *grpc.ClientConn {
	t.Helper()
	var config zrpc.RpcClientConf
	if err := conf.FillDefault(&config); err != nil {
		t.Fatal(err)
	}
	config.Etcd = discov.EtcdConf{Hosts: []string{w.EtcdAddr()}, Key: key}
	client, err := zrpc.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Conn().Close() })
	return client.Conn()
}

func TestTheirServerOurClient(t *testing.T) {
	w := world.New(t)
	c := config(t)
	c.Etcd = discov.EtcdConf{Hosts: []string{w.EtcdAddr()}, Key: "user.rpc"}
	server, err := zrpc.NewServer(c, func(g *grpc.Server) {
		basic.RegisterGreeterServer(g, &world.Greeter{Name: "zrpc"})
	})
	if err != nil {
		t.Fatal(err)
	}
	logx.Disable()
	start(t, w, server)
	w.Publish("ours", &runtime.ServiceDesc{Name: "basic.Greeter", Key: "user.rpc"}) // the one that stays
	w.Reaches(w.Conn(&runtime.ServiceDesc{Name: "basic.Greeter", Key: "user.rpc", ServiceConfig: `{"loadBalancingConfig":[{"round_robin":{}}]}`}),
		"ours", "zrpc")
}

// A zrpc server that we announce is found by zrpc's client and by ours, leaves etcd when zrpc wraps up, and serves on
// until zrpc shuts down.
func TestAnnounceAndWithdrawInZrpc(t *testing.T) {
	w := world.New(t)
	c := config(t)
	server, err := newZrpcServer(c, w.Registry, greeter{name: "zrpc"}, runtime.WithLayouts(runtime.GoZero, runtime.EndpointJSON))
	if err != nil {
		t.Fatal(err)
	}
	logx.Disable()
	start(t, w, server)
	key := basic.Greeter_EtcdServiceDesc.Key
	entries := func(n int) {
		t.Helper()
		w.Eventually(func() string { return "entries" }, func() bool { return len(w.Entries(key+"/")) == n })
	}
	entries(2)
	conn := dial(t, w, key)
	w.Reaches(conn, "zrpc")
	w.Reaches(w.Conn(&basic.Greeter_EtcdServiceDesc), "zrpc")

	direct, err := grpc.NewClient(c.ListenOn, world.Plaintext())
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	proc.WrapUp()
	entries(0)
	w.Reaches(direct, "zrpc")
}

// failing is a server that fails each call, and keeps the time that the last one had left.
type failing struct {
	basic.UnimplementedGreeterServer
	calls atomic.Int64
	left  atomic.Int64 // time.Duration until the deadline; -1 without one
}

func (f *failing) SayHello(ctx context.Context, _ *basic.HelloRequest) (*basic.HelloReply, error) {
	f.calls.Add(1)
	f.left.Store(-1)
	if deadline, ok := ctx.Deadline(); ok {
		f.left.Store(int64(time.Until(deadline)))
	}
	return nil, status.Error(codes.Unavailable, "on purpose")
}

// What a caller loses with zrpc's client: a timeout of 2 s for each call, and a breaker.
func TestTheirTimeoutAndBreaker(t *testing.T) {
	w := world.New(t)
	impl := new(failing)
	g := grpc.NewServer()
	basic.RegisterGreeterServer(g, impl)
	lis := w.Listen()
	w.Run("failing", func() error { return g.Serve(lis) }, g.Stop)
	desc := &runtime.ServiceDesc{Name: "basic.Greeter", Key: "user.rpc", Layout: runtime.GoZero}
	w.Register(desc.Key, runtime.Endpoint{Addr: lis.Addr().String()}, runtime.GoZero)

	const calls = 300
	fail := func(conn grpc.ClientConnInterface) (reached, broken int) {
		t.Helper()
		before := impl.calls.Load()
		for range calls {
			_, err := world.SayHello(context.Background(), conn)
			if err == nil {
				t.Fatal("a call succeeded")
			}
			if strings.Contains(err.Error(), "circuit breaker is open") {
				broken++
			}
		}
		return int(impl.calls.Load() - before), broken
	}
	ours := w.Conn(desc)
	if reached, broken := fail(ours); reached != calls || broken != 0 || impl.left.Load() != -1 {
		t.Errorf("by our client, %d of %d calls reached the server, %d were broken, and the last had %v left", reached, calls, broken, time.Duration(impl.left.Load()))
	}
	theirs := dial(t, w, desc.Key)
	reached, broken := fail(theirs)
	if left := time.Duration(impl.left.Load()); left <= 0 || left > 2*time.Second {
		t.Errorf("by their client, the last call had %v left, want up to 2 s", left)
	}
	if broken == 0 || reached+broken != calls {
		t.Errorf("by their client, %d of %d calls reached the server, and %d were broken", reached, calls, broken)
	}
}
