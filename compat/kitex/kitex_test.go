// Package kitex tests that kitex' own etcd registry goes on working beside ours.
package kitex

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/registry"
	etcd "github.com/kitex-contrib/registry-etcd"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var user = &runtime.ServiceDesc{Name: "basic.Greeter", Key: "kitex/registry-etcd/user", Layout: runtime.Kitex}

// instance returns what a kitex server registers.
func instance(addr string, weight int, tags map[string]string) *registry.Info {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		panic(err)
	}
	return &registry.Info{ServiceName: "user", Addr: a, Weight: weight, Tags: tags}
}

// register registers an instance with kitex' registry.
func register(t *testing.T, w *world.World, info *registry.Info) registry.Registry {
	t.Helper()
	theirs, err := etcd.NewEtcdRegistry(w.Etcd.Endpoints(), func(config *etcd.Config) { w.Quiet(config.EtcdConfig) })
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Register(info); err != nil {
		t.Fatal(err)
	}
	return theirs
}

func TestTheirWriterOurClient(t *testing.T) {
	w := world.New(t)
	a, b, c := w.Serve("a"), w.Serve("b"), w.Serve("c")
	register(t, w, instance(a, 7, map[string]string{"k": "v", "version": "v2", "zone": "eu-1a"}))
	inB := instance(b, 10, nil)
	theirs := register(t, w, inB)
	register(t, w, instance(c, 0, nil))
	neighbour := instance(w.Serve("neighbour"), 10, nil)
	neighbour.ServiceName = "user-admin"
	register(t, w, neighbour)

	conn, watch := w.Conn(user), w.Watch(user.Key)
	w.Reaches(conn, "a", "b", "c")
	readA := runtime.Endpoint{Instance: a, Addr: a, Version: "v2", Zone: "eu-1a", Weight: 7, Metadata: map[string]string{"k": "v"}}
	readC := runtime.Endpoint{Instance: c, Addr: c}
	world.Becomes(w, "we read", watch, readA, readC, runtime.Endpoint{Instance: b, Addr: b, Weight: 10})

	inB.Weight = 20
	register(t, w, inB)
	world.Becomes(w, "we read", watch, readA, readC, runtime.Endpoint{Instance: b, Addr: b, Weight: 20})
	if err := theirs.Deregister(inB); err != nil {
		t.Fatal(err)
	}
	world.Becomes(w, "we read", watch, readA, readC)
	w.Reaches(conn, "a", "c")
}

// seen is what kitex' resolver says of an instance.
type seen struct {
	Network, Addr string
	Weight        int
	Tags          string
}

// reader returns the list of kitex' resolver.
func reader(t *testing.T, w *world.World) func(service string) ([]seen, error) {
	t.Helper()
	theirs, err := etcd.NewEtcdResolver(w.Etcd.Endpoints(), func(config *etcd.Config) { w.Quiet(config.EtcdConfig) })
	if err != nil {
		t.Fatal(err)
	}
	return func(service string) (all []seen, err error) {
		result, err := theirs.Resolve(w.Context(), service)
		for _, i := range result.Instances {
			all = append(all, seen{i.Address().Network(), i.Address().String(), i.Weight(), tags(i)})
		}
		return all, err
	}
}

// tags are the tags that our tests know of, for an instance does not list its tags.
func tags(i discovery.Instance) string {
	var all []string
	for _, name := range []string{"k", "version", "zone", "weight", "grpc_methods", "canary"} {
		if value, ok := i.Tag(name); ok {
			all = append(all, name+"="+value)
		}
	}
	return strings.Join(all, " ")
}

func TestOurWriterTheirReader(t *testing.T) {
	w := world.New(t)
	resolve := reader(t, w)
	list := func() ([]seen, error) { return resolve("user") }
	a := w.Publish("a", user, runtime.WithInstance("host-1"), runtime.WithVersion("v2"),
		runtime.WithZoneTag("eu-1a"), runtime.WithWeight(7), runtime.WithMetadata("k", "v"))
	b := w.Publish("b", user)
	admin := *user
	admin.Key = "kitex/registry-etcd/user-admin"
	w.Publish("neighbour", &admin)
	theirs := w.Serve("theirs")
	register(t, w, instance(theirs, 3, nil))
	const methods = "grpc_methods=basic.Greeter/SayHello"
	inA := seen{"tcp", a.Addr, 7, "k=v version=v2 zone=eu-1a " + methods}
	inTheirs := seen{"tcp", theirs, 3, ""}
	world.Becomes(w, "they list", list, inA, inTheirs, seen{"tcp", b.Addr, 10, methods}) // 10 is their default

	c := w.Register(user.Key, runtime.Endpoint{Addr: "127.0.0.1:9000", Version: "v1", Weight: 1}, runtime.Kitex)
	if err := c.Update(w.Context(), runtime.WithWeight(9), runtime.WithMetadata("canary", "yes")); err != nil {
		t.Fatal(err)
	}
	inC := seen{"tcp", "127.0.0.1:9000", 9, "version=v1 canary=yes"}
	b.Stop()
	world.Becomes(w, "they list", list, inA, inTheirs, inC)
	if err := c.Close(w.Context()); err != nil {
		t.Fatal(err)
	}
	world.Becomes(w, "they list", list, inA, inTheirs)
}

// Their reader skips what is not JSON, and takes all JSON of its types for instances.
func TestSecondLayoutBeside(t *testing.T) {
	const ghost = "it lists an instance without an address, too"
	world.Beside(t, runtime.Kitex, func(service string) string { return "kitex/registry-etcd/" + service }, map[runtime.Layout]string{
		runtime.GoFrame: world.SharesKey,
		runtime.Plain:   world.Accepts, runtime.LeaseSuffix: world.Accepts, runtime.GoZero: world.Accepts,
		runtime.EndpointJSON: ghost, runtime.Kratos: ghost, runtime.GoMicro: ghost, world.HomeMade: ghost, nil: ghost,
	}, func(w *world.World, service, addr string) string {
		all, err := reader(t, w)(service)
		switch {
		case err == nil && len(all) == 1 && all[0] == seen{"tcp", addr, 7, "k=v version=v2"}:
			return world.Accepts
		case err == nil && len(all) == 2 && (all[0].Addr == "" || all[1].Addr == ""):
			return ghost
		}
		return fmt.Sprintf("lists %v, %v", all, err)
	})
}
