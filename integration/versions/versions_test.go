package versions

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.etcd.io/etcd/api/v3/version"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// TestVersions checks that client, server and gRPC have the versions that were asked for.
func TestVersions(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	status, err := e.client().Status(ctx, e.endpoint())
	if err != nil {
		t.Fatal(err)
	}
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

func TestCallsFollowServers(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	registry, _ := newRegistry(t, e.client())
	first, stopFirst := serve(t, registry)
	callers, _ := newRegistry(t, e.client())
	client, addrs := newCaller(t, callers), follow(t, callers, key)
	if got := call(t, client); got != first {
		t.Errorf("%s answers, want %s", got, first)
	}
	second, _ := serve(t, registry)
	awaitCalls(t, client, first, second)

	calling := keepCalling(t, client)
	stopFirst()
	calling.stop()
	awaitCalls(t, client, second)
	eventually(t, "the watch has the second alone", func() bool { return slices.Equal(addrs(), []string{second}) })
}

func TestLiveConfigDrains(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	registry, _ := newRegistry(t, e.client())
	first, _ := serve(t, registry)
	second, _ := serve(t, registry)
	client := newCaller(t, registry)
	awaitCalls(t, client, first, second)
	set := func(json string) {
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		if err := registry.SetServiceConfig(ctx, key, json); err != nil {
			t.Fatal(err)
		}
	}
	set(fmt.Sprintf(`{"loadBalancingConfig": [{"etcd": {"drain": [%q]}}]}`, first))
	awaitCalls(t, client, second)
	set("")
	awaitCalls(t, client, first, second)
}

func TestRegistrationReturns(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	registry, _ := newRegistry(t, e.client())
	addr, _ := serve(t, registry)
	client, admin := newCaller(t, registry), e.client()
	call(t, client)
	calling := keepCalling(t, client)

	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	old := leaseOf(t, admin)
	if _, err := admin.Revoke(ctx, old); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server is registered under another lease", func() bool { l := leaseOf(t, admin); return l != 0 && l != old })
	if _, err := admin.Delete(ctx, key+"/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server is registered after its key was deleted", func() bool { return leaseOf(t, admin) != 0 })
	calling.stop()
	awaitCalls(t, client, addr)
}

func TestRestart(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	registry, _ := newRegistry(t, e.client())
	first, _ := serve(t, registry)
	client := newCaller(t, registry)
	call(t, client)

	calling := keepCalling(t, client)
	e.kill()
	e.start()
	second, _ := serve(t, registry)
	calling.stop()
	awaitCalls(t, client, first, second)
}

// TestWiped restarts etcd without data, at a lower revision. How that shows differs between versions.
func TestWiped(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	registry, _ := newRegistry(t, e.client())
	first, _ := serve(t, registry)
	client := newCaller(t, registry)
	call(t, client)

	calling := keepCalling(t, client)
	e.kill()
	if err := os.RemoveAll(e.dir); err != nil {
		t.Fatal(err)
	}
	e.start()
	e.await()
	admin := e.client()
	eventually(t, "the first server is registered again", func() bool { return leaseOf(t, admin) != 0 })
	second, stopSecond := serve(t, registry)
	awaitCalls(t, client, first, second)
	stopSecond()
	awaitCalls(t, client, first)
	calling.stop()
}

// TestCompacted compacts the revisions that a watch has missed.
func TestCompacted(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	registry, _ := newRegistry(t, e.client())
	addrs := follow(t, registry, key)
	put(t, e.client(), key, 1)
	eventually(t, "the watch has one", func() bool { return len(addrs()) == 1 })

	e.kill()
	known := e.addr
	e.addr = freeAddr(t)
	e.start()
	e.await()
	admin := e.client()
	put(t, admin, key, 5)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	resp, err := admin.Get(ctx, key)
	if err == nil {
		_, err = admin.Compact(ctx, resp.Header.GetRevision())
	}
	if err != nil {
		t.Fatal(err)
	}
	e.kill()
	e.addr = known
	e.start()
	eventually(t, "the watch has five", func() bool { return len(addrs()) == 5 })
}

func TestListsInPages(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	put(t, e.client(), key, 2500)
	registry, _ := newRegistry(t, e.client())
	addrs := follow(t, registry, key)
	eventually(t, "the watch has all", func() bool { return len(addrs()) == 2500 })
}

// TestSilence keeps a watch quiet. The runtime probes the range, and finds that nothing was missed.
func TestSilence(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	var reads atomic.Int64
	registry, logged := newRegistry(t, e.client(func(c *clientv3.Config) {
		c.DialOptions = append(c.DialOptions, grpc.WithChainUnaryInterceptor(countReads(&reads)))
	}))
	admin := e.client()
	put(t, admin, key, 3)
	addrs := follow(t, registry, key)
	eventually(t, "the watch has all", func() bool { return len(addrs()) == 3 })
	before := reads.Load()
	eventually(t, "endpoints and live config were probed", func() bool { return reads.Load() >= before+2 })
	if strings.Contains(logged.String(), "level=WARN") {
		t.Errorf("the log is\n%s", logged)
	}
}

// TestNoLeader stops two of three members: calls go on, the status has an error, and all is well once they are back.
func TestNoLeader(t *testing.T) {
	t.Parallel()
	members := startThree(t)
	registry, _ := newRegistry(t, members[0].client())
	first, _ := serve(t, registry)
	client := newCaller(t, registry)
	call(t, client)

	calling := keepCalling(t, client)
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
	awaitCalls(t, client, first, second)
	calling.stop()
}

func TestTLS(t *testing.T) {
	t.Parallel()
	e := startEtcd(t, func(e *etcd) { e.scheme = "https" })
	registry, _ := newRegistry(t, e.client())
	addr, _ := serve(t, registry)
	awaitCalls(t, newCaller(t, registry), addr)
}

// TestUsers makes etcd require passwords. Its tokens become invalid when it restarts.
func TestUsers(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	enableAuth(t, e.client())
	as := func(name string) func(*clientv3.Config) {
		return func(c *clientv3.Config) { c.Username, c.Password = name, name }
	}
	servers, _ := newRegistry(t, e.client(as("server")))
	callers, _ := newRegistry(t, e.client(as("caller")))
	first, _ := serve(t, servers)
	client := newCaller(t, callers)
	call(t, client)

	calling := keepCalling(t, client)
	e.kill()
	e.start()
	second, _ := serve(t, servers)
	awaitCalls(t, client, first, second)
	calling.stop()
}
