// Package world holds the shared fixtures of this module: a real etcd, servers
// that answer with their names, and our clients and servers.
package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/migrationtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// soon bounds the wait for a change that usually takes a moment. It is long
// because machines may be busy.
const soon = 15 * time.Second

// World is one etcd and one of our registries on it.
type World struct {
	t        testing.TB
	Etcd     *etcdtest.Cluster
	Registry *runtime.Registry
}

// New starts an etcd with one member.
func New(t testing.TB) *World {
	t.Helper()

	w := &World{t: t, Etcd: etcdtest.Start(t)}
	w.Registry = w.NewRegistry()

	return w
}

// NewRegistry returns one of our registries, with an etcd client of its own. It
// is closed when the test ends.
func (w *World) NewRegistry() *runtime.Registry {
	w.t.Helper()

	registry := runtime.NewRegistry(w.Etcd.Client(w.t),
		runtime.WithLogger(slog.New(slog.DiscardHandler)))
	w.t.Cleanup(func() {
		if err := registry.Close(w.Context()); err != nil {
			w.t.Errorf("close the registry: %v", err)
		}
	})

	return registry
}

// Quiet changes the config of the etcd client of a framework's registry, so
// that the client logs nothing and ends with the test.
func (w *World) Quiet(config *clientv3.Config) {
	ctx, cancel := context.WithCancel(context.Background())
	w.t.Cleanup(cancel)

	config.Context = ctx
	config.Logger = zap.NewNop()
}

// EtcdAddr returns the etcd member's address as host:port, for registries that
// take no URL.
func (w *World) EtcdAddr() string {
	return strings.TrimPrefix(w.Etcd.Endpoints()[0], "http://")
}

// Context returns a context that ends after 15 s, or with the test.
func (w *World) Context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	w.t.Cleanup(cancel)

	return ctx
}

// Put puts a value, like an operator with etcdctl.
func (w *World) Put(key, value string) {
	w.t.Helper()

	_, err := w.Etcd.Admin().Put(w.Context(), key, value)
	Must(w.t, err)
}

// Remove deletes a key, like an operator with etcdctl.
func (w *World) Remove(key string) {
	w.t.Helper()

	deleted, err := w.Etcd.Admin().Delete(w.Context(), key)
	if err != nil || deleted.Deleted != 1 {
		w.t.Errorf("delete %s: %v, %v; want one deleted key", key, deleted, err)
	}
}

// Entries returns keys and values under a prefix.
func (w *World) Entries(prefix string) map[string]string {
	w.t.Helper()

	response, err := w.Etcd.Admin().Get(w.Context(), prefix, clientv3.WithPrefix())
	Must(w.t, err)

	found := make(map[string]string, len(response.Kvs))
	for _, kv := range response.Kvs {
		found[string(kv.Key)] = string(kv.Value)
	}

	return found
}

// Watched waits until etcd has received a watch of a key: the frameworks'
// watchers do not report their start.
func (w *World) Watched(key string) {
	w.t.Helper()
	Must(w.t, w.Etcd.Calls().Wait(w.Context(), etcdtest.Watch, key, 1))
}

// Eventually polls until ok returns true.
func (w *World) Eventually(what func() string, ok func() bool) {
	w.t.Helper()

	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()

	for deadline := time.Now().Add(soon); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			w.t.Fatalf("timeout after %v: %s", soon, what())
		}
	}
}

// Becomes waits until a list, with its elements printed and sorted, equals
// want.
func Becomes[T any](w *World, what string, list func() ([]T, error), want ...T) {
	w.t.Helper()

	texts := func(all []T) []string {
		texts := make([]string, len(all))
		for i, one := range all {
			texts[i] = fmt.Sprintf("%+v", one)
		}

		slices.Sort(texts)

		return texts
	}

	var got []string
	var failure error
	describe := func() string {
		return fmt.Sprintf("%s: got\n%q, error %v, want\n%q",
			what, got, failure, texts(want))
	}

	w.Eventually(describe, func() bool {
		all, err := list()
		got = texts(all)
		failure = err

		return err == nil && slices.Equal(got, texts(want))
	})
}

