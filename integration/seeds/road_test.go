package seeds

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/roadtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestRoad moves a fleet under load: one process after the other, and back. The other systems share a layout with one of these,
// or have a TestMigration of their own.
func TestRoad(t *testing.T) {
	for _, s := range []system{etcdNaming, leaseSuffix} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			roadtest.Run(t, s.road)
		})
	}
}

// road has the fleet's present servers and callers, and those of ours.
func (s system) road(t *testing.T) (from, to roadtest.Kind) {
	w := startWorld(t)
	from = roadtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			old := w.serve(name)
			return s.register(w, s.desc.Key, old.addr), old.stop
		},
		Dial: func() (roadtest.Call, func()) {
			conn := s.dial(w)
			w.eventually("their caller has read what there is", func() bool { // go-zero's fails until then
				_, err := sayHello(bounded(t), conn)
				return err == nil
			})
			return calls(conn)
		},
	}
	to = roadtest.Kind{
		Serve: func(name string) (leave, stop func()) { return nil, w.publish(name, s.desc).stop },
		Dial:  func() (roadtest.Call, func()) { return calls(w.conn(s.desc, s.opts...)) },
	}
	return from, to
}

func calls(conn *grpc.ClientConn) (roadtest.Call, func()) {
	return func(ctx context.Context) (string, error) { return sayHello(ctx, conn) }, func() { _ = conn.Close() }
}

// Half of a fleet stays on each of two layouts for good. Callers of ours call all of it, each server once, and a live policy
// holds for either half; old callers call their half.
func TestHalfOnEachLayout(t *testing.T) {
	w := newWorld(t)
	const key = "user.rpc"
	zero := &runtime.ServiceDesc{Name: "basic.Greeter", Key: key, Layout: runtime.GoZero}
	json := &runtime.ServiceDesc{Name: "basic.Greeter", Key: key}
	w.publish("zero 1", zero)
	w.goZeroPublish(key, w.serve("zero 2").addr)
	w.publish("json 1", json, runtime.WithVersion("v2"))
	w.publish("json 2", json, runtime.WithVersion("v2"))

	ofZero, ofJSON := w.conn(zero), w.conn(json)
	for _, conn := range []*grpc.ClientConn{ofZero, ofJSON} {
		w.balanced(conn, "zero 1", "zero 2", "json 1", "json 2")
	}
	w.balanced(w.goZeroConn(key), "zero 1", "zero 2")
	w.balanced(w.etcdNamingConn(key), "json 1", "json 2")

	must(t, w.registry.SetServiceConfig(bounded(t), key,
		`{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"version":"v2"},"weight":0},{"match":{"version":""},"weight":1}]}}]}`))
	for _, conn := range []*grpc.ClientConn{ofZero, ofJSON} {
		w.balanced(conn, "zero 1", "zero 2")
	}
}
