package versions

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loadtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

const (
	key = "helloworld/greeter"

	// soon bounds every wait. It is generous, for busy machines.
	soon = 30 * time.Second
)

// newRegistry returns a registry that is closed with the test.
func newRegistry(t *testing.T, client *clientv3.Client) *runtime.Registry {
	registry := runtime.NewRegistry(client,
		runtime.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()

		if err := registry.Close(ctx); err != nil {
			t.Logf("close the registry: %v", err)
		}
	})

	return registry
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	t.Cleanup(cancel)

	return ctx
}

// greeter answers with its own address.
type greeter struct {
	basic.UnimplementedGreeterServer
	addr string
}

func (g greeter) SayHello(context.Context, *basic.HelloRequest) (*basic.HelloReply, error) {
	return &basic.HelloReply{Message: g.addr}, nil
}

// serve serves a greeter, and returns its address once that is in etcd. stop
// ends the server, and waits for its end.
func serve(t *testing.T, registry *runtime.Registry) (addr string, stop func()) {
	t.Helper()

	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	addr = lis.Addr().String()
	server := registry.NewServer(grpc.NewServer())
	basic.RegisterGreeterServerToEtcd(server, greeter{addr: addr})

	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, lis) }()

	stop = sync.OnceFunc(func() {
		cancel()

		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})

	t.Cleanup(stop)

	eventually(t, addr+" is in etcd", func() bool {
		all := server.Status()
		pending := slices.ContainsFunc(all, func(s runtime.Status) bool {
			return s.State != runtime.StateRegistered
		})

		return len(all) > 0 && !pending
	})

	return addr, stop
}

// newCaller starts a caller of the greeters that the registry finds. The test
// must stop the caller before the last greeter.
func newCaller(t *testing.T, registry *runtime.Registry) *loadtest.Caller {
	t.Helper()

	client, err := basic.NewGreeterClientFromEtcd(registry,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	must.Succeed(t, err)

	return loadtest.Start(t, "the caller", func(ctx context.Context) (string, error) {
		reply, err := client.SayHello(ctx, &basic.HelloRequest{})
		return reply.GetMessage(), err
	})
}

// watchUntil watches a key until ok accepts its endpoints.
func watchUntil(
	t *testing.T,
	registry *runtime.Registry,
	key, what string,
	ok func([]runtime.Endpoint) bool,
) {
	t.Helper()

	for endpoints, err := range registry.Watch(bounded(t), key) {
		if err == nil && ok(endpoints) {
			return
		}
	}

	t.Fatalf("not within %v: the watch has %s", soon, what)
}

// leaseOf returns the lease of the only key of the service, 0 without a key.
func leaseOf(t *testing.T, client *clientv3.Client) clientv3.LeaseID {
	t.Helper()

	resp, err := client.Get(bounded(t), key+"/", clientv3.WithPrefix())
	must.Succeed(t, err)

	if len(resp.Kvs) != 1 {
		return 0
	}

	return clientv3.LeaseID(resp.Kvs[0].Lease)
}

// enableAuth makes etcd require passwords. It adds the user "server", who may
// write below the key, and the user "caller", who may read there. Each user's
// password is the user's name.
func enableAuth(t *testing.T, client *clientv3.Client) {
	t.Helper()

	const (
		read      = clientv3.PermissionType(clientv3.PermRead)
		readWrite = clientv3.PermissionType(clientv3.PermReadWrite)
	)

	ctx := bounded(t)
	end := clientv3.GetPrefixRangeEnd(key + "/")

	var failed error
	note := func(_ any, err error) { failed = errors.Join(failed, err) }

	for name, may := range map[string]clientv3.PermissionType{
		"server": readWrite,
		"caller": read,
	} {
		note(client.RoleAdd(ctx, name))
		note(client.RoleGrantPermission(ctx, name, key+"/", end, may))
		note(client.RoleGrantPermission(ctx, name, "_grpc_config/"+key, "", read))
		note(client.UserAdd(ctx, name, name))
		note(client.UserGrantRole(ctx, name, name))
	}

	note(client.RoleAdd(ctx, "root"))
	note(client.UserAdd(ctx, "root", "root"))
	note(client.UserGrantRole(ctx, "root", "root"))
	note(client.AuthEnable(ctx))
	must.Succeed(t, failed)
}

// eventually polls until ok returns true. It fails the test if that takes too
// long.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()

	start := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()

	for !ok() {
		if time.Since(start) > soon {
			t.Fatalf("not within %v: %s", soon, what)
		}

		<-tick.C
	}
}
