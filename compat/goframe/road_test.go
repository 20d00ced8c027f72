package goframe

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/roadtest"
)

// A fleet of GoFrame's moves under load. Each server is ended by the signal that ends GoFrame's.
func TestRoad(t *testing.T) {
	roadtest.Run(t, func(t *testing.T) (from, to roadtest.Kind) {
		w := world.New(t)
		from = roadtest.Kind{
			Serve: func(name string) (leave, stop func()) { return nil, startTheirs(w, "server", name).Terminate },
			Dial: func() (roadtest.Call, func()) {
				return world.Caller(dialTheirs(t, w))
			},
		}
		to = roadtest.Kind{
			Serve: func(name string) (leave, stop func()) {
				return nil, w.PublishOn(newServer(w.NewRegistry()), &world.Greeter{Name: name}, user).Stop
			},
			Dial: func() (roadtest.Call, func()) {
				return world.Caller(newConn(w))
			},
		}
		return from, to
	})
}
