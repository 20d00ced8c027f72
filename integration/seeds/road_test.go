package seeds

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/migrationtest"
)

// TestRoad moves a fleet under load, one process after the other, and back. The other systems share a
// layout with this one, have a TestMigration of their own, or are in compat.
func TestRoad(t *testing.T) { migrationtest.Run(t, etcdNaming.road) }

// road returns the fleet's present servers and callers, and ours.
func (s system) road(t *testing.T) (from, to migrationtest.Kind) {
	w := startWorld(t)
	from = migrationtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			old := w.serve(name)
			return s.register(w, s.desc.Key, old.addr), old.stop
		},
		Dial: func() (migrationtest.Call, func()) {
			conn := s.dial(w)
			w.eventually("their caller has read what there is", func() bool { // go-zero's fails until then
				_, err := sayHello(bounded(t), conn)
				return err == nil
			})
			return calls(conn)
		},
	}
	to = migrationtest.Kind{
		Serve: func(name string) (leave, stop func()) { return nil, w.publish(name, s.desc).stop },
		Dial:  func() (migrationtest.Call, func()) { return calls(w.conn(s.desc, s.opts...)) },
	}
	return from, to
}

func calls(conn *grpc.ClientConn) (migrationtest.Call, func()) {
	return func(ctx context.Context) (string, error) { return sayHello(ctx, conn) }, func() { _ = conn.Close() }
}
