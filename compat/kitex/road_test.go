package kitex

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/loadbalance"
	"github.com/cloudwego/kitex/pkg/loadbalance/lbcache"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/roadtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// refresh is how often kitex' callers list, for they do not watch: every 5 s by default.
func refresh() time.Duration {
	if roadtest.Full() {
		return 5 * time.Second
	}
	return 100 * time.Millisecond
}

// dialed counts the callers. kitex refreshes the lists of all clients with one interval in turn, also of those whose etcd has gone.
var dialed atomic.Int64

// ends returns kitex' servers and callers, and ours.
func ends(t *testing.T, w *world.World) (from, to roadtest.Kind) {
	from = roadtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			return nil, w.StartServer(user.Key, "server", w.EtcdAddr(), name).Terminate
		},
		Dial: func() (roadtest.Call, func()) {
			c := newCaller(t, w, client.WithLoadBalancer(loadbalance.NewWeightedRoundRobinBalancer(), &lbcache.Options{
				RefreshInterval: refresh() + time.Duration(dialed.Add(1))*time.Microsecond,
			}))
			return func(ctx context.Context) (string, error) { return c.sayHello(ctx, "") }, func() {}
		},
	}
	to = roadtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			server := w.NewRegistry().NewServer(grpc.NewServer(), runtime.WithDrainDelay(refresh()+time.Second))
			return nil, w.PublishOn(server, &world.Greeter{Name: name}, user).Stop
		},
		Dial: func() (roadtest.Call, func()) {
			return world.Caller(w.Conn(user))
		},
	}
	return from, to
}

// A fleet of kitex' moves under load.
func TestRoad(t *testing.T) {
	roadtest.Run(t, func(t *testing.T) (from, to roadtest.Kind) { return ends(t, world.New(t)) })
}

// A fleet of kitex' keeps its servers, which this project announces.
func TestRoadWithTheirServer(t *testing.T) {
	roadtest.Run(t, func(t *testing.T) (from, to roadtest.Kind) {
		w := world.New(t)
		from, to = ends(t, w)
		to.Serve = func(name string) (leave, stop func()) {
			return nil, w.StartServer(user.Key, "announced server", w.EtcdAddr(), name).Terminate
		}
		return from, to
	})
}
