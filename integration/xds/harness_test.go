// Package xds tests the xDS server on a real etcd, with xDS clients of gRPC in
// three languages.
package xds

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	grpcxds "google.golang.org/grpc/xds"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds"
)

// etcd is shared by the tests. Each test has its own namespace.
var etcd *etcdtest.Cluster

func TestMain(m *testing.M) {
	os.Exit(kit.OnEtcd(m, &etcd))
}

// world is a namespace of etcd with one service, its servers, and xDS servers
// (bridges).
type world struct {
	t         *testing.T
	namespace string
	logs      kit.Logs
	registry  *runtime.Registry
	desc      *runtime.ServiceDesc
	bridges   []*bridge
}

// newWorld returns a world with one bridge. config is the service config in the
// service's description.
func newWorld(t *testing.T, config string) *world {
	t.Helper()

	t.Cleanup(func() { leak.None(t, "github.com/etcdrpc/protoc-gen-go-etcd/xds") })
	w := &world{t: t, namespace: strings.ReplaceAll(t.Name(), " ", "_") + "/"}
	w.desc = &runtime.ServiceDesc{
		Name:          "acme.Echo",
		Key:           "acme/echo",
		Authority:     "acme.echo",
		ServiceConfig: config,
	}

	w.registry = w.newRegistry()
	w.bridges = []*bridge{w.bridge()}
	t.Cleanup(w.explain)

	return w
}

func (w *world) newRegistry(opts ...runtime.Option) *runtime.Registry {
	w.t.Helper()
	return kit.Registry(w.t, &w.logs, etcd.Client(w.t),
		append([]runtime.Option{runtime.WithNamespace(w.namespace)}, opts...)...)
}

// set puts the live service config of the service.
func (w *world) set(config string) {
	w.t.Helper()
	kit.Must(w.t, w.registry.SetServiceConfig(kit.Context(w.t), w.desc.Key, config))
}

// policy returns a service config with options of the policy etcd.
func policy(options string) string {
	return `{"loadBalancingConfig":[{"etcd":{` + options + `}}]}`
}

// bridge is an xDS server.
type bridge struct {
	*xds.Server
	addr string
	stop func()
}

// bridge starts an xDS server at a free address.
func (w *world) bridge() *bridge {
	w.t.Helper()
	return w.bridgeAt(kit.Listen(w.t), w.newRegistry(), w.desc)
}

// explain logs what clients have received and acknowledged, if the test has
// failed.
func (w *world) explain() {
	if !w.t.Failed() {
		return
	}

	for _, b := range w.bridges {
		for _, client := range b.Status().Clients {
			w.t.Logf("%s: %+v", client.Agent, client.Types)
		}
	}
}

func (w *world) bridgeAt(
	lis net.Listener,
	registry *runtime.Registry,
	services ...*runtime.ServiceDesc,
) *bridge {
	w.t.Helper()

	server, err := xds.NewServer(registry, services,
		xds.WithLogger(slog.New(slog.NewTextHandler(&w.logs, nil))))
	kit.Must(w.t, err)
	g := grpc.NewServer()
	server.Register(g)

	return &bridge{server, lis.Addr().String(), kit.Serve(w.t, g, lis)}
}

// instance is a server of the service.
type instance struct {
	name string
	addr string
	stop func() // drains the server
	kill func() // stops serving, and keeps the entry in etcd
}

// add starts a server and waits until it is in etcd.
func (w *world) add(name string, opts ...runtime.RegisterOption) *instance {
	w.t.Helper()

	i := w.addAt(kit.Listen(w.t), name,
		append([]runtime.RegisterOption{runtime.WithInstance(name)}, opts...)...)
	w.await(name)

	return i
}

// addEntry starts a server without registration, and puts an entry with the
// metadata.
func (w *world) addEntry(name, metadata string) *instance {
	w.t.Helper()

	lis := kit.Listen(w.t)
	i := &instance{name: name, addr: lis.Addr().String()}
	kit.Serve(w.t, grpc.NewServer(grpc.UnknownServiceHandler(i.handle)), lis)
	w.put(i, metadata)
	w.await(name)

	return i
}

