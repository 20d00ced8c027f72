package discovery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// works runs a server, a caller and an operator of a service, each with its role alone.
func (w *guarded) works(key string, server, caller, operator *clientv3.Client, opts ...runtime.Option) {
	w.t.Helper()
	desc := greeterAt(key)
	w.announced(w.registry(server, opts...), desc)
	callers := w.registry(caller, opts...)
	conn, err := callers.NewClient(desc, insecurely)
	must(w.t, err)
	w.reaches(basic.NewGreeterClient(conn), "server")
	sets := w.follow(callers, key)
	if set := <-sets; len(set) != 1 {
		w.t.Errorf("the caller's Watch yields %v, want the server", set)
	}

	// The operator's config is in force once it fails the calls.
	must(w.t, w.registry(operator, opts...).SetServiceConfig(kit.Bounded(w.t, soon), key, `{"methodConfig":[{"name":[{}],"timeout":"0.000000001s"}]}`))
	kit.Eventually(w.t, soon, "the caller goes by the live config", func() bool {
		_, err := greet(w.t, basic.NewGreeterClient(conn), soon)
		return err != nil && strings.Contains(err.Error(), "deadline")
	})
	if n := w.logs.Count("permission denied"); n > 0 {
		w.t.Errorf("something was refused: %s", w.logs.Lines())
	}
}

// announced serves the greeter and waits until it is registered.
func (w *guarded) announced(r *runtime.Registry, desc *runtime.ServiceDesc) {
	w.t.Helper()
	lis := kit.Listen(w.t)
	server := r.NewServer(grpc.NewServer(), runtime.WithDrainDelay(0))
	basic.RegisterGreeterServer(server, &greeter{name: "server"})
	server.Publish(desc)
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(ctx, lis); err != nil {
			w.t.Errorf("the server's end, with its entry withdrawn: %v", err)
		}
	})
	w.t.Cleanup(func() { stop(); serving.Wait() })
	kit.Eventually(w.t, soon, "the server is registered", func() bool {
		st := server.Status()
		return len(st) == 1 && st[0].State == runtime.StateRegistered
	})
}

// follow yields the sets that Watch yields.
func (w *guarded) follow(r *runtime.Registry, key string, layouts ...runtime.Layout) <-chan []runtime.Endpoint {
	ctx, stop := context.WithCancel(context.Background())
	sets := make(chan []runtime.Endpoint)
	var following sync.WaitGroup
	following.Go(func() {
		for set, err := range r.Watch(ctx, key, layouts...) {
			if err != nil {
				w.t.Logf("watch %s: %v", key, err)
				continue
			}
			select {
			case sets <- set:
			case <-ctx.Done():
			}
		}
	})
	w.t.Cleanup(func() { stop(); following.Wait() })
	return sets
}

func TestRolesAreEnough(t *testing.T) {
	w := newGuarded(t)
	w.works(guardedKey, w.as("greeter-server"), w.as("greeter-caller"), w.as("greeter-operator"))
}

func TestRolesAreEnoughInANamespace(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	w.works(guardedKey, w.as("prod-greeter-server"), w.as("prod-greeter-caller"), w.as("prod-greeter-operator"), runtime.WithNamespace("prod/"))
}

// Neither sees the other: the roles of a namespace say nothing of the keys without it.
func TestRolesOfANamespaceAreForNoOther(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	for _, role := range []string{"greeter-server", "greeter-caller", "greeter-operator"} {
		inside, outside := w.as("prod-"+role), w.as(role)
		w.denied(slices.Concat(touching(inside, guardedKey+"/x"), touching(inside, "_grpc_config/"+guardedKey),
			touching(outside, "prod/"+guardedKey+"/x"), touching(outside, "prod/_grpc_config/"+guardedKey))...)
	}
}

