// Package seeds tests this project together with earlier registries, on real etcd. Our clients call the
// servers that an earlier registry registers, and its readers call our servers. docs/layouts.md lists
// the tests of each registry.
//
// etcd's client/v3/naming and go-zero's core/discov run as they are. The other systems are rewritten
// here from their formats and behavior. Module compat tests frameworks with large dependencies.
package seeds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
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

// roundRobin is the service config of callers without one from a proto file.
const roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// world is one etcd, an etcd client for the earlier registries, and a registry for our callers.
type world struct {
	t        *testing.T
	etcd     *etcdtest.Cluster
	theirs   *clientv3.Client
	registry *runtime.Registry
}

// newWorld starts an etcd with one member. The options are for the callers' registry.
func newWorld(t *testing.T, opts ...runtime.Option) *world {
	t.Helper()
	t.Parallel()
	return startWorld(t, opts...)
}

// startWorld is newWorld for a test that already runs in parallel.
func startWorld(t *testing.T, opts ...runtime.Option) *world {
	t.Helper()
	w := &world{t: t, etcd: etcdtest.Start(t)}
	w.theirs = w.etcd.Client(t)
	w.registry = w.newRegistry(opts...)
	return w
}

// newRegistry returns a registry with its own etcd client, which stands for another process and closes with the test.
func (w *world) newRegistry(opts ...runtime.Option) *runtime.Registry {
	w.t.Helper()
	return kit.Registry(w.t, io.Discard, w.etcd.Client(w.t), opts...)
}

// follow runs a function until stop or the end of the test, and waits for its return.
func (w *world) follow(run func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	stop = func() { cancel(); running.Wait() }
	w.t.Cleanup(stop)
	return stop
}

// put, delete and revoke are an operator's actions with etcdctl.

func (w *world) put(key, value string, opts ...clientv3.OpOption) {
	w.t.Helper()
	_, err := w.etcd.Admin().Put(bounded(w.t), key, value, opts...)
	kit.Must(w.t, err)
}

func (w *world) delete(key string) {
	w.t.Helper()
	response, err := w.etcd.Admin().Delete(bounded(w.t), key)
	kit.Must(w.t, err)
	if response.Deleted != 1 {
		w.t.Fatalf("delete %q: %d keys deleted, want 1", key, response.Deleted)
	}
}

func (w *world) revoke(lease clientv3.LeaseID) {
	w.t.Helper()
	_, err := w.etcd.Admin().Revoke(bounded(w.t), lease)
	kit.Must(w.t, err)
}

// entry is a key of etcd's with its value.
type entry struct {
	key, value string
	lease      clientv3.LeaseID
}

// entries lists the entries under a prefix.
func (w *world) entries(prefix string) []entry {
	w.t.Helper()
	response, err := w.etcd.Admin().Get(bounded(w.t), prefix, clientv3.WithPrefix())
	kit.Must(w.t, err)
	found := make([]entry, len(response.Kvs))
	for i, kv := range response.Kvs {
		found[i] = entry{string(kv.Key), string(kv.Value), clientv3.LeaseID(kv.Lease)}
	}
	return found
}

