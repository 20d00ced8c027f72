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

// A system is an earlier registry, with one of its services.
type system struct {
	name      string
	desc      *runtime.ServiceDesc
	target    string            // of the service for callers without a ServiceDesc; "": none
	opts      []grpc.DialOption // of callers of ours, if only options exclude the neighbour
	neighbour string            // the key of a service with adjacent entries

	// register makes their writer put a server's entry under a service's key and keep it until leave.
	register func(w *world, key, addr string) (leave func())
	returns  bool // their writer puts an entry on another lease once its lease is gone
	// dial returns a connection with their reader.
	dial func(w *world) *grpc.ClientConn
}

var systems = []system{etcdNaming, hanjm, grpcEtcd, xiezengcheng, leaseSuffix, tutorial, goZero}

// each runs a test for each system.
func each(t *testing.T, test func(s system, t *testing.T)) {
	for _, s := range systems {
		t.Run(s.name, func(t *testing.T) { test(s, t) })
	}
}

// TestTheirWriterOurClient calls servers that their writer registers with our client.
func TestTheirWriterOurClient(t *testing.T) { each(t, system.theirWriterOurClient) }

func (s system) theirWriterOurClient(t *testing.T) {
	w := newWorld(t, runtime.WithEmptyGrace(0))
	a, b, c := w.serve("a"), w.serve("b"), w.serve("c")
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
		w.eventually("c is on another lease", func() bool { return w.entryOf(c).lease != lost })
		reach("a", "b", "c")
	}
	leave()
	reach("a", "b")
}

// TestOurWriterTheirReader reads the entries of our servers, two of which share a process, with their reader.
func TestOurWriterTheirReader(t *testing.T) { each(t, system.ourWriterTheirReader) }

func (s system) ourWriterTheirReader(t *testing.T) {
	w := newWorld(t)
	conn, registry := s.dial(w), w.newRegistry()
	a, b, c := w.publishIn(registry, "a", s.desc), w.publish("b", s.desc), w.publishIn(registry, "c", s.desc)
	w.balanced(conn, "a", "b", "c")
	for _, server := range []*server{a, b, c} {
		if got := w.entryOf(server); got.lease != server.lease() {
			t.Errorf("entry of %s is on lease %x, want %x as in its status", server.name, got.lease, server.lease())
		}
	}
	lost := b.lease()
	w.revoke(lost)
	w.eventually("b is on another lease", func() bool { return b.lease() != lost && b.lease() != 0 })
	w.balanced(conn, "a", "b", "c")
	c.stop()
	w.balanced(conn, "a", "b")
}

// A second layout does not break a reader: the reader skips the entry, or dials an address that fails.
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
	first := layout{s.desc.Layout, "KEY/INSTANCE", ""} // a layout of the user's own
	if i := slices.IndexFunc(layouts, func(l layout) bool { return l.Layout == s.desc.Layout }); i >= 0 {
		first = layouts[i]
	}
	// grpcEtcd takes the address from the key, where KITEX and GO_FRAME have it, too.
	byAddr := s.name == grpcEtcd.name
	if first.sharesKey(second) || byAddr && second.key == "KEY/ADDR" {
		return
	}
	for _, server := range []*server{w.serve("a"), w.serve("b")} {
		endpoint := runtime.Endpoint{Instance: server.name, Addr: server.addr, Version: "v2"}
		if byAddr {
			endpoint.Instance = server.addr
		}
		registration, err := w.newRegistry().Register(bounded(w.t), s.desc.Key, endpoint, runtime.WithLayouts(first.Layout, second.Layout))
		kit.Must(w.t, err)
		defer func() {
			if err := registration.Close(bounded(w.t)); err != nil {
				w.t.Error(err)
			}
		}()
	}
	w.balanced(s.dial(w), "a", "b")
}

// keepEntry is the common part of the systems' writers: an entry on a lease, which a loop renews each
// second. On failure the loop puts the entry on another lease. leave ends the loop.
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
	kit.Must(w.t, put(bounded(w.t)))
	stop := w.follow(func(ctx context.Context) {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if _, err := w.theirs.KeepAliveOnce(ctx, lease); err == nil {
				continue
			}
			if err := put(ctx); err != nil && !ended(ctx, err) {
				w.t.Logf("put %s again: %v", key(lease), err)
			}
		}
	})
	return sync.OnceFunc(func() {
		stop()
		w.revoke(lease)
	})
}

// etcdNaming is etcd's own client/v3/naming.
var etcdNaming = system{
	name:      "etcd naming",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "my-service", Layout: runtime.EndpointJSON},
	target:    "etcd:///my-service",
	neighbour: "my-service-2",
	register: func(w *world, key, addr string) (leave func()) {
		manager, err := endpoints.NewManager(w.theirs, key)
		kit.Must(w.t, err)
		kit.Must(w.t, manager.AddEndpoint(bounded(w.t), key+"/"+addr, endpoints.Endpoint{Addr: addr, Metadata: "..."}))
		return func() { kit.Must(w.t, manager.DeleteEndpoint(bounded(w.t), key+"/"+addr)) }
	},
	dial: func(w *world) *grpc.ClientConn { return w.etcdNamingConn("my-service") },
}

// etcdNamingConn returns a connection with etcd's own resolver.
func (w *world) etcdNamingConn(key string) *grpc.ClientConn {
	w.t.Helper()
	builder, err := etcdresolver.NewBuilder(w.theirs)
	kit.Must(w.t, err)
	return w.dial("etcd:///"+key, builder)
}

