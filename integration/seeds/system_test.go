package seeds

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	etcdresolver "go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// A system is an earlier registry and one of its services. "Their" means of
// that registry.
type system struct {
	name      string
	desc      *runtime.ServiceDesc
	target    string            // of callers without a ServiceDesc; "" if there is none
	opts      []grpc.DialOption // of our callers, to exclude the entries of neighbour
	neighbour string            // a service whose keys begin with the same text

	// register registers a server with their writer. leave deletes the entry.
	register func(w *world, key, addr string) (leave func())

	returns bool // whether their writer replaces a lost lease

	// dial returns a connection to the service with their reader.
	dial func(w *world) *grpc.ClientConn
}

var systems = []system{etcdNaming, grpcEtcd, xiezengcheng, leaseSuffix, tutorial, goZero}

// each runs test for each system.
func each(t *testing.T, test func(s system, t *testing.T)) {
	for _, s := range systems {
		t.Run(s.name, func(t *testing.T) { test(s, t) })
	}
}

// TestTheirWriterOurClient registers servers with their writer and calls them
// with our client.
func TestTheirWriterOurClient(t *testing.T) {
	each(t, system.theirWriterOurClient)
}

func (s system) theirWriterOurClient(t *testing.T) {
	w := newWorld(t, runtime.WithEmptyGrace(0))
	a := w.serve("a")
	b := w.serve("b")
	c := w.serve("c")
	s.register(w, s.desc.Key, a.addr)
	s.register(w, s.desc.Key, b.addr)
	leave := s.register(w, s.desc.Key, c.addr)
	s.register(w, s.neighbour, w.serve("neighbour").addr)

	conns := []*grpc.ClientConn{w.conn(s.desc, s.opts...)}
	if s.target != "" {
		conns = append(conns, w.dial(s.target, w.registry.Resolver()))
	}

	reach := func(names ...string) {
		t.Helper()

		for _, conn := range conns {
			w.balanced(conn, names...)
		}
	}

	reach("a", "b", "c")

	if s.returns {
		lost := w.entryOf(c).lease
		w.revoke(lost)
		kit.Eventually(w.t, "c is on another lease", func() bool {
			return w.entryOf(c).lease != lost
		})
		reach("a", "b", "c")
	}

	leave()
	reach("a", "b")
}

// TestOurWriterTheirReader calls our servers through their reader.
func TestOurWriterTheirReader(t *testing.T) {
	each(t, system.ourWriterTheirReader)
}

func (s system) ourWriterTheirReader(t *testing.T) {
	w := newWorld(t)
	conn := s.dial(w)
	registry := w.newRegistry()
	a := w.publishIn(registry, "a", s.desc)
	b := w.publish("b", s.desc)
	c := w.publishIn(registry, "c", s.desc)
	w.balanced(conn, "a", "b", "c")

	for _, server := range []*server{a, b, c} {
		if got := w.entryOf(server); got.lease != server.lease() {
			t.Errorf("the entry of %s is on lease %x, want %x, as in the server's status",
				server.name, got.lease, server.lease())
		}
	}

	lost := b.lease()
	w.revoke(lost)
	kit.Eventually(w.t, "b is on another lease", func() bool {
		return b.lease() != lost && b.lease() != 0
	})
	w.balanced(conn, "a", "b", "c")
	c.stop()
	w.balanced(conn, "a", "b")
}

// If our servers also write entries in a second layout, calls through their
// reader still reach each server.
func TestLayouts_WithTheirReaders(t *testing.T) {
	each(t, func(s system, t *testing.T) {
		w := newWorld(t)
		for _, second := range layouts {
			w.besideTheirReader(s, second)
		}
	})
}

func (w *world) besideTheirReader(s system, second layout) {
	w.t.Helper()

	first := layout{s.desc.Layout, "KEY/INSTANCE", ""} // a json_layout
	i := slices.IndexFunc(layouts, func(l layout) bool { return l.Layout == s.desc.Layout })
	if i >= 0 {
		first = layouts[i]
	}

	// grpcEtcd's reader takes the address from the key, so the instance id must
	// be the address. Then entries in KITEX and GO_FRAME have the same key as
	// those in grpcEtcd's layout.
	byAddr := s.name == grpcEtcd.name
	if first.key == second.key || byAddr && second.key == "KEY/ADDR" {
		return
	}

	for _, server := range []*server{w.serve("a"), w.serve("b")} {
		endpoint := runtime.Endpoint{Instance: server.name, Addr: server.addr, Version: "v2"}
		if byAddr {
			endpoint.Instance = server.addr
		}

		registration, err := w.newRegistry().Register(kit.Context(w.t), s.desc.Key, endpoint,
			runtime.WithLayouts(first.Layout, second.Layout))
		kit.Must(w.t, err)

		defer func() {
			if err := registration.Close(kit.Context(w.t)); err != nil {
				w.t.Error(err)
			}
		}()
	}

	conn := s.dial(w)

	// go-zero's second subscriber of a key in a process loses what changes
	// while it subscribes
	defer conn.Close()

	w.balanced(conn, "a", "b")
}