// entryOf waits until one entry has a server's address and returns that entry.
func (w *world) entryOf(s *server) entry {
	w.t.Helper()
	var found []entry
	// Some layouts separate host and port.
	has := regexp.MustCompile(strings.Replace(regexp.QuoteMeta(s.addr), ":", `\b\D{1,12}`, 1) + `\b`)
	w.eventually("one entry has "+s.addr, func() bool {
		found = slices.DeleteFunc(w.entries(""), func(e entry) bool { return !has.MatchString(e.key + " " + e.value) })
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

// server is a greeter that listens.
type server struct {
	name, addr string
	stop       func()          // returns once nothing listens
	ours       *runtime.Server // nil for a server that does not use etcd
}

// lease returns the lease of our server's entries.
func (s *server) lease() clientv3.LeaseID { return s.ours.Status()[0].LeaseID }

// serve starts a server that does not use etcd, for an earlier registry to register.
func (w *world) serve(name string) *server {
	w.t.Helper()
	lis := kit.Listen(w.t)
	g := grpc.NewServer()
	basic.RegisterGreeterServer(g, greeter{name: name})
	stop := w.follow(func(context.Context) {
		if err := g.Serve(lis); err != nil {
			w.t.Errorf("Serve of %s: %v, want nil", name, err)
		}
	})
	w.t.Cleanup(g.Stop) // before the wait
	return &server{name: name, addr: lis.Addr().String(), stop: func() { g.GracefulStop(); stop() }}
}

// publish starts a process of ours with one server, which stop drains. It returns once the server is in etcd.
func (w *world) publish(name string, desc *runtime.ServiceDesc, opts ...runtime.RegisterOption) *server {
	w.t.Helper()
	return w.publishIn(w.newRegistry(), name, desc, opts...)
}

// publishIn starts a server in a given process.
func (w *world) publishIn(registry *runtime.Registry, name string, desc *runtime.ServiceDesc, opts ...runtime.RegisterOption) *server {
	w.t.Helper()
	s := registry.NewServer(grpc.NewServer(), runtime.WithDrainDelay(200*time.Millisecond))
	basic.RegisterGreeterServer(s, greeter{name: name})
	s.Publish(desc, opts...)
	lis := kit.Listen(w.t)
	stop := w.follow(func(ctx context.Context) {
		if err := s.Serve(ctx, lis); err != nil {
			w.t.Errorf("Serve of %s: %v, want nil", name, err)
		}
	})
	w.eventuallyOr(func() string { return fmt.Sprintf("%s is registered: %+v", name, s.Status()) }, func() bool {
		status := s.Status()
		return len(status) == 1 && status[0].State == runtime.StateRegistered
	})
	return &server{name: name, addr: lis.Addr().String(), stop: stop, ours: s}
}

// conn returns a connection of our client.
func (w *world) conn(desc *runtime.ServiceDesc, opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	conn, err := w.registry.NewClient(desc, append(opts, kit.Insecure)...)
	kit.Must(w.t, err)
	return conn
}

// dial returns a connection with a given resolver.
func (w *world) dial(target string, builder resolver.Builder, opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	defaults := []grpc.DialOption{kit.Insecure, grpc.WithResolvers(builder), grpc.WithDefaultServiceConfig(roundRobin)}
	conn, err := grpc.NewClient(target, append(defaults, opts...)...)
	kit.Must(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func sayHello(ctx context.Context, conn grpc.ClientConnInterface) (string, error) {
	reply, err := basic.NewGreeterClient(conn).SayHello(ctx, &basic.HelloRequest{})
	return reply.GetMessage(), err
}

// balanced waits until calls reach exactly the named servers, equally often.
func (w *world) balanced(conn grpc.ClientConnInterface, names ...string) {
	w.t.Helper()
	const each = 5
	want := make(map[string]int, len(names))
	for _, name := range names {
		want[name] = each
	}
	var got map[string]int
	var failure error
	w.eventuallyOr(func() string { return fmt.Sprintf("calls are balanced over %v: last %v, %v", names, got, failure) }, func() bool {
		got, failure = map[string]int{}, nil
		for range each * len(names) {
			var name string
			if name, failure = sayHello(bounded(w.t), conn); failure != nil {
				return false
			}
			got[name]++
		}
		return maps.Equal(got, want)
	})
}

// eventually polls until ok returns true.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	w.eventuallyOr(func() string { return what }, ok)
}

func (w *world) eventuallyOr(what func() string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(kit.Soon); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			w.t.Fatalf("timeout after %v, want: %s", kit.Soon, what())
		}
	}
}

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), kit.Soon)
	t.Cleanup(cancel)
	return ctx
}

// ended reports whether err comes from the end of ctx.
func ended(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.Canceled)
}
