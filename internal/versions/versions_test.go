package versions

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/version"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestVersions checks that client, server and gRPC have the requested versions.
func TestVersions(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	status, err := e.client().Status(bounded(t), e.endpoint())
	must.Succeed(t, err)

	for _, tt := range []struct{ name, got, want string }{
		{"client", version.Version, os.Getenv("TEST_CLIENT_VERSION")},
		{"server", status.Version, os.Getenv("TEST_ETCD_VERSION")},
		{"gRPC", grpc.Version, os.Getenv("TEST_GRPC_VERSION")},
	} {
		t.Logf("%s %s", tt.name, tt.got)

		if tt.got != tt.want && tt.want != "" {
			t.Errorf("the %s is %s, want %s", tt.name, tt.got, tt.want)
		}
	}
}

// TestCalls makes calls while servers come and go, a live config drains one,
// entries are lost, and etcd is restarted.
func TestCalls(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	registry := newRegistry(t, e.client())
	first, stopFirst := serve(t, registry)
	callers := newRegistry(t, e.client())
	caller := newCaller(t, callers)
	caller.Reaches(first)

	second, _ := serve(t, registry)
	caller.Reaches(first, second)

	ctx := bounded(t)
	drain := fmt.Sprintf(`{"loadBalancingConfig": [{"etcd": {"drain": [%q]}}]}`, first)
	must.Succeed(t, registry.SetServiceConfig(ctx, key, drain))
	caller.Reaches(second)
	must.Succeed(t, registry.SetServiceConfig(ctx, key, ""))
	caller.Reaches(first, second)

	stopFirst()
	caller.Reaches(second)
	watchUntil(t, callers, key, "only the second server", func(all []runtime.Endpoint) bool {
		return len(all) == 1 && all[0].Addr == second
	})

	admin := e.client()
	old := leaseOf(t, admin)
	_, err := admin.Revoke(ctx, old)
	must.Succeed(t, err)

	eventually(t, "the server is registered under another lease", func() bool {
		l := leaseOf(t, admin)
		return l != 0 && l != old
	})

	_, err = admin.Delete(ctx, key+"/", clientv3.WithPrefix())
	must.Succeed(t, err)
	eventually(t, "the server is registered after its key was deleted", func() bool {
		return leaseOf(t, admin) != 0
	})

	e.kill()
	e.start()
	third, _ := serve(t, registry)
	caller.Reaches(second, third)
	caller.Stop()

	var entries []clientv3.Op // of servers that do not exist
	for i := range 2500 {
		value := fmt.Sprintf(`{"Op":0,"Addr":"127.0.0.1:%d"}`, i+1)
		entries = append(entries, clientv3.OpPut(fmt.Sprint("many/", i), value))
	}

	for batch := range slices.Chunk(entries, 100) {
		_, err := admin.Txn(bounded(t)).Then(batch...).Commit()
		must.Succeed(t, err)
	}

	watchUntil(t, callers, "many", "all pages", func(all []runtime.Endpoint) bool {
		return len(all) == 2500
	})
}

// TestWiped restarts etcd without data, at a lower revision. Different versions
// of etcd show the lower revision in different ways.
func TestWiped(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	registry := newRegistry(t, e.client())
	first, _ := serve(t, registry)
	caller := newCaller(t, registry)
	caller.Reaches(first)

	e.kill()
	must.Succeed(t, os.RemoveAll(e.dir))
	e.start()
	e.await()
	admin := e.client()
	eventually(t, "the first server is registered again", func() bool {
		return leaseOf(t, admin) != 0
	})

	second, stopSecond := serve(t, registry)
	caller.Reaches(first, second)
	stopSecond()
	caller.Reaches(first)
	caller.Stop()
}

// TestNoLeader stops two of three members: calls go on, and the status has an
// error. When the members are back, callers find a new server.
func TestNoLeader(t *testing.T) {
	t.Parallel()
	members := startThree(t)
	registry := newRegistry(t, members[0].client())
	first, _ := serve(t, registry)
	caller := newCaller(t, registry)
	caller.Reaches(first)

	members[1].kill()
	members[2].kill()

	eventually(t, "the status says why", func() bool {
		keys := registry.Status().Keys
		return len(keys) == 1 && keys[0].Err != nil
	})

	members[1].start()
	members[2].start()
	members[1].await()
	second, _ := serve(t, registry)
	caller.Reaches(first, second)
	caller.Stop()
}

// TestUsers makes etcd require passwords. When etcd restarts, the tokens of its
// clients become invalid.
func TestUsers(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	enableAuth(t, e.client())

	as := func(name string) func(*clientv3.Config) {
		return func(c *clientv3.Config) {
			c.Username = name
			c.Password = name
		}
	}

	servers := newRegistry(t, e.client(as("server")))
	callers := newRegistry(t, e.client(as("caller")))
	first, _ := serve(t, servers)
	caller := newCaller(t, callers)
	caller.Reaches(first)

	e.kill()
	e.start()
	second, _ := serve(t, servers)
	caller.Reaches(first, second)
	caller.Stop()
}
