package main

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/roadtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// user is the service of go-zero's fleet.
var user = &runtime.ServiceDesc{
	Name: "basic.Greeter", Key: basic.Greeter_EtcdServiceDesc.Key, Layout: runtime.GoZero,
	ServiceConfig: `{"loadBalancingConfig":[{"round_robin":{}}]}`,
}

// ends returns zrpc's servers and callers, and ours.
func ends(t *testing.T, w *world.World) (from, to roadtest.Kind) {
	from = roadtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			return nil, w.StartServer(user.Key, "server", w.EtcdAddr(), name).Terminate
		},
		Dial: func() (roadtest.Call, func()) { return world.Caller(dial(t, w, user.Key)) },
	}
	to = roadtest.Kind{
		Serve: func(name string) (leave, stop func()) { return nil, w.Publish(name, user).Stop },
		Dial:  func() (roadtest.Call, func()) { return world.Caller(w.Conn(user)) },
	}
	return from, to
}

// A fleet of go-zero's moves under load.
func TestRoad(t *testing.T) {
	roadtest.Run(t, func(t *testing.T) (from, to roadtest.Kind) { return ends(t, world.New(t)) })
}

// A fleet of go-zero's keeps its zrpc servers and clients: this project announces the first, and resolves for the second.
func TestRoadWithTheirServer(t *testing.T) {
	roadtest.Run(t, func(t *testing.T) (from, to roadtest.Kind) {
		w := world.New(t)
		from, to = ends(t, w)
		to.Serve = func(name string) (leave, stop func()) {
			return nil, w.StartServer(user.Key, "announced server", w.EtcdAddr(), name).Terminate
		}
		to.Dial = func() (roadtest.Call, func()) {
			client, err := newZrpcClient(w.Registry, user.Key)
			if err != nil {
				t.Fatal(err)
			}
			return world.Caller(client.Conn())
		}
		return from, to
	})
}
