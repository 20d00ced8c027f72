// Package goframe tests that GoFrame's own etcd registry goes on working beside ours.
package goframe

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	etcd "github.com/gogf/gf/contrib/registry/etcd/v2"
	"github.com/gogf/gf/v2/net/gsvc"
	"github.com/gogf/gf/v2/os/glog"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var user = &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/service/default/default/user/latest", Layout: runtime.GoFrame}

// theirs returns a GoFrame registry. It has no Close: its etcd client ends with the process.
func theirs(w *world.World) *etcd.Registry {
	logger := glog.New()
	logger.SetStdoutPrint(false)
	return etcd.New(strings.Join(w.Etcd.Endpoints(), ","), etcd.Option{Logger: logger})
}

// service returns a GoFrame service with the addresses of one server.
func service(version string, metadata gsvc.Metadata, addrs ...string) gsvc.Service {
	return &gsvc.LocalService{Name: "user", Version: version, Endpoints: gsvc.NewEndpoints(strings.Join(addrs, ",")), Metadata: metadata}
}

// register registers a service with a registry of its own. It returns the function that deregisters it.
func register(t *testing.T, w *world.World, s gsvc.Service) (deregister func()) {
	t.Helper()
	registry := theirs(w)
	if _, err := registry.Register(w.Context(), s); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := registry.Deregister(w.Context(), s); err != nil {
			t.Error(err)
		}
	}
}

func TestTheirWriterOurClient(t *testing.T) {
	w := world.New(t)
	a, b, c := w.Serve("a"), w.Serve("b"), w.Serve("c")
	register(t, w, service("", gsvc.Metadata{"protocol": "grpc", "weight": 7, "secure": false}, a))
	register(t, w, service("", nil, b, "127.0.0.1:1")) // of several addresses the first
	goC := register(t, w, service("", gsvc.Metadata{"version": "v2", "zone": "eu-1a"}, c))
	register(t, w, service("latest-2", nil, w.Serve("neighbour")))

	conn, watch := w.Conn(user), w.Watch(user.Key)
	w.Reaches(conn, "a", "b", "c")
	inA := runtime.Endpoint{Instance: a, Addr: a, Weight: 7, Metadata: map[string]string{"protocol": "grpc", "secure": "false"}}
	inB := runtime.Endpoint{Instance: b + ",127.0.0.1:1", Addr: b}
	world.Becomes(w, "we read", watch, inA, inB, runtime.Endpoint{Instance: c, Addr: c, Version: "v2", Zone: "eu-1a"})

	register(t, w, service("", gsvc.Metadata{"protocol": "grpc"}, a))
	inA.Weight, inA.Metadata = 0, map[string]string{"protocol": "grpc"}
	world.Becomes(w, "we read", watch, inA, inB, runtime.Endpoint{Instance: c, Addr: c, Version: "v2", Zone: "eu-1a"})
	goC()
	world.Becomes(w, "we read", watch, inA, inB)
	w.Reaches(conn, "a", "b")
}

// seen is what GoFrame's reader makes of the servers under one version.
type seen struct{ Version, Addrs, Metadata string }

func show(services []gsvc.Service) (all []seen) {
	for _, s := range services {
		addrs := strings.Split(s.GetEndpoints().String(), ",")
		slices.Sort(addrs)
		var metadata []string
		for _, name := range slices.Sorted(maps.Keys(s.GetMetadata())) {
			if name != "grpc_started" { // it is another time in each run
				metadata = append(metadata, fmt.Sprintf("%s=%v", name, s.GetMetadata()[name]))
			}
		}
		all = append(all, seen{s.GetVersion(), strings.Join(addrs, " "), strings.Join(metadata, " ")})
	}
	return all
}