// Greeter answers with its name.
type Greeter struct {
	basic.UnimplementedGreeterServer
	Name string
}

// SayHello implements basic.GreeterServer.
func (g *Greeter) SayHello(
	context.Context,
	*basic.HelloRequest,
) (*basic.HelloReply, error) {
	return &basic.HelloReply{Message: g.Name}, nil
}

// Must ends the test if err is not nil.
var Must = must.Succeed

// Check ends a program if err is not nil.
func Check(err error) {
	if err != nil {
		panic(err)
	}
}

// SayHello makes one call, and returns the name of the server that answered.
func SayHello(ctx context.Context, conn grpc.ClientConnInterface) (string, error) {
	reply, err := basic.NewGreeterClient(conn).SayHello(ctx, &basic.HelloRequest{})
	return reply.GetMessage(), err
}

// Callers returns a function for [migrationtest.Kind] that starts a caller with
// its own connection.
func Callers(dial func() *grpc.ClientConn) func() (migrationtest.Call, func()) {
	return func() (migrationtest.Call, func()) {
		conn := dial()
		call := func(ctx context.Context) (string, error) { return SayHello(ctx, conn) }

		return call, func() { _ = conn.Close() }
	}
}

// Listen listens on a free port.
func (w *World) Listen() net.Listener {
	w.t.Helper()

	lis, err := net.Listen("tcp", "127.0.0.1:0")
	Must(w.t, err)

	return lis
}

// FreeAddr returns an address to listen on, for servers that take no listener.
func FreeAddr() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	Check(err)
	Check(listener.Close())

	return listener.Addr().String()
}

// Run calls run in the background. The returned function calls stop and waits
// until run has returned; it is also called when the test ends.
func (w *World) Run(name string, run func() error, stop func()) func() {
	var running sync.WaitGroup
	running.Go(func() {
		if err := run(); err != nil && !errors.Is(err, context.Canceled) {
			w.t.Errorf("%s ended with %v, want no error", name, err)
		}
	})

	all := sync.OnceFunc(func() {
		stop()
		running.Wait()
	})

	w.t.Cleanup(all)

	return all
}

// Server is one of our servers.
type Server struct {
	Addr string
	Stop func() // drains the server
}

// Publish starts one of our servers and waits until it is in etcd.
func (w *World) Publish(
	name string,
	desc *runtime.ServiceDesc,
	opts ...runtime.RegisterOption,
) *Server {
	w.t.Helper()

	server := w.NewRegistry().NewServer(grpc.NewServer(),
		runtime.WithDrainDelay(200*time.Millisecond))

	return w.PublishOn(server, &Greeter{Name: name}, desc, opts...)
}

// PublishOn starts a server like Publish, but a given server with a given
// implementation.
func (w *World) PublishOn(
	server *runtime.Server,
	impl basic.GreeterServer,
	desc *runtime.ServiceDesc,
	opts ...runtime.RegisterOption,
) *Server {
	w.t.Helper()

	basic.RegisterGreeterServer(server, impl)
	server.Publish(desc, opts...)

	lis := w.Listen()
	ctx, cancel := context.WithCancel(context.Background())
	stop := w.Run("server", func() error { return server.Serve(ctx, lis) }, cancel)

	want := func() string {
		return fmt.Sprintf("got the status %+v, want one registered entry",
			server.Status())
	}
	w.Eventually(want, func() bool {
		status := server.Status()
		return len(status) == 1 && status[0].State == runtime.StateRegistered
	})

	return &Server{lis.Addr().String(), stop}
}

// Ours returns our servers and callers of a service.
func (w *World) Ours(desc *runtime.ServiceDesc) migrationtest.Kind {
	return migrationtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			return nil, w.Publish(name, desc).Stop
		},
		Dial: Callers(func() *grpc.ClientConn { return w.Conn(desc) }),
	}
}

