// Package gomicro tests that go-micro's servers and callers work together with
// ours.
package gomicro

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/go-micro/plugins/v4/registry/etcd"
	"go-micro.dev/v4/registry"
	"go.uber.org/zap"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var user = &runtime.ServiceDesc{
	Name:   "basic.Greeter",
	Key:    "/micro/registry/user",
	Layout: runtime.GoMicro,
}

// theirs returns a go-micro registry, which cannot be closed: its etcd client
// ends with the process.
func theirs(w *world.World) registry.Registry {
	quiet := zap.NewProductionConfig()
	quiet.OutputPaths = nil
	quiet.ErrorOutputPaths = nil

	return etcd.NewRegistry(registry.Addrs(w.EtcdAddr()), etcd.LogConfig(&quiet))
}

// register registers a node as a go-micro server does. Without a TTL,
// go-micro's writer panics.
func register(t *testing.T, w *world.World, service, id, addr string, metadata map[string]string) {
	t.Helper()
	s := &registry.Service{
		Name: service, Version: "latest",
		Endpoints: []*registry.Endpoint{{
			Name:     "Greeter.SayHello",
			Request:  &registry.Value{Name: "HelloRequest", Type: "HelloRequest"},
			Response: &registry.Value{Name: "HelloReply", Type: "HelloReply"},
			Metadata: map[string]string{"stream": "false"},
		}},
		Nodes: []*registry.Node{{Id: id, Address: addr, Metadata: metadata}},
	}

	world.Must(t, theirs(w).Register(s, registry.RegisterTTL(30*time.Second)))
}

// seen is a node as go-micro's reader sees it.
type seen struct {
	Name, Version, ID, Addr string
	Metadata                map[string]string
}

func show(services []*registry.Service) (all []seen) {
	for _, s := range services {
		for _, n := range s.Nodes {
			all = append(all, seen{s.Name, s.Version, n.Id, n.Address, maps.Clone(n.Metadata)})
		}
	}

	return all
}

func TestBothDirections(t *testing.T) {
	w := world.New(t)
	const a, b, c = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"
	register(t, w, "user", "user-a", a,
		map[string]string{"protocol": "grpc", "weight": "7", "zone": "eu-1a"})
	register(t, w, "user", "user/b", b, nil)
	register(t, w, "user-admin", "neighbour", "127.0.0.1:9", nil)

	ours := runtime.Endpoint{
		Instance: "host-1",
		Addr:     c,
		Version:  "v3",
		Zone:     "eu-1b",
		Weight:   5,
		Metadata: map[string]string{"k": "w"},
	}

	w.Register(user.Key, ours, runtime.GoMicro)
	world.Becomes(w, "we read", w.Watch(user.Key), ours, runtime.Endpoint{
		Instance: "user-b",
		Addr:     b,
		Version:  "latest",
	},
		runtime.Endpoint{
			Instance: "user-a",
			Addr:     a,
			Version:  "latest",
			Zone:     "eu-1a",
			Weight:   7,
			Metadata: map[string]string{"protocol": "grpc"},
		})

	world.Becomes(w, "they list", func() ([]seen, error) {
		services, err := theirs(w).GetService("user")
		return show(services), err
	}, seen{"user", "latest", "user-a", a,
		map[string]string{"protocol": "grpc", "weight": "7", "zone": "eu-1a"}},
		seen{"user", "latest", "user/b", b, nil},
		seen{"user", "v3", "host-1", c,
			map[string]string{"k": "w", "weight": "5", "zone": "eu-1b"}})
}

func TestSecondLayout(t *testing.T) {
	world.Beside(t, endpoint.GoMicro, func(service string) string {
		return "/micro/registry/" + service
	}, func(w *world.World, service, addr string) string {
		services, err := theirs(w).GetService(service)
		if err != nil || !slices.ContainsFunc(show(services), func(s seen) bool {
			return s.Addr == addr && s.Version == "v2" && s.ID == "one"
		}) {
			return fmt.Sprintf("lists %v, %v", show(services), err)
		}

		if services[0].Name == "" || slices.ContainsFunc(services, func(s *registry.Service) bool {
			return len(s.Nodes) == 0
		}) {
			return "lists a service without nodes or a name"
		}

		return ""
	})
}