// keepEntry puts an entry on a lease, as many systems' writers do. A loop
// renews the lease each second and, if that fails, puts the entry on another
// lease. leave ends the loop and revokes the lease.
func (w *world) keepEntry(key func(clientv3.LeaseID) string, value string) (leave func()) {
	w.t.Helper()

	var lease clientv3.LeaseID
	put := func(ctx context.Context) error {
		granted, err := w.theirs.Grant(ctx, 5)
		if err != nil {
			return err
		}

		lease = granted.ID
		_, err = w.theirs.Put(ctx, key(lease), value, clientv3.WithLease(lease))

		return err
	}

	kit.Must(w.t, put(kit.Context(w.t)))
	stop := kit.Run(w.t, func(ctx context.Context) error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()

		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil
			}

			if _, err := w.theirs.KeepAliveOnce(ctx, lease); err == nil {
				continue
			}

			if err := put(ctx); err != nil && ctx.Err() == nil {
				w.t.Logf("put the entry %s on another lease: %v", key(lease), err)
			}
		}
	})

	return sync.OnceFunc(func() {
		kit.Must(w.t, stop())
		w.revoke(lease)
	})
}

// etcdNaming is etcd's client/v3/naming. hanjm's package and etcd's old
// clientv3/naming have the same entries.
var etcdNaming = system{
	name: "etcd naming",
	desc: &runtime.ServiceDesc{
		Name:   "basic.Greeter",
		Key:    "my-service",
		Layout: runtime.EndpointJSON,
	},
	target:    "etcd:///my-service",
	neighbour: "my-service-2",
	register: func(w *world, key, addr string) (leave func()) {
		manager, err := endpoints.NewManager(w.theirs, key)
		kit.Must(w.t, err)
		kit.Must(w.t, manager.AddEndpoint(kit.Context(w.t), key+"/"+addr,
			endpoints.Endpoint{Addr: addr, Metadata: "..."}))

		return func() { kit.Must(w.t, manager.DeleteEndpoint(kit.Context(w.t), key+"/"+addr)) }
	},
	dial: func(w *world) *grpc.ClientConn { return w.etcdNamingConn("my-service") },
}

// etcdNamingConn returns a connection with the resolver of etcd's
// client/v3/naming.
func (w *world) etcdNamingConn(key string) *grpc.ClientConn {
	w.t.Helper()

	builder, err := etcdresolver.NewBuilder(w.theirs)
	kit.Must(w.t, err)

	return w.dial("etcd:///"+key, builder)
}

// A server of ours that replaces a server at the same address takes over the
// old server's entry, which has no lease.
func TestEtcdNaming_InPlace(t *testing.T) {
	w := newWorld(t)
	old := w.serve("old")
	etcdNaming.register(w, etcdNaming.desc.Key, old.addr)

	server := w.newRegistry().NewServer(grpc.NewServer())
	server.Publish(etcdNaming.desc)
	kit.Must(t, server.Announce(kit.Context(t), old.addr))
	status := server.Status()[0]
	entry := w.entryOf(old)

	if status.State != runtime.StateRegistered || entry.lease != status.LeaseID {
		t.Errorf("status %+v, entry %+v, want registered, and both with the same lease", status,
			entry)
	}

	kit.Must(t, server.Withdraw(kit.Context(t)))

	if remaining := w.entries(etcdNaming.desc.Key); len(remaining) > 0 {
		t.Errorf("entries after Withdraw: %+v, want none", remaining)
	}
}

// goZero is go-zero's core/discov.
var goZero = system{
	name:      "go-zero",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "user.rpc", Layout: runtime.GoZero},
	target:    "etcd:///user.rpc",
	neighbour: "user.rpc2",
	register: func(w *world, key, addr string) (leave func()) {
		return w.goZeroPublish(key, addr).Stop
	},
	returns: true,
	dial:    func(w *world) *grpc.ClientConn { return w.goZeroConn("user.rpc") },
}

func TestMain(m *testing.M) {
	logx.Disable() // go-zero's etcd clients outlive the tests, and would log that etcd is down
	os.Exit(m.Run())
}

// goZeroPublish registers an address with go-zero's publisher. The end of the
// test unregisters the address.
func (w *world) goZeroPublish(key, addr string) *discov.Publisher {
	w.t.Helper()

	publisher := discov.NewPublisher(w.etcd.Endpoints(), key, addr)
	kit.Must(w.t, publisher.KeepAlive())

	w.t.Cleanup(func() {
		publisher.Stop()
		kit.Eventually(w.t, "go-zero has unregistered "+addr, func() bool {
			return !slices.ContainsFunc(w.entries(key+"/"), func(e entry) bool {
				return e.value == addr
			})
		})
	})

	return publisher
}