// A server writes its entries in any layout with a slash, and a caller reads them, with the same two roles.
func TestRolesAreEnoughInEachLayout(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	servers, callers := w.registry(w.as("greeter-server")), w.registry(w.as("greeter-caller"))
	sets := w.follow(callers, guardedKey)
	for i, layout := range []runtime.Layout{runtime.EndpointJSON, runtime.Plain, runtime.GoZero, runtime.Kratos, runtime.Kitex} {
		addr := fmt.Sprintf("10.0.0.%d:80", i)
		g, err := servers.Register(kit.Bounded(t, soon), guardedKey, runtime.Endpoint{Addr: addr}, runtime.WithLayouts(layout))
		must(t, err)
		w.comes(sets, addr)
		must(t, g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2")))
		must(t, g.Pause(kit.Bounded(t, soon)))
		must(t, g.Resume(kit.Bounded(t, soon)))
		must(t, g.Close(kit.Bounded(t, soon)))
	}
}

// comes waits for a set that has the address.
func (w *guarded) comes(sets <-chan []runtime.Endpoint, addr string) {
	w.t.Helper()
	ctx := kit.Bounded(w.t, soon)
	for {
		select {
		case set := <-sets:
			if slices.ContainsFunc(set, func(e runtime.Endpoint) bool { return e.Addr == addr }) {
				return
			}
		case <-ctx.Done():
			w.t.Fatalf("%s does not come", addr)
		}
	}
}

func TestRolesAreEnoughForTheLeaseSuffix(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	for i, role := range []string{"legacy-server", "legacy-server-beside-2"} {
		servers, callers := w.registry(w.as(role)), w.registry(w.as("legacy-caller"))
		sets := w.follow(callers, legacy, runtime.LeaseSuffix)
		for n := range 3 { // each on a lease of its own
			addr := fmt.Sprintf("10.0.%d.%d:80", i, n)
			_, err := servers.Register(kit.Bounded(t, soon), legacy, runtime.Endpoint{Addr: addr}, runtime.WithLayouts(runtime.LeaseSuffix))
			must(t, err)
			w.comes(sets, addr)
		}
		// The slash layouts as well, for a migration.
		g, err := servers.Register(kit.Bounded(t, soon), legacy, runtime.Endpoint{Addr: "10.1.1.1:80"})
		must(t, err)
		must(t, g.Close(kit.Bounded(t, soon)))
	}
	if n := w.logs.Count("denied"); n > 0 {
		t.Errorf("something was refused: %s", w.logs.Lines())
	}
}

// The range of the lease suffix takes in keys that continue the service's with a digit. No range could leave them
// all out: any digit may begin a lease id.
func TestS9_TheSuffixRangeCoversNeighboursWithADigit(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	server := w.as("legacy-server")
	w.allowed(slices.Concat(touching(server, legacy+"2/10.0.0.1:80"), touching(server, legacy+"/x"), touching(server, legacy+"7587869"))...)
	w.denied(slices.Concat(touching(server, legacy), touching(server, legacy+"-admin/x"), touching(server, legacy+"x/y"),
		touching(server, legacy+".v2/x"), touching(server, legacy+"_2/x"), touching(server, "_grpc_config/"+legacy), touching(server, guardedKey+"/x"))...)
	w.denied(listing(server, legacy, legacy+":"), listing(server, "acme/", "acme0"))
}

// Such a neighbour can be left out of what the servers may write, because its entries have a slash where a
// lease id has a digit or ends.
func TestS9_ANeighbourIsLeftOutOfTheRange(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	server := w.as("legacy-server-beside-2")
	w.denied(slices.Concat(touching(server, legacy+"2/10.0.0.1:80"), touching(server, legacy+"2/"), touching(server, "_grpc_config/"+legacy))...)
	for _, id := range []string{"1", "2", "20", "2000000000000000000", "29", "3", "9223372036854775807"} {
		w.allowed(putting(server, legacy+id), deleting(server, legacy+id))
	}
	// Any other neighbour takes a gap of its own.
	w.allowed(putting(server, legacy+"22/10.0.0.1:80"))
}

// A neighbour in the lease suffix itself cannot be told apart by ranges, nor by readers: who writes it may choose a
// lease id that makes an entry of either.
func TestS9_ANeighbourInTheSuffixForgesEntries(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	admin, ctx := w.etcd.Admin(), kit.Bounded(t, soon)
	must(t, command{"role", "add", "legacy2-server"}.run(ctx, admin))
	must(t, command{"role", "grant-permission", "legacy2-server", "readwrite", legacy + "2/", legacy + "2:"}.run(ctx, admin))
	neighbour := w.as("legacy2-server")
	must(t, grantAs(ctx, neighbour, 2345))
	w.allowed(hanging(neighbour, legacy+"2345", 2345))
	sets := w.follow(w.registry(w.as("legacy-caller")), legacy, runtime.LeaseSuffix)
	w.comes(sets, "10.6.6.6:80")
}

// A lease id begins with 15 bits of the member that grants it, so any digit but 0 may come first. The rest is a clock
// that counts on, so that the next one can be guessed.
func TestLeaseIDs(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	members, err := w.etcd.Admin().MemberList(kit.Bounded(t, soon))
	must(t, err)
	member := int64(members.Members[0].ID & 0x7FFF)
	last := int64(w.grant())
	for range 20 {
		id := int64(w.grant())
		if id>>48 != member || id <= last || id > last+100 {
			t.Errorf("after %x, the member %x gave the lease id %x", last, member, id)
		}
		last = id
	}
	first := make(map[byte]bool)
	for bits := range int64(1 << 15) {
		first[strconv.FormatInt(bits<<48+last&(1<<48-1), 10)[0]] = true
	}
	if len(first) != 9 || first['0'] {
		t.Errorf("the first digits of lease ids are %q", slices.Collect(maps.Keys(first)))
	}
}