// put puts an entry of an instance with the metadata.
func (w *world) put(i *instance, metadata string) {
	w.t.Helper()

	w.putValue(i.name, fmt.Sprintf(`{"Addr":%q,"Metadata":{%s}}`, i.addr, metadata))
}

// putValue puts an entry with any value.
func (w *world) putValue(name, value string) {
	w.t.Helper()

	_, err := etcd.Admin().Put(kit.Context(w.t), w.namespace+w.desc.Key+"/"+name, value)
	kit.Must(w.t, err)
}

func (w *world) addAt(lis net.Listener, name string, opts ...runtime.RegisterOption) *instance {
	w.t.Helper()

	i := &instance{name: name, addr: lis.Addr().String()}
	g := grpc.NewServer(grpc.UnknownServiceHandler(i.handle))
	registry := w.newRegistry()
	s := registry.NewServer(g, runtime.WithDrainDelay(200*time.Millisecond))
	s.Publish(w.desc, opts...)
	stop := kit.Run(w.t, func(ctx context.Context) error { return s.Serve(ctx, lis) })
	i.stop = func() { _ = stop() }
	i.kill = g.Stop // a killed server returns an error

	return i
}

// await waits until an instance is in etcd.
func (w *world) await(name string) {
	w.t.Helper()

	isNamed := func(e runtime.Endpoint) bool { return e.Instance == name }
	for set, err := range w.registry.Watch(kit.Context(w.t), w.desc.Key) {
		if err == nil && slices.ContainsFunc(set, isNamed) {
			return
		}
	}

	w.t.Fatalf("%s is not registered, want its entry in etcd", name)
}

// handle answers calls of any method with the name of the instance, except that
// some methods hang or fail.
func (i *instance) handle(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	md, _ := metadata.FromIncomingContext(stream.Context())

	switch {
	case strings.HasSuffix(method, "/Slow"),
		strings.HasSuffix(method, "/Stuck") && i.name == "bad":
		<-stream.Context().Done()
		return stream.Context().Err()

	case strings.HasSuffix(method, "/Flaky") && len(md.Get("grpc-previous-rpc-attempts")) == 0:
		return status.Error(codes.Unavailable, "the first attempt fails")
	case strings.HasSuffix(method, "/Fail") && strings.HasPrefix(i.name, "bad"):
		return status.Error(codes.Internal, "this instance fails")
	}

	if err := stream.RecvMsg(new(wrapperspb.StringValue)); err != nil {
		return err
	}

	return stream.SendMsg(wrapperspb.String(i.name))
}

// order is a command to a client to make calls.
type order struct {
	Calls    int               `json:"calls"`
	At       int               `json:"at"` // number of concurrent calls
	Method   string            `json:"method"`
	Metadata map[string]string `json:"metadata"`
	Timeout  int               `json:"timeout"` // in ms
	Wait     bool              `json:"wait"`    // with wait for ready

	// the target to dial before the calls; "" keeps the last target. Only
	// clients in other processes read this field.
	Target string `json:"target"`
}

// outcome is the result of an order.
type outcome struct {
	By     map[string]int `json:"by"` // number of answered calls, by instance
	Errors map[string]int `json:"errors"`
	Most   float64        `json:"most"` // the longest call, in ms
}

// caller is a client that carries out orders, in any language.
type caller interface{ call(order) outcome }

// calls returns an order of n calls, one after another.
func calls(n int) order {
	return order{Calls: n, At: 1, Method: "/acme.Echo/Say", Timeout: 10_000}
}

func (o order) to(method string) order {
	o.Method = method
	return o
}

func (o order) with(header, value string) order {
	o.Metadata = map[string]string{header: value}
	return o
}

// language is a programming language with xDS clients.
type language struct {
	name string
	dial func(w *world, zone string) caller
}

