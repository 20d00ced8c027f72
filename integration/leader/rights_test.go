package leader

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// registryAs returns a registry with the rights of one etcd user.
func registryAs(t *testing.T, etcd *etcdtest.Cluster, user string) *runtime.Registry {
	t.Helper()

	registry := runtime.NewRegistry(etcd.Client(t, etcdtest.As(user, "secret")),
		runtime.WithLogger(slog.New(slog.DiscardHandler)))
	t.Cleanup(func() { _ = registry.Close(kit.Context(t)) }) // etcd may deny a request of Close

	return registry
}

// announced returns a server that is announced with the description. Nothing
// listens at its address.
func announced(
	t *testing.T,
	registry *runtime.Registry,
	desc *runtime.ServiceDesc,
) *runtime.Server {
	t.Helper()

	server := registry.NewServer(grpc.NewServer())
	leaderpb.RegisterCounterServer(server, leaderpb.UnimplementedCounterServer{})
	server.Publish(desc, runtime.WithInstance(rand.Text()))
	kit.Must(t, server.Announce(kit.Context(t), "127.0.0.1:1"))

	return server
}

// rights are what a user may do with the keys under a prefix.
type rights struct{ read, write bool }

var mixtures = []rights{{false, false}, {true, false}, {false, true}, {true, true}}

func (r rights) to(prefix string) etcdtest.Permission {
	return etcdtest.Permission{Prefix: prefix, Read: r.read, Write: r.write}
}

// A server is announced with any rights on candidates. Its status has an error
// if it cannot stand, and others can lead (E3).
func TestServers_WithEveryCombinationOfRights(t *testing.T) {
	t.Parallel()

	users := []etcdtest.User{{Name: "all", Password: "secret", Permissions: []etcdtest.Permission{
		etcdtest.ReadWrite("mix/"), etcdtest.ReadWrite("_grpc_leader/mix/")}}}
	for _, may := range mixtures {
		key := fmt.Sprint("mix/", len(users))
		users = append(users, etcdtest.User{
			Name:     key,
			Password: "secret",
			Permissions: []etcdtest.Permission{
				etcdtest.ReadWrite(key + "/"), may.to("_grpc_leader/" + key + "//")}})
	}

	etcd := etcdtest.Start(t, etcdtest.WithAuth("root", users...))
	for i, may := range mixtures {
		t.Run(fmt.Sprintf("%+v", may), func(t *testing.T) {
			t.Parallel()
			key := users[1+i].Name
			desc := calm(under(key, nil))
			registry := registryAs(t, etcd, key)
			server := announced(t, registry, desc)

			stands := may.read && may.write
			if stands { // before the other server stands
				kit.Eventually(t, "the server leads", leader.Of(server, desc).Holds)
			}

			other := announced(t, registryAs(t, etcd, "all"), desc)
			if !stands {
				kit.Eventually(t, "the other server leads", leader.Of(other, desc).Holds)
			}

			kit.Eventually(t, "the status has an error exactly if the server is no candidate",
				func() bool { return (server.Status()[0].Err == nil) == stands })
			kit.Must(t, registry.Close(kit.Context(t)))
			kit.Eventually(t, "the other server leads after the first one is closed",
				leader.Of(other, desc).Holds)

			for _, prefix := range []string{key + "/", "_grpc_leader/" + key + "//"} {
				left, err := etcd.Admin().Get(kit.Context(t), prefix, clientv3.WithPrefix())
				kit.Must(t, err)

				if len(left.Kvs) != 1 {
					t.Errorf("%d keys under %s, want 1, of the other server", len(left.Kvs), prefix)
				}
			}
		})
	}
}

// Calls for the leader succeed if the caller may read entries and candidates,
// with any rights on live configs.
func TestCallers_WithEveryCombinationOfRights(t *testing.T) {
	g := newGroup(t)
	var users []etcdtest.User

	configs := []etcdtest.Permission{{}, etcdtest.ReadOnly("_grpc_config/" + entries),
		{Prefix: "_grpc_config/" + entries, Write: true}, etcdtest.ReadOnly("_grpc_config/")}
	for _, config := range configs {
		for _, may := range [][]etcdtest.Permission{
			{etcdtest.ReadOnly(entries + "/"), etcdtest.ReadOnly(candidates)},
			{etcdtest.ReadOnly(entries + "/"), {Prefix: candidates, Write: true}},
			{{Prefix: entries + "/", Write: true}, etcdtest.ReadOnly(candidates)},
		} {
			if config.Prefix != "" {
				may = append(may, config)
			}

			users = append(users, etcdtest.User{
				Name:        fmt.Sprint("caller", len(users)),
				Password:    "secret",
				Permissions: may,
			})
		}
	}

	etcd := etcdtest.Start(t, etcdtest.WithAuth("root", users...))
	g.etcdClient = etcd.Admin()
	g.namespace = ""
	g.start("one")

	for i, user := range users {
		t.Run(user.Name, func(t *testing.T) {
			t.Parallel()
			conn, err := registryAs(t, etcd, user.Name).NewClient(
				&leaderpb.Counter_EtcdServiceDesc, kit.Insecure)
			kit.Must(t, err)

			call := func(within time.Duration) error {
				_, err := leaderpb.NewCounterClient(conn).Add(kit.Bounded(t, within),
					&leaderpb.AddRequest{})
				return err
			}
			if i%3 == 0 {
				kit.Must(t, call(kit.Soon))
				return
			}

			kit.Eventually(t, "the error says that etcd denied a read", func() bool {
				err = call(time.Second)
				return err == nil || strings.Contains(err.Error(), "permission denied")
			})

			if status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("a call with the permissions %+v: %v, want DeadlineExceeded",
					user.Permissions, err)
			}
		})
	}
}
