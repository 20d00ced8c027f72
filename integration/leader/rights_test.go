package leader

import (
	"context"
	"crypto/rand"
	"log/slog"
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

// registryAs returns a registry whose etcd user has no other rights than its own.
func registryAs(t *testing.T, etcd *etcdtest.Cluster, user string) *runtime.Registry {
	t.Helper()
	registry := runtime.NewRegistry(etcd.Client(t, etcdtest.As(user, "secret")), runtime.WithLogger(slog.New(slog.DiscardHandler)))
	t.Cleanup(func() { _ = registry.Close(kit.Bounded(t, soon)) }) // the test has shown what it was to show
	return registry
}

// announced returns a server of the service under a description, which is announced and serves nobody.
func announced(t *testing.T, registry *runtime.Registry, desc *runtime.ServiceDesc) *runtime.Server {
	t.Helper()
	server := registry.NewServer(grpc.NewServer())
	leaderpb.RegisterCounterServer(server, leaderpb.UnimplementedCounterServer{})
	server.Publish(desc, runtime.WithInstance(rand.Text()))
	must(t, server.Announce(kit.Bounded(t, soon), "127.0.0.1:1"))
	return server
}

// Whoever may not read the candidates is told so.
func TestWithoutRights(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.WithAuth("root",
		etcdtest.User{Name: "server", Password: "secret", Permissions: []etcdtest.Permission{etcdtest.ReadWrite(entries), {Prefix: candidates, Write: true}}},
		etcdtest.User{Name: "caller", Password: "secret", Permissions: []etcdtest.Permission{etcdtest.ReadOnly(entries), etcdtest.ReadOnly("_grpc_config/" + entries)}}))
	server := announced(t, registryAs(t, etcd, "server"), &leaderpb.Counter_EtcdServiceDesc)
	kit.Eventually(t, soon, "the status to say that the candidates cannot be read", func() bool {
		err := server.Status()[0].Err
		return err != nil && strings.Contains(err.Error(), candidates) && strings.Contains(err.Error(), "permission denied")
	})

	conn, err := registryAs(t, etcd, "caller").NewClient(&leaderpb.Counter_EtcdServiceDesc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = leaderpb.NewCounterClient(conn).Add(ctx, &leaderpb.AddRequest{})
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("the call ends with %v", err)
	}
}

// Entries that etcd refuses keep no other of the process out, whatever their candidates wait for.
func TestG31_OthersGetIn(t *testing.T) {
	t.Parallel()
	keys := []string{"acme/refused", "acme/too", "acme/later", "acme/allowed"}
	process := etcdtest.User{Name: "process", Password: "secret", Permissions: []etcdtest.Permission{etcdtest.ReadWrite("_grpc_leader/")}}
	for _, key := range keys {
		process.Permissions = append(process.Permissions, etcdtest.ReadWrite(key+"/"))
	}
	etcd := etcdtest.Start(t, etcdtest.WithAuth("root", process))
	registry := registryAs(t, etcd, process.Name)
	lease := func(key string) int64 {
		resp, err := etcd.Admin().Get(kit.Bounded(t, soon), key+"/", clientv3.WithPrefix())
		must(t, err)
		if len(resp.Kvs) == 0 {
			return 0
		}
		return resp.Kvs[0].Lease
	}
	for i, key := range keys {
		desc := under(key, nil)
		if i >= 2 {
			desc.Leader = nil
		}
		announced(t, registry, desc)
	}
	for _, key := range keys[:3] {
		_, err := etcd.Admin().RoleRevokePermission(kit.Bounded(t, soon), process.Name, key+"/", key+"0")
		must(t, err)
	}
	_, err := etcd.Admin().Revoke(kit.Bounded(t, soon), clientv3.LeaseID(lease("acme/allowed")))
	must(t, err)
	kit.Eventually(t, soon, "what is allowed to be back", func() bool { return lease("acme/allowed") != 0 })
	_, err = etcd.Admin().RoleGrantPermission(kit.Bounded(t, soon), process.Name, "acme/later/", "acme/later0", clientv3.PermissionType(clientv3.PermReadWrite))
	must(t, err)
	kit.Eventually(t, soon, "what is allowed again to be back", func() bool { return lease("acme/later") != 0 })
}