// Register registers an endpoint with our registry until the test ends.
func (w *World) Register(
	key string,
	endpoint runtime.Endpoint,
	layouts ...runtime.Layout,
) *runtime.Registration {
	w.t.Helper()

	registration, err := w.NewRegistry().Register(w.Context(), key, endpoint,
		runtime.WithLayouts(layouts...))
	Must(w.t, err)

	return registration
}

// Conn returns one of our connections to a service.
func (w *World) Conn(
	desc *runtime.ServiceDesc,
	opts ...grpc.DialOption,
) *grpc.ClientConn {
	w.t.Helper()

	conn, err := w.Registry.NewClient(desc, append(opts, Plaintext())...)
	Must(w.t, err)

	return conn
}

// Plaintext is the dial option of all callers.
func Plaintext() grpc.DialOption {
	return grpc.WithTransportCredentials(insecure.NewCredentials())
}

// Reaches waits until calls reach exactly the named servers.
func (w *World) Reaches(conn grpc.ClientConnInterface, names ...string) {
	w.t.Helper()

	const calls = 60 // also enough for weights of 1 to 10
	reach := func() (reached []string, err error) {
		for range calls {
			name, err := SayHello(w.Context(), conn)
			if err != nil {
				return nil, err
			}

			reached = append(reached, name)
		}

		slices.Sort(reached)

		return slices.Compact(reached), nil
	}

	Becomes(w, "calls reach", reach, names...)
}

// Watch follows a key with our registry and returns a getter of the latest set.
func (w *World) Watch(key string) func() ([]runtime.Endpoint, error) {
	w.t.Helper()

	var mu sync.Mutex
	var last []runtime.Endpoint
	failure := errors.New("nothing yet")

	ctx, cancel := context.WithCancel(context.Background())
	watch := func() error {
		for endpoints, err := range w.Registry.Watch(ctx, key) {
			mu.Lock()
			last = endpoints
			failure = err
			mu.Unlock()
		}

		return nil
	}

	w.Run("watch "+key, watch, cancel)

	return func() ([]runtime.Endpoint, error) {
		mu.Lock()
		defer mu.Unlock()

		return last, failure
	}
}

// homeMade is a layout of the kind json_layout.
var homeMade = endpoint.MappedJSON(endpoint.JSONFields{
	Addr:     "url",
	Version:  "ver",
	Weight:   "w",
	Metadata: "labels",
	Name:     "service",
})

// Beside registers a server in a reader's own layout and in each of the other
// layouts, and compares the reader's reaction with the table in package
// endpoint. key returns the key of a service. reads returns "" if the reader
// finds the server at addr, otherwise its reaction.
func Beside(
	t *testing.T,
	own endpoint.Layout,
	key func(service string) string,
	reads func(w *World, service, addr string) string,
) {
	t.Helper()

	w := New(t)
	public := func(l endpoint.Layout) runtime.Layout {
		return endpoint.Public(l).(runtime.Layout)
	}

	at := runtime.Endpoint{
		Instance: "one",
		Addr:     "127.0.0.1:9000",
		Version:  "v2",
		Weight:   7,
		Metadata: map[string]string{"k": "v"},
	}

	for i, second := range append(endpoint.Layouts(), homeMade) {
		service := fmt.Sprintf("service%d", i)
		registration, err := w.Registry.Register(w.Context(), key(service), at,
			runtime.WithLayouts(public(own), public(second)))
		if err != nil {
			continue // both layouts have the same key: package endpoint tests that case
		}

		want := endpoint.Trouble(own, second)
		got := reads(w, service, at.Addr)

		if (got == "") != (want == "") || !strings.Contains(want, got) {
			t.Errorf("with the layout %s the reader's reaction is %q, want %q, as in package endpoint",
				second, got, want)
		}

		if err := registration.Close(w.Context()); err != nil {
			t.Error(err)
		}
	}
}
