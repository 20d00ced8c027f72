package kratos

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/roadtest"
)

// process starts a server in a process of its own, and returns when it is in etcd. SIGTERM stops it.
func process(w *world.World, program, name string) (leave, stop func()) {
	before := len(w.Entries(user.Key + "/"))
	p := w.Start(program, w.EtcdAddr(), name)
	w.Eventually(p.Output, func() bool { return len(w.Entries(user.Key+"/")) > before })
	return nil, p.Terminate
}

func caller(conn *grpc.ClientConn) (roadtest.Call, func()) {
	return func(ctx context.Context) (string, error) { return world.SayHello(ctx, conn) }, func() { _ = conn.Close() }
}

// ends returns kratos' servers and callers, and ours.
func ends(t *testing.T, w *world.World) (from, to roadtest.Kind) {
	from = roadtest.Kind{
		Serve: func(name string) (leave, stop func()) { return process(w, "server", name) },
		Dial:  func() (roadtest.Call, func()) { return caller(dial(t, w, theirs(t, w))) },
	}
	to = roadtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			return nil, w.PublishOn(newServer(w.NewRegistry()), &world.Greeter{Name: name}, user).Stop
		},
		Dial: func() (roadtest.Call, func()) { return caller(w.Conn(user)) },
	}
	return from, to
}

// A fleet of kratos' moves under load.
func TestRoad(t *testing.T) {
	roadtest.Run(t, func(t *testing.T) (from, to roadtest.Kind) { return ends(t, world.New(t)) })
}

// A fleet of kratos' keeps its applications, which this project announces.
func TestRoadWithTheirApp(t *testing.T) {
	roadtest.Run(t, func(t *testing.T) (from, to roadtest.Kind) {
		w := world.New(t)
		from, to = ends(t, w)
		to.Serve = func(name string) (leave, stop func()) { return process(w, "announced server", name) }
		return from, to
	})
}
