// Package dubbo tests that our clients find dubbo-go's servers through its
// application-level discovery. Our servers do not write that format.
package dubbo

import (
	"context"
	"io"
	"log"
	"net"
	"testing"

	"dubbo.apache.org/dubbo-go/v3"
	_ "dubbo.apache.org/dubbo-go/v3/cluster/cluster/failover"
	_ "dubbo.apache.org/dubbo-go/v3/cluster/loadbalance/random"
	"dubbo.apache.org/dubbo-go/v3/common/constant"
	_ "dubbo.apache.org/dubbo-go/v3/filter/accesslog"
	_ "dubbo.apache.org/dubbo-go/v3/filter/echo"
	_ "dubbo.apache.org/dubbo-go/v3/filter/exec_limit"
	_ "dubbo.apache.org/dubbo-go/v3/filter/generic"
	_ "dubbo.apache.org/dubbo-go/v3/filter/graceful_shutdown"
	_ "dubbo.apache.org/dubbo-go/v3/filter/token"
	_ "dubbo.apache.org/dubbo-go/v3/filter/tps"
	_ "dubbo.apache.org/dubbo-go/v3/metadata/mapping/metadata"
	_ "dubbo.apache.org/dubbo-go/v3/metadata/report/etcd"
	"dubbo.apache.org/dubbo-go/v3/protocol"
	_ "dubbo.apache.org/dubbo-go/v3/protocol/dubbo" // the protocol of dubbo-go's metadata service
	_ "dubbo.apache.org/dubbo-go/v3/protocol/triple"
	"dubbo.apache.org/dubbo-go/v3/protocol/triple/triple_protocol"
	_ "dubbo.apache.org/dubbo-go/v3/proxy/proxy_factory"
	"dubbo.apache.org/dubbo-go/v3/registry"
	_ "dubbo.apache.org/dubbo-go/v3/registry/directory"
	_ "dubbo.apache.org/dubbo-go/v3/registry/etcdv3" // the service discovery by etcd
	_ "dubbo.apache.org/dubbo-go/v3/registry/protocol"
	_ "dubbo.apache.org/dubbo-go/v3/registry/servicediscovery"
	"dubbo.apache.org/dubbo-go/v3/server"
	"github.com/dubbogo/gost/log/logger"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/migrationtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

func TestMain(m *testing.M) {
	logger.SetLogger(zap.NewNop().Sugar())
	log.SetOutput(io.Discard) // dubbo-go's etcd client logs there
	world.Main(m, map[string]func([]string){
		"server": func(args []string) { run(args[0], args[1], &world.Greeter{Name: args[2]}) },
	})
}

// run is the main function of a dubbo-go application.
func run(etcdAddr, addr string, impl basic.GreeterServer) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	world.Check(err)

	instance, err := dubbo.NewInstance(
		dubbo.WithName("user"),
		dubbo.WithRegistry(registry.WithEtcdV3(), registry.WithAddress(etcdAddr)),
		dubbo.WithProtocol(protocol.WithTriple(), protocol.WithIp("127.0.0.1"),
			protocol.WithPort(tcp.Port)),
	)
	world.Check(err)

	s, err := instance.NewServer()
	world.Check(err)
	world.Check(s.Register(impl, greeterInfo))
	world.Check(s.Serve())
}

// greeterInfo describes the greeter to servers, as dubbo-go's generator does.
var greeterInfo = &server.ServiceInfo{
	InterfaceName: "basic.Greeter",
	ServiceType:   (*basic.GreeterServer)(nil),
	Methods: []server.MethodInfo{{
		Name:        "SayHello",
		Type:        constant.CallUnary,
		ReqInitFunc: func() any { return new(basic.HelloRequest) },
		MethodFunc: func(ctx context.Context, args []any, handler any) (any, error) {
			reply, err := handler.(basic.GreeterServer).SayHello(ctx, args[0].(*basic.HelloRequest))
			if err != nil {
				return nil, err
			}

			return triple_protocol.NewResponse(reply), nil
		},
	}},
}

var user = &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/services/user"}

// The servers of a service move from dubbo-go to this project under load. Its
// callers have moved before, because dubbo-go's callers do not find our
// servers.
func TestRoad(t *testing.T) {
	migrationtest.Run(t, func(t *testing.T) (from, to migrationtest.Kind) {
		w := world.New(t)
		to = w.Ours(user)

		serve := func(name string) (leave, stop func()) {
			addr := world.FreeAddr()
			p, key := w.StartServer(user.Key, "server", w.EtcdAddr(), addr, name)

			conn, err := grpc.NewClient(addr, world.Plaintext())
			world.Must(t, err)
			defer func() { _ = conn.Close() }()

			w.Reaches(conn, name) // the server is in etcd before it answers

			// SIGTERM stops the server before its entry is deleted, so leave
			// comes first
			return func() { w.Remove(key) }, p.Terminate
		}

		return migrationtest.Kind{Dial: to.Dial, Serve: serve}, to
	})
}
