package seeds

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// greeterKey is the key that the greeter's proto file names.
const greeterKey = "helloworld/greeter"

// generatedConn makes calls by the generated client.
type generatedConn struct{ basic.GreeterClient }

func (c generatedConn) Invoke(ctx context.Context, _ string, request, reply any, opts ...grpc.CallOption) error {
	answer, err := c.SayHello(ctx, request.(*basic.HelloRequest), opts...)
	if err == nil {
		reply.(*basic.HelloReply).Message = answer.Message
	}
	return err
}

func (generatedConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, fmt.Errorf("the greeter has no streams")
}

func (w *world) generated() grpc.ClientConnInterface {
	w.t.Helper()
	client, err := basic.NewGreeterClientFromEtcd(w.registry, plaintext())
	must(w.t, err)
	return generatedConn{client}
}

// namingManager is etcd's own manager of the endpoints of a service.
func (w *world) namingManager(service string) endpoints.Manager {
	w.t.Helper()
	manager, err := endpoints.NewManager(w.theirs, service)
	must(w.t, err)
	return manager
}

func TestEtcdNaming_TheirWriterOurClient(t *testing.T) {
	w := newWorld(t, runtime.WithEmptyGrace(0))
	a, b, c := w.serve("a"), w.serve("b"), w.serve("c")
	manager := w.namingManager(greeterKey)
	add := func(s *server, opts ...clientv3.OpOption) {
		t.Helper()
		endpoint := endpoints.Endpoint{Addr: s.addr, Metadata: map[string]any{"version": "v2", "weight": 7, "team": "blue"}}
		must(t, manager.AddEndpoint(bounded(t), greeterKey+"/"+s.addr, endpoint, opts...))
	}
	conn, seen := w.generated(), w.watch(greeterKey)

	add(a)
	add(b)
	w.balanced(conn, "a", "b")
	for _, e := range seen.becomes(a.addr, b.addr) {
		if e.Instance != e.Addr || e.Version != "v2" || e.Weight != 7 || !maps.Equal(e.Metadata, map[string]string{"team": "blue"}) {
			t.Errorf("read as %+v", e)
		}
	}

	must(t, manager.DeleteEndpoint(bounded(t), greeterKey+"/"+a.addr))
	w.balanced(conn, "b")

	lease, err := w.theirs.Grant(bounded(t), 60)
	must(t, err)
	add(c, clientv3.WithLease(lease.ID))
	w.balanced(conn, "b", "c")
	w.revoke(lease.ID)
	w.balanced(conn, "b")

	// One transaction for several.
	err = manager.Update(bounded(t), []*endpoints.UpdateWithOpts{
		endpoints.NewDeleteUpdateOpts(greeterKey + "/" + b.addr),
		endpoints.NewAddUpdateOpts(greeterKey+"/1", endpoints.Endpoint{Addr: a.addr}),
		endpoints.NewAddUpdateOpts(greeterKey+"/2", endpoints.Endpoint{Addr: c.addr}),
	})
	must(t, err)
	w.balanced(conn, "a", "c")
}

// As etcd's documentation does it by etcdctl: put, del, lease grant, put --lease, lease keep-alive.
func TestEtcdNaming_EtcdctlOurClient(t *testing.T) {
	kit.Night(t)
	w := newWorld(t)
	const key = "my-service"
	stays, goes := w.serve("stays"), w.serve("goes")
	conn := w.conn(&runtime.ServiceDesc{Name: "basic.Greeter", Key: key})

	w.put(key+"/"+stays.addr, fmt.Sprintf(`{"Addr":%q,"Metadata":"..."}`, stays.addr))
	w.balanced(conn, "stays")
	w.put(key+"/"+goes.addr, fmt.Sprintf(`{"Op":0,"Addr":%q,"Metadata":"..."}`, goes.addr))
	w.balanced(conn, "stays", "goes")
	seen := w.watch(key)
	for _, e := range seen.becomes(stays.addr, goes.addr) {
		if !maps.Equal(e.Metadata, map[string]string{"metadata": `"..."`}) {
			t.Errorf("the metadata is read as %v", e.Metadata)
		}
	}
	w.delete(key + "/" + goes.addr)
	w.balanced(conn, "stays")

	lease, err := w.theirs.Grant(bounded(t), 2)
	must(t, err)
	keepAlive, stop := context.WithCancel(context.Background())
	defer stop()
	answers, err := w.theirs.KeepAlive(keepAlive, lease.ID)
	must(t, err)
	w.put(key+"/"+goes.addr, fmt.Sprintf(`{"Addr":%q,"Metadata":"..."}`, goes.addr), clientv3.WithLease(lease.ID))
	w.balanced(conn, "stays", "goes")
	for alive := time.Now().Add(time.Duration(lease.TTL+1) * time.Second); time.Now().Before(alive); {
		if answer, ok := <-answers; !ok || answer.TTL == 0 {
			t.Fatal("keep-alive has ended")
		}
		w.balanced(conn, "stays", "goes")
	}
	stop()
	w.balanced(conn, "stays")
}

