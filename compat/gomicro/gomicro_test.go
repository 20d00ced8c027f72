// Package gomicro tests that go-micro's own etcd registry goes on working beside ours.
package gomicro

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-micro/plugins/v4/registry/etcd"
	"go-micro.dev/v4/registry"
	"go.uber.org/zap"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var user = &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/micro/registry/user", Layout: runtime.GoMicro}

// theirs returns a go-micro registry. It has no Close: its etcd client ends with the process.
func theirs(w *world.World) registry.Registry {
	quiet := zap.NewProductionConfig()
	quiet.OutputPaths, quiet.ErrorOutputPaths = nil, nil
	return etcd.NewRegistry(registry.Addrs(w.EtcdAddr()), etcd.LogConfig(&quiet))
}

// service returns a service as a go-micro server registers itself.
func service(name, id, addr string, metadata map[string]string) *registry.Service {
	return &registry.Service{
		Name: name, Version: "latest",
		Endpoints: []*registry.Endpoint{{
			Name: "Greeter.SayHello", Request: &registry.Value{Name: "HelloRequest", Type: "HelloRequest"},
			Response: &registry.Value{Name: "HelloReply", Type: "HelloReply"}, Metadata: map[string]string{"stream": "false"},
		}},
		Nodes: []*registry.Node{{Id: id, Address: addr, Metadata: metadata}},
	}
}

// register registers a service. Without a TTL, go-micro's writer panics.
func register(t *testing.T, theirs registry.Registry, s *registry.Service) {
	t.Helper()
	if err := theirs.Register(s, registry.RegisterTTL(30*time.Second)); err != nil {
		t.Fatal(err)
	}
}

func TestTheirWriterOurClient(t *testing.T) {
	w := world.New(t)
	peer := theirs(w)
	a, b, c := w.Serve("a"), w.Serve("b"), w.Serve("c")
	inA, inB := service("user", "user-a", a, map[string]string{"protocol": "grpc", "weight": "7"}), service("user", "user/b", b, nil)
	register(t, peer, inA)
	register(t, peer, inB)
	register(t, peer, service("user", "user-c", c, map[string]string{"zone": "eu-1a"}))
	register(t, peer, service("user-admin", "neighbour", w.Serve("neighbour"), nil))

	conn, watch := w.Conn(user), w.Watch(user.Key)
	w.Reaches(conn, "a", "b", "c")
	readA := runtime.Endpoint{Instance: "user-a", Addr: a, Version: "latest", Weight: 7, Metadata: map[string]string{"protocol": "grpc"}}
	readB := runtime.Endpoint{Instance: "user-b", Addr: b, Version: "latest"}
	readC := runtime.Endpoint{Instance: "user-c", Addr: c, Version: "latest", Zone: "eu-1a"}
	world.Becomes(w, "we read", watch, readA, readB, readC)

	inA.Version, inA.Nodes[0].Metadata = "v2", map[string]string{"protocol": "grpc", "weight": "9"}
	register(t, peer, inA)
	readA.Version, readA.Weight = "v2", 9
	world.Becomes(w, "we read", watch, readA, readB, readC)
	if err := peer.Deregister(inB); err != nil {
		t.Fatal(err)
	}
	world.Becomes(w, "we read", watch, readA, readC)
	w.Reaches(conn, "a", "c")
}

// seen is a node as go-micro's reader sees it.
type seen struct{ Name, Version, ID, Addr, Metadata string }

func show(services []*registry.Service) (all []seen) {
	for _, s := range services {
		for _, n := range s.Nodes {
			var metadata []string
			for _, name := range slices.Sorted(maps.Keys(n.Metadata)) {
				if name != "grpc_started" { // it is another time in each run
					metadata = append(metadata, name+"="+n.Metadata[name])
				}
			}
			all = append(all, seen{s.Name, s.Version, n.Id, n.Address, strings.Join(metadata, " ")})
		}
	}
	return all
}

