// Package kratos tests that kratos' own applications, clients and etcd registry go on working beside ours.
package kratos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	etcd "github.com/go-kratos/kratos/contrib/registry/etcd/v2"
	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/registry"
	kgrpc "github.com/go-kratos/kratos/v2/transport/grpc"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

var user = &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/microservices/user", Layout: runtime.Kratos}

// theirs returns a kratos registry. It has no lock, so each application needs one of its own.
func theirs(t *testing.T, w *world.World) *etcd.Registry {
	return etcd.New(w.Etcd.Client(t), etcd.RegisterTTL(5*time.Second))
}

// run runs a kratos application with a gRPC server until stop, and returns its address.
func run(t *testing.T, w *world.World, service, id string, metadata map[string]string) (addr string, stop func()) {
	t.Helper()
	server := kgrpc.NewServer(kgrpc.Address("127.0.0.1:0"))
	basic.RegisterGreeterServer(server, &world.Greeter{Name: id})
	endpoint, err := server.Endpoint()
	if err != nil {
		t.Fatal(err)
	}
	app := kratos.New(kratos.ID(id), kratos.Name(service), kratos.Version("v1"), kratos.Metadata(metadata),
		kratos.Server(server), kratos.Registrar(theirs(t, w)))
	stop = w.Run(id, app.Run, func() {
		if err := app.Stop(); err != nil {
			t.Error(err)
		}
	})
	key := fmt.Sprintf("/microservices/%s/%s", service, id)
	w.Eventually(func() string { return "there is " + key }, func() bool { return w.Entries(key)[key] != "" })
	return endpoint.Host, stop
}

func TestTheirWriterOurClient(t *testing.T) {
	w := world.New(t)
	a, _ := run(t, w, "user", "a", map[string]string{"k": "v", "weight": "7"})
	b, stopB := run(t, w, "user", "b", nil)
	run(t, w, "user-admin", "neighbour", nil)
	conn, watch := w.Conn(user), w.Watch(user.Key)
	w.Reaches(conn, "a", "b")
	inA := runtime.Endpoint{Instance: "a", Addr: a, Version: "v1", Weight: 7, Metadata: map[string]string{"k": "v"}}
	inB := runtime.Endpoint{Instance: "b", Addr: b, Version: "v1"}
	world.Becomes(w, "we read", watch, inA, inB)

	// An instance that registers itself, and again with something else, and that speaks more than gRPC.
	peer, addr := theirs(t, w), w.Serve("c")
	instance := &registry.ServiceInstance{
		ID: "c", Name: "user", Version: "v1",
		Endpoints: []string{"http://127.0.0.1:8000?isSecure=false", "grpc://" + addr + "?isSecure=false"},
	}
	if err := peer.Register(w.Context(), instance); err != nil {
		t.Fatal(err)
	}
	inC := runtime.Endpoint{Instance: "c", Addr: addr, Version: "v1"}
	world.Becomes(w, "we read", watch, inA, inB, inC)
	w.Reaches(conn, "a", "b", "c")
	instance.Version, instance.Metadata = "v2", map[string]string{"zone": "eu-1a"}
	if err := peer.Register(w.Context(), instance); err != nil {
		t.Fatal(err)
	}
	inC.Version, inC.Zone = "v2", "eu-1a"
	world.Becomes(w, "we read", watch, inA, inB, inC)

	stopB()
	world.Becomes(w, "we read", watch, inA, inC)
	w.Reaches(conn, "a", "c")
	if err := peer.Deregister(w.Context(), instance); err != nil {
		t.Fatal(err)
	}
	if left := w.Entries(user.Key + "/"); len(left) != 1 {
		t.Errorf("left are %v", left)
	}
}

