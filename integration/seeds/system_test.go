package seeds

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// A system is one that this project succeeds, with one of its services.
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

// TestTheirWriterOurClient reads what their writer registers with our client.
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
			t.Errorf("%s is on lease %x, its status has %x", server.name, got.lease, server.lease())
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
	first := layout{s.desc.Layout, "KEY/INSTANCE", ""} // a home-made one
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