func TestOurWriterTheirReader(t *testing.T) {
	w := world.New(t)
	peer := theirs(w)
	list := func() ([]seen, error) {
		services, err := peer.GetService("user")
		return show(services), err
	}
	a := w.Publish("a", user, runtime.WithInstance("host-1"), runtime.WithVersion("v2"),
		runtime.WithZoneTag("eu-1a"), runtime.WithWeight(7), runtime.WithMetadata("k", "v"))
	b := w.Publish("b", user, runtime.WithInstance("host-2"))
	admin := *user
	admin.Key = "/micro/registry/user-admin"
	w.Publish("neighbour", &admin)
	register(t, peer, service("user", "theirs", "10.0.0.7:9000", nil))
	const methods = "grpc_methods=basic.Greeter/SayHello"
	inA := seen{"user", "v2", "host-1", a.Addr, methods + " k=v weight=7 zone=eu-1a"}
	inTheirs := seen{"user", "latest", "theirs", "10.0.0.7:9000", ""}
	world.Becomes(w, "they list", list, inA, inTheirs, seen{"user", "", "host-2", b.Addr, methods})

	c := w.Register(user.Key, runtime.Endpoint{Instance: "host-3", Addr: "10.0.0.8:9000"}, runtime.GoMicro)
	if err := c.Update(w.Context(), runtime.WithVersion("v3")); err != nil {
		t.Fatal(err)
	}
	b.Stop()
	world.Becomes(w, "they list", list, inA, inTheirs, seen{"user", "v3", "host-3", "10.0.0.8:9000", ""})
	if err := c.Close(w.Context()); err != nil {
		t.Fatal(err)
	}
	world.Becomes(w, "they list", list, inA, inTheirs)
}

// Their watcher reports each change: create, update, delete.
func TestOurWriterTheirWatcher(t *testing.T) {
	w := world.New(t)
	watcher, err := theirs(w).Watch(registry.WatchService("user"))
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	w.Watched(user.Key + "/")
	next := func(action, version string) {
		t.Helper()
		for {
			result, err := watcher.Next()
			if err != nil {
				t.Fatal(err)
			}
			leaving := len(result.Service.Nodes) == 1 && result.Service.Nodes[0].Metadata["grpc_leaving"] == "true"
			if leaving && result.Action == "update" {
				continue // the mark that comes before the withdrawal
			}
			if result.Action != action || result.Service.Version != version || len(result.Service.Nodes) != 1 {
				t.Errorf("they see %s of %+v, want %s of %s", result.Action, result.Service, action, version)
			}
			return
		}
	}
	a := w.Register(user.Key, runtime.Endpoint{Instance: "a", Addr: "10.0.0.7:9000", Version: "v1"}, runtime.GoMicro)
	next("create", "v1")
	if err := a.Update(w.Context(), runtime.WithVersion("v2")); err != nil {
		t.Fatal(err)
	}
	next("update", "v2")
	if err := a.Close(w.Context()); err != nil {
		t.Fatal(err)
	}
	next("delete", "v2")
}

// Their reader keeps what it understands of any JSON: an entry without nodes becomes a service without nodes, perhaps
// without a name. It skips plain addresses.
func TestSecondLayoutBeside(t *testing.T) {
	const empty, nameless = "it lists a service without nodes, too", "the service may have no name"
	world.Beside(t, runtime.GoMicro, func(service string) string { return "/micro/registry/" + service }, map[runtime.Layout]string{
		runtime.EndpointJSON: world.SharesKey, runtime.Plain: world.SharesKey, runtime.Kratos: world.SharesKey,
		world.HomeMade:      world.SharesKey,
		runtime.LeaseSuffix: world.Accepts, runtime.GoZero: world.Accepts,
		runtime.Kitex: empty, runtime.GoFrame: nameless, nil: empty,
	}, func(w *world.World, service, addr string) string {
		services, err := theirs(w).GetService(service)
		if err != nil || !slices.ContainsFunc(show(services), func(s seen) bool { return s.Addr == addr && s.Version == "v2" && s.ID == "one" }) {
			return fmt.Sprintf("lists %v, %v", show(services), err)
		}
		switch {
		case slices.ContainsFunc(services, func(s *registry.Service) bool { return len(s.Nodes) == 0 }):
			return empty
		case services[0].Name == "":
			return nameless
		}
		return world.Accepts
	})
}