// dial returns a connection of kratos' own client.
func dial(t *testing.T, w *world.World, discovery registry.Discovery) *grpc.ClientConn {
	t.Helper()
	conn, err := kgrpc.DialInsecure(w.Context(), kgrpc.WithEndpoint("discovery:///user"), kgrpc.WithDiscovery(discovery))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// instances returns kratos' list of a service.
func instances(w *world.World, discovery registry.Discovery, service string) func() ([]registry.ServiceInstance, error) {
	return func() (all []registry.ServiceInstance, err error) {
		list, err := discovery.GetService(w.Context(), service)
		for _, instance := range list {
			delete(instance.Metadata, "grpc_started") // it is another time in each run
			all = append(all, *instance)
		}
		return all, err
	}
}

func TestOurWriterTheirReader(t *testing.T) {
	w := world.New(t)
	discovery := theirs(t, w)
	conn, list := dial(t, w, discovery), instances(w, discovery, "user")
	a := w.Publish("a", user, runtime.WithInstance("host-1"), runtime.WithVersion("v2"),
		runtime.WithZoneTag("eu-1a"), runtime.WithWeight(30), runtime.WithMetadata("k", "v"))
	b := w.Publish("b", user, runtime.WithInstance("host-2"), runtime.WithWeight(10))
	admin := *user
	admin.Key = "/microservices/user-admin"
	w.Publish("neighbour", &admin)
	w.Reaches(conn, "a", "b")
	const methods = "basic.Greeter/SayHello"
	inA := registry.ServiceInstance{
		ID: "host-1", Name: "user", Version: "v2", Endpoints: []string{"grpc://" + a.Addr, "grpcs://" + a.Addr},
		Metadata: map[string]string{"k": "v", "zone": "eu-1a", "weight": "30", "grpc_methods": methods},
	}
	inB := registry.ServiceInstance{
		ID: "host-2", Name: "user", Endpoints: []string{"grpc://" + b.Addr, "grpcs://" + b.Addr},
		Metadata: map[string]string{"weight": "10", "grpc_methods": methods},
	}
	world.Becomes(w, "they list", list, inA, inB)

	// Their balancer honours our weights.
	counts := map[string]int{}
	for range 400 {
		name, err := world.SayHello(w.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		counts[name]++
	}
	if counts["a"] < 280 || counts["a"] > 320 {
		t.Errorf("of 400 calls by weights of 30 and 10: %v", counts)
	}

	// A third server changes its entry, and leaves.
	c := w.Register(user.Key, runtime.Endpoint{Instance: "host-3", Addr: w.Serve("c"), Version: "v1"}, runtime.Kratos)
	w.Reaches(conn, "a", "b", "c")
	if err := c.Update(w.Context(), runtime.WithVersion("v3"), runtime.WithMetadata("canary", "yes")); err != nil {
		t.Fatal(err)
	}
	w.Eventually(func() string { return "they read the update" }, func() bool {
		all, err := list()
		return err == nil && slices.ContainsFunc(all, func(i registry.ServiceInstance) bool {
			return i.ID == "host-3" && i.Version == "v3" && maps.Equal(i.Metadata, map[string]string{"canary": "yes"})
		})
	})
	if err := c.Close(w.Context()); err != nil {
		t.Fatal(err)
	}
	w.Reaches(conn, "a", "b")
	b.Stop()
	w.Reaches(conn, "a")
	world.Becomes(w, "they list", list, inA)
}

// Their watcher, which their clients use, finds what their list finds.
func TestOurWriterTheirWatcher(t *testing.T) {
	w := world.New(t)
	watcher, err := theirs(t, w).Watch(w.Context(), "user")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := watcher.Stop(); err != nil {
			t.Error(err)
		}
	}()
	next := func(want ...string) {
		t.Helper()
		for range 10 { // an event may tell of what is known already
			all, err := watcher.Next()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, instance := range all {
				got = append(got, instance.ID+" "+instance.Version)
			}
			if slices.Equal(got, want) {
				return
			}
		}
		t.Fatalf("ten events, and none with %v", want)
	}
	next()
	w.Watched(user.Key)
	a := w.Register(user.Key, runtime.Endpoint{Instance: "a", Addr: "127.0.0.1:9000", Version: "v1"}, runtime.Kratos)
	next("a v1")
	if err := a.Update(w.Context(), runtime.WithVersion("v2")); err != nil {
		t.Fatal(err)
	}
	next("a v2")
	if err := a.Close(w.Context()); err != nil {
		t.Fatal(err)
	}
	next()
}

// Their reader gives up on the whole list over a value that is not JSON of its own types. It skips other JSON, which
// has another name or none.
func TestSecondLayoutBeside(t *testing.T) {
	const fails = "it gives up on the list"
	world.Beside(t, runtime.Kratos, func(service string) string { return "/microservices/" + service }, map[runtime.Layout]string{
		runtime.EndpointJSON: world.SharesKey, runtime.Plain: world.SharesKey, runtime.GoMicro: world.SharesKey,
		world.HomeMade:      world.SharesKey,
		runtime.LeaseSuffix: fails, runtime.GoZero: fails,
		runtime.Kitex: world.Accepts, runtime.GoFrame: world.Accepts, nil: world.Accepts,
	}, func(w *world.World, service, _ string) string {
		list, err := theirs(t, w).GetService(w.Context(), service)
		switch {
		case err != nil:
			return fails
		case len(list) == 1 && list[0].ID == "one" && list[0].Metadata["weight"] == "7":
			return world.Accepts
		}
		return fmt.Sprintf("lists %v", list)
	})
}

// Their reader of "user" lists every key that begins so, and may give up over a neighbour's entry, too.
func TestNeighbours(t *testing.T) {
	for layout, accepts := range map[runtime.Layout]bool{
		runtime.EndpointJSON: false, // the weight is a number, where theirs are texts
		runtime.Plain:        false, runtime.LeaseSuffix: false, runtime.GoZero: false,
		runtime.Kratos: true, runtime.Kitex: true, runtime.GoFrame: true, runtime.GoMicro: true, world.HomeMade: true,
	} {
		t.Run(layout.String(), func(t *testing.T) {
			w := world.New(t)
			one := runtime.Endpoint{Instance: "one", Addr: "127.0.0.1:9000", Version: "v2", Weight: 7, Metadata: map[string]string{"k": "v"}}
			w.Register(user.Key, one, runtime.Kratos)
			w.Register("/microservices/user-admin", one, layout)
			list, err := theirs(t, w).GetService(context.Background(), "user")
			if accepts != (err == nil) || accepts && len(list) != 1 {
				t.Errorf("they list %v, %v", list, err)
			}
		})
	}
}

// So can what others than we write there, where etcdrpc doctor looks for it.
func TestNeighboursOfOthers(t *testing.T) {
	for value, bears := range map[string]bool{
		`{"Op":0,"Addr":"127.0.0.1:9000"}`:                              true,
		`{"Op":0,"Addr":"127.0.0.1:9000","Metadata":{"k":"v"}}`:         true,
		`{"Addr":"127.0.0.1:9000","Metadata":"..."}`:                    false,
		`{"Addr":"127.0.0.1:9000","Metadata":{"k":1}}`:                  false,
		`{"addr":"127.0.0.1:9000","version":2}`:                         false,
		`{"name":"user-admin","endpoints":[],"nodes":[]}`:               true,
		`{"name":"user-admin","endpoints":[{"name":"A.B"}],"nodes":[]}`: false,
		`{"Addr":"127.0`: false,
	} {
		w := world.New(t)
		w.Register(user.Key, runtime.Endpoint{Instance: "one", Addr: "127.0.0.1:9000"}, runtime.Kratos)
		if _, err := w.Etcd.Admin().Put(w.Context(), "/microservices/user-admin/two", value); err != nil {
			t.Fatal(err)
		}
		if list, err := theirs(t, w).GetService(w.Context(), "user"); bears != (err == nil) || bears && len(list) != 1 {
			t.Errorf("beside %s they list %v, %v", value, list, err)
		}
	}
}
