package leader

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

const (
	entries    = "leader/counter"
	candidates = "_grpc_leader/" + entries + "//"
)

// registryAs returns a registry whose etcd user has some rights.
func registryAs(t *testing.T, etcd *etcdtest.Cluster, user string, rights ...func(ctx context.Context, role string) error) *runtime.Registry {
	t.Helper()
	ctx, admin := kit.Bounded(t, soon), etcd.Admin()
	_, err := admin.RoleAdd(ctx, user)
	for _, grant := range rights {
		if err == nil {
			err = grant(ctx, user)
		}
	}
	if err == nil {
		_, err = admin.UserAdd(ctx, user, "secret")
	}
	if err == nil {
		_, err = admin.UserGrantRole(ctx, user, user)
	}
	if err != nil {
		t.Fatal(err)
	}
	registry := runtime.NewRegistry(etcd.Client(t, etcdtest.As(user, "secret")), runtime.WithLogger(slog.New(slog.DiscardHandler)))
	t.Cleanup(func() { _ = registry.Close(kit.Bounded(t, soon)) }) // the test has shown what it was to show
	return registry
}

// Whoever may not read the candidates is told so.
func TestWithoutRights(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.WithAuth("root"))
	may := func(kind clientv3.PermissionType, prefix string) func(context.Context, string) error {
		return func(ctx context.Context, role string) error {
			_, err := etcd.Admin().RoleGrantPermission(ctx, role, prefix, clientv3.GetPrefixRangeEnd(prefix), kind)
			return err
		}
	}
	readWrite, read, write := clientv3.PermissionType(clientv3.PermReadWrite), clientv3.PermissionType(clientv3.PermRead), clientv3.PermissionType(clientv3.PermWrite)

	t.Run("server", func(t *testing.T) {
		registry := registryAs(t, etcd, "server", may(readWrite, entries), may(write, candidates))
		server := registry.NewServer(grpc.NewServer())
		leaderpb.RegisterCounterServer(server, leaderpb.UnimplementedCounterServer{})
		server.Publish(&leaderpb.Counter_EtcdServiceDesc)
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer lis.Close()
		if err := server.Announce(kit.Bounded(t, soon), lis.Addr().String()); err != nil {
			t.Fatal(err)
		}
		kit.Eventually(t, soon, "the status to say that the candidates cannot be read", func() bool {
			err := server.Status()[0].Err
			return err != nil && strings.Contains(err.Error(), candidates) && strings.Contains(err.Error(), "permission denied")
		})
	})

	t.Run("caller", func(t *testing.T) {
		registry := registryAs(t, etcd, "caller", may(read, entries), may(read, "_grpc_config/"+entries))
		conn, err := registry.NewClient(&leaderpb.Counter_EtcdServiceDesc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = leaderpb.NewCounterClient(conn).Add(ctx, &leaderpb.AddRequest{})
		if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("the call ends with %v", err)
		}
	})
}
