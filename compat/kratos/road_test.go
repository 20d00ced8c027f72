package kratos

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/roadtest"
)

// ends returns kratos' servers and callers, and ours.
func ends(t *testing.T, w *world.World) (from, to roadtest.Kind) {
	from = roadtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			return nil, w.StartServer(user.Key, "server", w.EtcdAddr(), name).Terminate
		},
		Dial: func() (roadtest.Call, func()) { return world.Caller(dial(t, w, theirs(t, w))) },
	}
	to = roadtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			return nil, w.PublishOn(newServer(w.NewRegistry()), &world.Greeter{Name: name}, user).Stop
		},
		Dial: func() (roadtest.Call, func()) { return world.Caller(w.Conn(user)) },
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
		to.Serve = func(name string) (leave, stop func()) {
			return nil, w.StartServer(user.Key, "announced server", w.EtcdAddr(), name).Terminate
		}
		return from, to
	})
}