// Their reader has one service for all servers, with the metadata of the one whose key is the first.
func TestOurWriterTheirReader(t *testing.T) {
	w := world.New(t)
	registry := theirs(w)
	list := func() ([]seen, error) {
		services, err := registry.Search(w.Context(), gsvc.SearchInput{Name: "user"})
		return show(services), err
	}
	a := w.Publish("a", user, runtime.WithVersion("v2"), runtime.WithZoneTag("eu-1a"), runtime.WithWeight(7), runtime.WithMetadata("k", "v"))
	world.Becomes(w, "they list", list,
		seen{"latest", a.Addr, "grpc_methods=basic.Greeter/SayHello k=v version=v2 weight=7 zone=eu-1a"})

	first := w.Register(user.Key, runtime.Endpoint{Addr: "10.0.0.7:9000"}, runtime.GoFrame)
	both := "10.0.0.7:9000 " + a.Addr
	world.Becomes(w, "they list", list, seen{"latest", both, ""})
	if err := first.Update(w.Context(), runtime.WithWeight(3)); err != nil {
		t.Fatal(err)
	}
	world.Becomes(w, "they list", list, seen{"latest", both, "weight=3"})

	// Theirs of two addresses beside ours, and a version that begins alike, which their search by name takes in.
	register(t, w, service("", nil, "10.0.0.6:9000", "10.0.0.9:9000"))
	next := *user
	next.Key = "/service/default/default/user/latest-2"
	w.Register(next.Key, runtime.Endpoint{Addr: "10.0.0.8:9000"}, runtime.GoFrame)
	world.Becomes(w, "they list", list, seen{"latest", "10.0.0.6:9000 10.0.0.7:9000 10.0.0.9:9000 " + a.Addr, ""}, seen{"latest-2", "10.0.0.8:9000", ""})
	if err := first.Close(w.Context()); err != nil {
		t.Fatal(err)
	}
	a.Stop()
	world.Becomes(w, "they list", list, seen{"latest", "10.0.0.6:9000 10.0.0.9:9000", ""}, seen{"latest-2", "10.0.0.8:9000", ""})
}

func TestOurWriterTheirWatcher(t *testing.T) {
	w := world.New(t)
	watcher, err := theirs(w).Watch(w.Context(), user.Key)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := watcher.Close(); err != nil {
			t.Error(err)
		}
	}()
	next := func(want ...seen) {
		t.Helper()
		for range 10 { // an event may tell of what is known already
			services, err := watcher.Proceed()
			if err != nil {
				t.Fatal(err)
			}
			if slices.Equal(show(services), want) {
				return
			}
		}
		t.Fatalf("ten events, and none with %v", want)
	}
	w.Watched(user.Key)
	a := w.Register(user.Key, runtime.Endpoint{Addr: "10.0.0.7:9000", Version: "v1"}, runtime.GoFrame)
	next(seen{"latest", "10.0.0.7:9000", "version=v1"})
	if err := a.Update(w.Context(), runtime.WithVersion("v2")); err != nil {
		t.Fatal(err)
	}
	next(seen{"latest", "10.0.0.7:9000", "version=v2"})
	if err := a.Close(w.Context()); err != nil {
		t.Fatal(err)
	}
	next()
}

// Their reader takes the last part of a key for addresses and panics if it is not. It gives up on the list over a key
// with fewer parts than theirs or a value that is not a JSON object.
func TestSecondLayoutBeside(t *testing.T) {
	const panics, fails = "it panics", "it gives up on the list"
	key := func(service string) string { return "/service/default/default/" + service + "/latest" }
	world.Beside(t, runtime.GoFrame, key, map[runtime.Layout]string{
		runtime.Kitex:        world.SharesKey,
		runtime.EndpointJSON: panics, runtime.Plain: panics, runtime.GoZero: panics,
		runtime.Kratos: panics, runtime.GoMicro: panics, world.HomeMade: panics, nil: panics,
		runtime.LeaseSuffix: fails,
	}, func(w *world.World, service, addr string) (got string) {
		defer func() {
			if recover() != nil {
				got = panics
			}
		}()
		services, err := theirs(w).Search(w.Context(), gsvc.SearchInput{Name: service})
		all := show(services)
		switch {
		case err != nil:
			return fails
		case len(all) == 1 && all[0] == seen{"latest", addr, "k=v version=v2 weight=7"}:
			return world.Accepts
		}
		return fmt.Sprintf("lists %v", all)
	})
}

// Their reader does not accept a plain address under a key that ends in the address, as tutorials have it.
func TestTheirReaderNeedsJSON(t *testing.T) {
	w := world.New(t)
	w.Put(user.Key+"/10.0.0.7:9000", "10.0.0.7:9000")
	if services, err := theirs(w).Search(w.Context(), gsvc.SearchInput{Name: "user"}); err == nil {
		t.Errorf("they list %v", show(services))
	}
}