// goZeroConn returns a connection whose resolver uses go-zero's subscriber, as
// go-zero's zrpc does.
func (w *world) goZeroConn(key string) *grpc.ClientConn {
	w.t.Helper()

	follow := func(
		ctx context.Context,
		target resolver.Target,
		update func([]resolver.Address),
	) error {
		subscriber, err := discov.NewSubscriber(w.etcd.Endpoints(), target.Endpoint())
		if err != nil {
			return err
		}
		defer subscriber.Close()

		changed := make(chan struct{}, 1)
		subscriber.AddListener(func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})

		for {
			update(bare(slices.Sorted(slices.Values(subscriber.Values()))))

			select {
			case <-changed:
			case <-ctx.Done():
				return nil
			}
		}
	}

	return w.dial("discov:///"+key, peerResolver{"discov", follow})
}

// grpcEtcd is a registry with the scheme grpcEtcd. Its entries are
// /grpcEtcd/<name>/<addr> → <addr>. Readers take the address from the key. A
// loop restores a lost entry.
var grpcEtcd = system{
	name: "grpcEtcd",
	desc: &runtime.ServiceDesc{
		Name:   "basic.Greeter",
		Key:    "/grpcEtcd/callee",
		Layout: runtime.Plain,
	},
	target:    "etcd:////grpcEtcd/callee", // their callers dial grpcEtcd://caller/callee
	neighbour: "/grpcEtcd/callee2",
	register: func(w *world, key, addr string) (leave func()) {
		return w.keepEntry(func(clientv3.LeaseID) string { return key + "/" + addr }, addr)
	},
	returns: true,
	dial: func(w *world) *grpc.ClientConn {
		const prefix = "/grpcEtcd/callee/"
		addrOf := func(kv *mvccpb.KeyValue) string {
			return strings.TrimPrefix(string(kv.Key), prefix)
		}

		return w.dialReader("grpcEtcd://caller/callee", prefix, addrOf)
	},
}

// xiezengcheng is xiezengcheng/grpc-etcd. The keys of all services begin with
// /etcd/, followed by an instance name that contains the service's name.
// Callers dial "etcd:///", for all services.
var xiezengcheng = system{
	name: "xiezengcheng",
	desc: &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/etcd", Layout: runtime.Plain},
	opts: []grpc.DialOption{runtime.WithSelector(func(e runtime.Endpoint) bool {
		return !strings.HasPrefix(e.Instance, "user-service-")
	})},
	neighbour: "/etcd/user-service-",
	register: func(w *world, key, addr string) (leave func()) {
		if key == "/etcd" {
			key = "/etcd/order-service-"
		}

		return w.keepEntry(func(clientv3.LeaseID) string { return key + addr }, addr)
	},
	dial: func(w *world) *grpc.ClientConn { return w.dialReader("etcd:///", "/etcd", valueOf) },
}

// leaseSuffix is a registry whose entries are <service><lease id> → host:port.
// A loop renews the lease and, if that fails, puts the address under the key of
// another lease. Readers list the keys that begin with the service's name.
var leaseSuffix = system{
	name: "lease suffix",
	desc: &runtime.ServiceDesc{
		Name:   "basic.Greeter",
		Key:    "hello",
		Layout: runtime.LeaseSuffix,
	},
	target:    "etcd:///hello?layout=lease_suffix",
	neighbour: "hello2",
	register: func(w *world, key, addr string) (leave func()) {
		keyOn := func(lease clientv3.LeaseID) string {
			return key + strconv.FormatInt(int64(lease), 10)
		}

		return w.keepEntry(keyOn, addr)
	},
	returns: true,
	dial: func(w *world) *grpc.ClientConn {
		return w.dialReader("suffix:///hello", "hello", valueOf)
	},
}

// tutorial is the registry of a tutorial that many services copied. Keys
// contain the server's version. Readers list the keys of all versions, which
// begin with "/user/".
var tutorial = system{
	name: "a tutorial's",
	desc: &runtime.ServiceDesc{
		Name: "basic.Greeter",
		Key:  "/user/v1",
		Layout: runtime.JSONLayout(runtime.JSONFields{
			Addr:    "addr",
			Version: "version",
			Weight:  "weight",
		}),
	},
	neighbour: "/user/v2",
	register: func(w *world, key, addr string) (leave func()) {
		value := fmt.Sprintf(`{"name":"user","addr":%q,"version":%q,"weight":1}`, addr,
			strings.TrimPrefix(key, "/user/"))
		return w.keepEntry(func(clientv3.LeaseID) string { return key + "/" + addr }, value)
	},
	returns: true,
	dial: func(w *world) *grpc.ClientConn {
		return w.dialReader("tutorial:///user", "/user/", func(kv *mvccpb.KeyValue) string {
			var s struct {
				Addr string `json:"addr"`
			}

			_ = json.Unmarshal(kv.Value, &s) // skip values that are not JSON

			return s.Addr
		})
	},
}
