package gomicro

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/roadtest"
)

// oldKind is go-micro's servers and callers. A server of go-micro's ends at once, and whoever has just picked it fails. So
// its key is deleted first, by hand.
func oldKind(t *testing.T, w *world.World) roadtest.Kind {
	return roadtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			process := w.Start("server", w.EtcdAddr(), name)
			key := nodeKey(w, process)
			return func() { remove(t, w, key) }, process.Terminate
		},
		Dial: func() (roadtest.Call, func()) {
			old, watches := newCaller(theirs(w)), w.Etcd.Calls().Count(etcdtest.Watch, user.Key)
			call := func(ctx context.Context) (string, error) { return old.sayHello(ctx, "") }
			if _, err := call(w.Context()); err != nil {
				t.Error(err)
			}
			// It watches up to 0.1 s later, and learns of what has changed meanwhile after a minute.
			if err := w.Etcd.Calls().Wait(w.Context(), etcdtest.Watch, user.Key, watches+1); err != nil {
				t.Error(err)
			}
			return call, func() {}
		},
	}
}

// nodeKey waits until a server of go-micro's is in etcd, and returns its key.
func nodeKey(w *world.World, process *world.Process) (key string) {
	w.Eventually(process.Output, func() bool {
		_, id, logged := strings.Cut(process.Output(), "Registering node: ")
		id, _, _ = strings.Cut(id, "\n")
		key = user.Key + "/" + id
		return logged && len(w.Entries(key)) == 1
	})
	return key
}

// remove deletes a key, as etcdctl would.
func remove(t *testing.T, w *world.World, key string) {
	t.Helper()
	if deleted, err := w.Etcd.Admin().Delete(w.Context(), key); err != nil || deleted.Deleted != 1 {
		t.Errorf("delete %s: %v, %v", key, deleted, err)
	}
}

// newCallers are ours.
func newCallers(w *world.World) func() (roadtest.Call, func()) {
	return func() (roadtest.Call, func()) {
		return world.Caller(w.Conn(user, grpc.WithChainUnaryInterceptor(microErrors)))
	}
}

// A fleet of go-micro's moves to gRPC servers that are cured.
func TestRoad(t *testing.T) {
	roadtest.Run(t, func(t *testing.T) (from, to roadtest.Kind) {
		w := world.New(t)
		return oldKind(t, w), roadtest.Kind{
			Serve: func(name string) (leave, stop func()) {
				impl := greeter{micro: &Greeter{name}}
				return nil, w.PublishOn(newServer(w.NewRegistry(), impl), impl, user).Stop
			},
			Dial: newCallers(w),
		}
	})
}

// A fleet of go-micro's keeps its servers, which this project announces.
func TestRoadWithTheirServer(t *testing.T) {
	roadtest.Run(t, func(t *testing.T) (from, to roadtest.Kind) {
		w := world.New(t)
		return oldKind(t, w), roadtest.Kind{
			Serve: func(name string) (leave, stop func()) {
				return nil, w.StartServer(user.Key, "announced server", w.EtcdAddr(), name).Terminate
			},
			Dial: newCallers(w),
		}
	})
}