func TestEtcdNaming_AddressWithoutPort(t *testing.T) {
	kit.Night(t)
	w := newWorld(t)
	const key = "my-service"
	w.put(key+"/1.2.3.4", `{"Addr":"1.2.3.4","Metadata":"..."}`)
	must(t, w.namingManager(key).AddEndpoint(bounded(t), key+"/db8", endpoints.Endpoint{Addr: "2001:db8::1"}))
	seen := w.watch(key)
	if got := seen.becomes("1.2.3.4:443", "[2001:db8::1]:443"); got[0].Instance != "1.2.3.4" {
		t.Errorf("instance %q, want the last part of the key", got[0].Instance)
	}

	// Ours writes it as it is given.
	must(t, w.registry.Add(bounded(t), key, runtime.Endpoint{Addr: "greeter.example"}))
	seen.becomes("1.2.3.4:443", "[2001:db8::1]:443", "greeter.example:443")
	list, err := w.namingManager(key).List(bounded(t))
	if err != nil || list[key+"/greeter.example"].Addr != "greeter.example" {
		t.Errorf("their list is %v, %v", list, err)
	}

	// A plain value has to have a port.
	if err := w.registry.Add(bounded(t), key, runtime.Endpoint{Addr: "1.2.3.4"}, runtime.WithLayouts(runtime.Plain)); err == nil {
		t.Error("a plain value without a port was written")
	}
	w.put(key+"/1.2.3.5", "1.2.3.5")
	w.put(key+"/1.2.3.6", "1.2.3.6:80")
	seen.becomes("1.2.3.4:443", "[2001:db8::1]:443", "greeter.example:443", "1.2.3.6:80")
}

func TestEtcdNaming_OurWriterTheirReader(t *testing.T) {
	w := newWorld(t)
	register := func(name string, opts ...runtime.RegisterOption) *server {
		t.Helper()
		return w.run(context.Background(), w.newRegistry(), name, func(s *runtime.Server) {
			basic.RegisterGreeterServerToEtcd(s, &greeter{name: name}, opts...)
		})
	}
	builder, err := resolver.NewBuilder(w.theirs)
	must(t, err)
	conn := w.dial("etcd:///"+greeterKey, builder)

	a := register("a", runtime.WithVersion("v2"), runtime.WithWeight(7), runtime.WithMetadata("team", "blue"))
	b := register("b", runtime.WithInstance("second"))
	w.balanced(conn, "a", "b")
	manager := w.namingManager(greeterKey)
	list, err := manager.List(bounded(t))
	must(t, err)
	metadata, _ := list[greeterKey+"/"+a.addr].Metadata.(map[string]any)
	delete(metadata, "grpc_started") // differs in each run
	if !maps.Equal(metadata, map[string]any{"version": "v2", "weight": 7.0, "team": "blue", "grpc_methods": "basic.Greeter/SayHello"}) {
		t.Errorf("their list has the metadata %v", list)
	}
	if list[greeterKey+"/second"].Addr != b.addr {
		t.Errorf("their list has no %s: %v", b.addr, list)
	}

	a.stop()
	w.balanced(conn, "b")
	c := w.serve("c")
	must(t, w.registry.Add(bounded(t), greeterKey, runtime.Endpoint{Addr: c.addr}))
	w.balanced(conn, "b", "c")
	must(t, w.registry.Remove(bounded(t), greeterKey, c.addr))
	w.balanced(conn, "b")

	// Theirs deletes by force; the server is alive and puts itself back.
	must(t, manager.DeleteEndpoint(bounded(t), greeterKey+"/second"))
	w.entryAt(greeterKey + "/second")
	w.balanced(conn, "b")
}