// A server that replaces another one at its address takes its entry over, also an entry without a lease.
func TestEtcdNaming_InPlace(t *testing.T) {
	w := newWorld(t)
	old := w.serve("old")
	etcdNaming.register(w, etcdNaming.desc.Key, old.addr)
	server := w.newRegistry().NewServer(grpc.NewServer())
	server.Publish(etcdNaming.desc)
	kit.Must(t, server.Announce(bounded(t), old.addr))
	if status, entry := server.Status()[0], w.entryOf(old); status.State != runtime.StateRegistered || entry.lease != status.LeaseID {
		t.Errorf("status %+v with the entry %+v, want registered on the lease of the entry", status, entry)
	}
	kit.Must(t, server.Withdraw(bounded(t)))
	if left := w.entries(etcdNaming.desc.Key); len(left) > 0 {
		t.Errorf("entries after Withdraw: %+v, want none", left)
	}
}

// goZero is go-zero's own core/discov.
var goZero = system{
	name:      "go-zero",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "user.rpc", Layout: runtime.GoZero},
	target:    "etcd:///user.rpc",
	neighbour: "user.rpc2",
	register:  func(w *world, key, addr string) (leave func()) { return w.goZeroPublish(key, addr).Stop },
	returns:   true,
	dial:      func(w *world) *grpc.ClientConn { return w.goZeroConn("user.rpc") },
}

func TestMain(m *testing.M) {
	logx.Disable() // go-zero keeps its etcd clients until the process ends, and logs that etcd is down
	os.Exit(m.Run())
}

// goZeroPublish registers with go-zero's own publisher, and unregisters with the test.
func (w *world) goZeroPublish(key, addr string, opts ...discov.PubOption) *discov.Publisher {
	w.t.Helper()
	publisher := discov.NewPublisher(w.etcd.Endpoints(), key, addr, opts...)
	kit.Must(w.t, publisher.KeepAlive())
	w.t.Cleanup(func() {
		publisher.Stop()
		w.eventually("go-zero has unregistered "+addr, func() bool {
			return !slices.ContainsFunc(w.entries(key+"/"), func(e entry) bool { return e.value == addr })
		})
	})
	return publisher
}

// goZeroConn returns a connection with go-zero's own subscriber as resolver, as its zrpc does.
func (w *world) goZeroConn(key string) *grpc.ClientConn {
	w.t.Helper()
	return w.dial("discov:///"+key, peerResolver{"discov", func(ctx context.Context, target resolver.Target, update func([]resolver.Address)) error {
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
	}})
}

// namingUpdate is naming.Update of gRPC before 1.30. etcd's old clientv3/naming, and hanjm after it,
// store its JSON in etcd.
type namingUpdate struct {
	Op       uint8 // 0 adds
	Addr     string
	Metadata any
}

// hanjm is hanjm's package, whose users add and delete entries by calls.
var hanjm = system{
	name:      "hanjm",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "my-service", Layout: runtime.EndpointJSON},
	neighbour: "my-service-2",
	register: func(w *world, key, addr string) (leave func()) {
		value, err := json.Marshal(namingUpdate{Addr: addr})
		kit.Must(w.t, err)
		w.put(key+"/"+addr, string(value))
		return func() { w.delete(key + "/" + addr) }
	},
	dial: func(w *world) *grpc.ClientConn {
		return w.dialReader("hanjm:///my-service", "my-service/", func(kv *mvccpb.KeyValue) string {
			var u namingUpdate
			_ = json.Unmarshal(kv.Value, &u) // skip values that are not JSON
			return u.Addr
		})
	},
}

// grpcEtcd is the grpcEtcd resolver with its registration. /grpcEtcd/<name>/<addr> holds the address,
// and readers take it from the key. A ticker restores a lost entry.
var grpcEtcd = system{
	name:      "grpcEtcd",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/grpcEtcd/callee", Layout: runtime.Plain},
	target:    "etcd:////grpcEtcd/callee", // formerly grpcEtcd://caller/callee
	neighbour: "/grpcEtcd/callee2",
	register: func(w *world, key, addr string) (leave func()) {
		return w.keepEntry(func(clientv3.LeaseID) string { return key + "/" + addr }, addr)
	},
	returns: true,
	dial: func(w *world) *grpc.ClientConn {
		return w.dialReader("grpcEtcd://caller/callee", "/grpcEtcd/callee/", func(kv *mvccpb.KeyValue) string {
			return strings.TrimPrefix(string(kv.Key), "/grpcEtcd/callee/")
		})
	},
}

// xiezengcheng is xiezengcheng/grpc-etcd: all services are under the prefix /etcd, and callers dial
// "etcd:///". Instance names contain the service's name.
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

// leaseSuffix is the lease-suffix registry: <service><lease id> holds host:port. A loop renews the lease, and puts
// the address under another key if that fails. A gateway lists the keys that begin with the service's name.
var leaseSuffix = system{
	name:      "lease suffix",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "hello", Layout: runtime.LeaseSuffix},
	target:    "etcd:///hello?layout=lease_suffix",
	neighbour: "hello2",
	register: func(w *world, key, addr string) (leave func()) {
		return w.keepEntry(func(lease clientv3.LeaseID) string { return key + strconv.FormatInt(int64(lease), 10) }, addr)
	},
	returns: true,
	dial:    func(w *world) *grpc.ClientConn { return w.dialReader("suffix:///hello", "hello", valueOf) },
}

// tutorial is the registry of a tutorial that many services copied. Its keys contain the version of
// the server, and a reader accepts the keys of all versions below "/user/".
var tutorial = system{
	name: "a tutorial's",
	desc: &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/user/v1",
		Layout: runtime.JSONLayout(runtime.JSONFields{Addr: "addr", Version: "version", Weight: "weight"})},
	neighbour: "/user/v2",
	register: func(w *world, key, addr string) (leave func()) {
		value := fmt.Sprintf(`{"name":"user","addr":%q,"version":%q,"weight":1}`, addr, strings.TrimPrefix(key, "/user/"))
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
