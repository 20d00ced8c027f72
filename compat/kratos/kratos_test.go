// Package kratos tests that kratos' applications, servers and callers work
// together with ours.
package kratos

import (
	"fmt"
	"testing"
	"time"

	etcd "github.com/go-kratos/kratos/contrib/registry/etcd/v2"
	"github.com/go-kratos/kratos/v2/registry"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var user = &runtime.ServiceDesc{
	Name:   "basic.Greeter",
	Key:    "/microservices/user",
	Layout: runtime.Kratos,
}

// theirs returns a kratos registry. It is not safe for concurrent use, so each
// application needs its own.
func theirs(t *testing.T, w *world.World) *etcd.Registry {
	return etcd.New(w.Etcd.Client(t), etcd.RegisterTTL(5*time.Second))
}

func TestBothDirections(t *testing.T) {
	w := world.New(t)
	const a, b = "127.0.0.1:1", "127.0.0.1:2"
	inA := registry.ServiceInstance{
		ID:       "a",
		Name:     "user",
		Version:  "v2",
		Metadata: map[string]string{"k": "v", "weight": "7", "zone": "eu-1a"},
		Endpoints: []string{"http://127.0.0.1:8000?isSecure=false",
			"grpc://" + a + "?isSecure=false"},
	}

	neighbour := registry.ServiceInstance{
		ID:        "a",
		Name:      "user-admin",
		Endpoints: []string{"grpc://127.0.0.1:9?isSecure=false"},
	}
	for _, instance := range []*registry.ServiceInstance{&inA, &neighbour} {
		world.Must(t, theirs(t, w).Register(w.Context(), instance))
	}

	ours := runtime.Endpoint{
		Instance: "host-1",
		Addr:     b,
		Version:  "v3",
		Zone:     "eu-1b",
		Weight:   5,
		Metadata: map[string]string{"k": "w"},
	}

	w.Register(user.Key, ours, runtime.Kratos)
	world.Becomes(w, "we read", w.Watch(user.Key), ours,
		runtime.Endpoint{
			Instance: "a",
			Addr:     a,
			Version:  "v2",
			Zone:     "eu-1a",
			Weight:   7,
			Metadata: map[string]string{"k": "v"},
		})

	list := func() (all []registry.ServiceInstance, err error) {
		list, err := theirs(t, w).GetService(w.Context(), "user")
		for _, instance := range list {
			all = append(all, *instance)
		}

		return all, err
	}
	inB := registry.ServiceInstance{
		ID:        "host-1",
		Name:      "user",
		Version:   "v3",
		Metadata:  map[string]string{"k": "w", "weight": "5", "zone": "eu-1b"},
		Endpoints: []string{"grpc://" + b, "grpcs://" + b},
	}

	world.Becomes(w, "they list", list, inA, inB)
}

func TestSecondLayout(t *testing.T) {
	key := func(service string) string { return "/microservices/" + service }
	reads := func(w *world.World, service, _ string) string {
		list, err := theirs(t, w).GetService(w.Context(), service)
		switch {
		case err != nil:
			return "gives up on the whole list"
		case len(list) != 1 || list[0].ID != "one" || list[0].Metadata["weight"] != "7":
			return fmt.Sprintf("lists %v", list)
		}

		return ""
	}

	world.Beside(t, endpoint.Kratos, key, reads)
}

// kratos' reader of "user" lists every key with that prefix, so an entry of
// another service can make it fail.
func TestNeighbours(t *testing.T) {
	w := world.New(t)
	w.Register(user.Key, runtime.Endpoint{Instance: "one", Addr: "127.0.0.1:9000"}, runtime.Kratos)

	for value, accepts := range map[string]bool{
		"127.0.0.1:9000": false,
		`{"Op":0,"Addr":"127.0.0.1:9000","Metadata":{"k":"v"}}`:         true,
		`{"Addr":"127.0.0.1:9000","Metadata":{"k":1}}`:                  false,
		`{"name":"user-admin","endpoints":[{"name":"A.B"}],"nodes":[]}`: false,
	} {
		const key = "/microservices/user-admin/two"
		w.Put(key, value)

		list, err := theirs(t, w).GetService(w.Context(), "user")
		if accepts != (err == nil) || accepts && len(list) != 1 {
			t.Errorf(
				"with the entry %s of another service, kratos lists %v, %v; want one instance: %v",
				value, list, err, accepts)
		}
	}
}
