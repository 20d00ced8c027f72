package gozero

import (
	"testing"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/core/service"
	"github.com/zeromicro/go-zero/zrpc"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/migrationtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// user is the service that moves from go-zero.
var user = &runtime.ServiceDesc{
	Name: "basic.Greeter", Key: basic.Greeter_EtcdServiceDesc.Key, Layout: runtime.GoZero,
	ServiceConfig: `{"loadBalancingConfig":[{"round_robin":{}}]}`,
}

func TestMain(m *testing.M) {
	logx.Disable()
	world.Main(m, map[string]func([]string){
		"server": func(args []string) {
			config := newConfig()
			config.Etcd = discov.EtcdConf{Hosts: args[:1], Key: user.Key}
			serve(zrpc.NewServer(config, func(g *grpc.Server) {
				basic.RegisterGreeterServer(g, &world.Greeter{Name: args[1]})
			}))
		},
		// This server has the key and the layout of zrpc's own registration.
		"announced server": func(args []string) {
			serve(NewServer(newConfig(), world.RegistryAt(args[0]), &world.Greeter{Name: args[1]},
				runtime.WithLayouts(runtime.GoZero)))
		},
	})
}

// newConfig returns zrpc's defaults, except that a server opens no other ports.
func newConfig() (config zrpc.RpcServerConf) {
	world.Check(conf.FillDefault(&config))
	config.Name = "greeter"
	config.ListenOn = world.FreeAddr()
	config.Mode = service.TestMode // no calls are shed on a busy machine
	config.DevServer.Enabled = false

	return config
}

// serve is the main function of a zrpc server.
func serve(server *zrpc.RpcServer, err error) {
	world.Check(err)
	logx.Disable()
	server.Start()
}

// theirs returns zrpc's servers, and zrpc's own clients with its defaults.
func theirs(t *testing.T, w *world.World) migrationtest.Kind {
	return migrationtest.Kind{
		Serve: w.Programs(user.Key, "server"),
		Dial: world.Callers(func() *grpc.ClientConn {
			var config zrpc.RpcClientConf
			world.Must(t, conf.FillDefault(&config))
			config.Etcd = discov.EtcdConf{Hosts: []string{w.EtcdAddr()}, Key: user.Key}
			client, err := zrpc.NewClient(config)
			world.Must(t, err)

			return client.Conn()
		})}
}

// The servers and callers of a service move from go-zero to this project under
// load.
func TestRoad(t *testing.T) {
	migrationtest.Run(t, func(t *testing.T) (from, to migrationtest.Kind) {
		w := world.New(t)
		return theirs(t, w), w.Ours(user)
	})
}

// Servers and callers stay on zrpc: this project announces the servers, and the
// callers use this project's resolver.
func TestRoadWithTheirServer(t *testing.T) {
	migrationtest.Run(t, func(t *testing.T) (from, to migrationtest.Kind) {
		w := world.New(t)

		return theirs(t, w), migrationtest.Kind{
			Serve: w.Programs(user.Key, "announced server"),
			Dial: world.Callers(func() *grpc.ClientConn {
				client, err := NewClient(w.Registry, user.Key)
				world.Must(t, err)

				return client.Conn()
			})}
	})
}
