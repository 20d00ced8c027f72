// Package seeds tests this project together with earlier registries, on real
// etcd. Our clients call servers that an earlier registry has registered, and
// clients with its reader call our servers. docs/layouts.md lists the tests of
// each registry.
//
// Two of the registries are imported: etcd's client/v3/naming and go-zero's
// core/discov. The others are imitated here. Module compat tests frameworks
// with large dependencies.
package seeds

import (
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// roundRobin is the service config of callers without a ServiceDesc.
const roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// world is one etcd, an etcd client for the earlier registries, and a registry
// for our callers.
type world struct {
	t        *testing.T
	etcd     *etcdtest.Cluster
	theirs   *clientv3.Client
	registry *runtime.Registry
}

// newWorld starts an etcd with one member, and makes the test parallel. The
// options are for w.registry.
func newWorld(t *testing.T, opts ...runtime.Option) *world {
	t.Helper()
	t.Parallel()

	return startWorld(t, opts...)
}

// startWorld does the same as newWorld for a test that is already parallel.
func startWorld(t *testing.T, opts ...runtime.Option) *world {
	t.Helper()

	w := &world{t: t, etcd: etcdtest.Start(t)}
	w.theirs = w.etcd.Client(t)
	w.registry = w.newRegistry(opts...)

	return w
}

// newRegistry returns a registry with its own etcd client, as another process
// has. The end of the test closes it.
func (w *world) newRegistry(opts ...runtime.Option) *runtime.Registry {
	w.t.Helper()
	return kit.Registry(w.t, io.Discard, w.etcd.Client(w.t), opts...)
}

// put and revoke do what an operator does with etcdctl.

func (w *world) put(key, value string) {
	w.t.Helper()

	_, err := w.etcd.Admin().Put(kit.Context(w.t), key, value)
	kit.Must(w.t, err)
}

func (w *world) revoke(lease clientv3.LeaseID) {
	w.t.Helper()

	_, err := w.etcd.Admin().Revoke(kit.Context(w.t), lease)
	kit.Must(w.t, err)
}

// entry is a key in etcd, with its value and lease.
type entry struct {
	key, value string
	lease      clientv3.LeaseID
}

// entries lists the entries whose keys begin with a prefix.
func (w *world) entries(prefix string) []entry {
	w.t.Helper()

	response, err := w.etcd.Admin().Get(kit.Context(w.t), prefix, clientv3.WithPrefix())
	kit.Must(w.t, err)

	found := make([]entry, len(response.Kvs))
	for i, kv := range response.Kvs {
		found[i] = entry{string(kv.Key), string(kv.Value), clientv3.LeaseID(kv.Lease)}
	}

	return found
}

// entryOf waits until exactly one entry has a server's address, in its key or
// value, and returns that entry.
func (w *world) entryOf(s *server) entry {
	w.t.Helper()

	var found []entry

	// In some layouts other characters than ":" separate host and port.
	addr := strings.Replace(regexp.QuoteMeta(s.addr), ":", `\b\D{1,12}`, 1)
	has := regexp.MustCompile(addr + `\b`)

	kit.Eventually(w.t, "one entry has "+s.addr, func() bool {
		found = slices.DeleteFunc(w.entries(""), func(e entry) bool {
			return !has.MatchString(e.key + " " + e.value)
		})

		return len(found) == 1
	})

	return found[0]
}

// greeter answers with its name.
type greeter struct {
	basic.UnimplementedGreeterServer
	name string
}

func (g greeter) SayHello(context.Context, *basic.HelloRequest) (*basic.HelloReply, error) {
	return &basic.HelloReply{Message: g.name}, nil
}

// server is a running server of the greeter.
type server struct {
	name, addr string
	stop       func()          // stops the server and returns when it has ended
	ours       *runtime.Server // nil for a server that does not use etcd
}

// lease returns the lease of our server's entries.
func (s *server) lease() clientv3.LeaseID {
	return s.ours.Status()[0].LeaseID
}

// serve starts a server that does not use etcd, for an earlier registry to
// register.
func (w *world) serve(name string) *server {
	w.t.Helper()

	lis := kit.Listen(w.t)
	g := grpc.NewServer()
	basic.RegisterGreeterServer(g, greeter{name: name})
	stop := kit.Serve(w.t, g, lis)

	stopInOrder := func() {
		g.GracefulStop()
		stop()
	}

	return &server{name: name, addr: lis.Addr().String(), stop: stopInOrder}
}

// publish starts a server with a registry of its own, and returns once the
// server is registered. The field stop of the server drains it.
func (w *world) publish(
	name string,
	desc *runtime.ServiceDesc,
	opts ...runtime.RegisterOption,
) *server {
	w.t.Helper()
	return w.publishIn(w.newRegistry(), name, desc, opts...)
}

// publishIn does the same as publish, with the given registry.
func (w *world) publishIn(
	registry *runtime.Registry,
	name string,
	desc *runtime.ServiceDesc,
	opts ...runtime.RegisterOption,
) *server {
	w.t.Helper()

	s := registry.NewServer(grpc.NewServer(), runtime.WithDrainDelay(200*time.Millisecond))
	basic.RegisterGreeterServer(s, greeter{name: name})
	s.Publish(desc, opts...)

	lis := kit.Listen(w.t)
	end := kit.Run(w.t, func(ctx context.Context) error { return s.Serve(ctx, lis) })
	stop := func() { kit.Must(w.t, end()) }
	w.t.Cleanup(stop)
	kit.Registered(w.t, s)

	return &server{name: name, addr: lis.Addr().String(), stop: stop, ours: s}
}

// conn returns a connection of our client to a service.
func (w *world) conn(desc *runtime.ServiceDesc, opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()

	conn, err := w.registry.NewClient(desc, append(opts, kit.Insecure)...)
	kit.Must(w.t, err)

	return conn
}

// dial returns a connection of grpc.NewClient with the given resolver.
func (w *world) dial(target string, builder resolver.Builder) *grpc.ClientConn {
	w.t.Helper()

	conn, err := grpc.NewClient(target, kit.Insecure, grpc.WithResolvers(builder),
		grpc.WithDefaultServiceConfig(roundRobin))
	kit.Must(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })

	return conn
}

func sayHello(ctx context.Context, conn grpc.ClientConnInterface) (string, error) {
	reply, err := basic.NewGreeterClient(conn).SayHello(ctx, &basic.HelloRequest{})
	return reply.GetMessage(), err
}

// balanced makes rounds of calls until one round reaches exactly the named
// servers, each equally often.
func (w *world) balanced(conn grpc.ClientConnInterface, names ...string) {
	w.t.Helper()

	const each = 5

	want := map[string]int{}
	for _, name := range names {
		want[name] = each
	}

	var got map[string]int
	var failure error
	describe := func() string {
		return fmt.Sprintf("balanced over %v: got %v, error %v", names, got, failure)
	}

	kit.EventuallyOr(w.t, kit.Soon, describe, func() bool {
		got = map[string]int{}
		for range each * len(names) {
			var name string
			name, failure = sayHello(kit.Context(w.t), conn)
			if failure != nil {
				return false
			}

			got[name]++
		}

		return maps.Equal(got, want)
	})
}