// languages returns the languages that XDS_CLIENTS names, such as
// "go,js,python". The default is Go alone.
func languages(t *testing.T) (all []language) {
	t.Helper()

	for name := range strings.SplitSeq(cmp.Or(os.Getenv("XDS_CLIENTS"), "go"), ",") {
		switch name {
		case "go":
			all = append(all, language{name, (*world).goClient})
		case "js":
			all = append(all, language{name, func(w *world, zone string) caller {
				return w.process(zone, "node", "clients/client.js")
			}})

		case "python":
			all = append(all, language{name, func(w *world, zone string) caller {
				return w.process(zone, "/usr/bin/python3", "clients/client.py")
			}})

		default:
			t.Fatalf("XDS_CLIENTS names %q: want go, js or python", name)
		}
	}

	return all
}

// goCaller is a client in Go: an xDS client, or a client of the runtime.
type goCaller struct{ conn *grpc.ClientConn }

// bootstrap returns the xDS bootstrap config of a client in a zone.
func (w *world) bootstrap(zone string) string {
	w.t.Helper()

	var servers []string
	for _, b := range w.bridges {
		servers = append(servers, b.addr)
	}

	text, err := xds.Bootstrap(xds.BootstrapOptions{
		Servers: servers,
		ID:      fmt.Sprint("client-", seq.Add(1)),
		Zone:    zone,
	})

	kit.Must(w.t, err)

	return string(text)
}

var seq atomic.Int64

// goClient returns an xDS client of grpc-go in a zone.
func (w *world) goClient(zone string) caller {
	w.t.Helper()

	builder, err := grpcxds.NewXDSResolverWithConfigForTesting([]byte(w.bootstrap(zone)))
	kit.Must(w.t, err)
	conn, err := grpc.NewClient("xds:///"+w.desc.Authority, grpc.WithResolvers(builder),
		kit.Insecure)
	kit.Must(w.t, err)
	w.t.Cleanup(func() { conn.Close() })

	return &goCaller{conn}
}

// native returns a client of the runtime.
func (w *world) native() caller {
	w.t.Helper()

	conn, err := w.newRegistry().NewClient(w.desc, kit.Insecure)
	kit.Must(w.t, err)

	return &goCaller{conn}
}

func (c *goCaller) call(o order) outcome {
	out := outcome{By: map[string]int{}, Errors: map[string]int{}}

	var mu sync.Mutex // guards out
	var wg sync.WaitGroup
	var remaining atomic.Int64
	remaining.Store(int64(o.Calls))

	for range max(1, o.At) {
		wg.Go(func() {
			for remaining.Add(-1) >= 0 {
				name, took, err := c.one(o)

				mu.Lock()
				out.Most = max(out.Most, float64(took)/1e6)

				if err != nil {
					out.Errors[err.Error()]++
				} else {
					out.By[name]++
				}

				mu.Unlock()
			}
		})
	}

	wg.Wait()

	return out
}

func (c *goCaller) one(o order) (name string, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(),
		time.Duration(o.Timeout)*time.Millisecond)
	defer cancel()

	for header, value := range o.Metadata {
		ctx = metadata.AppendToOutgoingContext(ctx, header, value)
	}

	reply := new(wrapperspb.StringValue)
	began := time.Now()
	err = c.conn.Invoke(ctx, o.Method, wrapperspb.String("hello"), reply, grpc.WaitForReady(o.Wait))

	return reply.GetValue(), time.Since(began), err
}

// eventually repeats an order until ok returns true for the outcome, and
// returns that outcome.
func (w *world) eventually(c caller, o order, what string, ok func(outcome) bool) outcome {
	w.t.Helper()

	var last outcome

	deadline := time.Now().Add(kit.Soon)
	for time.Now().Before(deadline) {
		last = c.call(o)
		if ok(last) {
			return last
		}
	}

	w.t.Fatalf("timeout, want: %s; the last calls: %+v", what, last)

	return last
}

// only returns a function that reports whether these instances, and no others,
// answered all calls.
func only(names ...string) func(outcome) bool {
	slices.Sort(names)

	return func(o outcome) bool {
		return answered(o) && slices.Equal(slices.Sorted(maps.Keys(o.By)), names)
	}
}

// one reports whether one instance answered all calls.
func one(o outcome) bool {
	return len(o.By) == 1 && answered(o)
}

// answered reports whether no call failed.
func answered(o outcome) bool {
	return len(o.Errors) == 0
}

// unanswered reports whether every call failed.
func unanswered(o outcome) bool {
	return len(o.By) == 0
}
