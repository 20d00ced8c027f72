package discovery

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestP5_ATargetThatWaitsEndsWithItsConnection closes the connection, or the registry, while a call
// that names its instance waits for the first state, under a policy of the caller's.
func TestP5_ATargetThatWaitsEndsWithItsConnection(t *testing.T) {
	for name, end := range map[string]func(w *world, conn *grpc.ClientConn){
		"the connection": func(_ *world, conn *grpc.ClientConn) { _ = conn.Close() },
		"the registry":   func(w *world, _ *grpc.ClientConn) { _ = w.registry.Close(kit.Bounded(w.t, soon)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.etcd.Stop()
			conn := w.conn(grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := call(runtime.WithTarget(ctx, "b"), conn)
				ended <- err
			}()
			time.Sleep(200 * time.Millisecond)
			end(w, conn)
			select {
			case err := <-ended:
				if status.Code(err) != codes.Canceled {
					t.Errorf("the call ended with %v", err)
				}
			case <-time.After(3 * time.Second):
				t.Error("the call still waits, 3 s after its connection was closed")
				cancel()
				t.Log(<-ended)
			}
		})
	}
}

// TestInstancesHeldAtTheirOldAddress has the sole instance vanish and come back elsewhere: what calls
// name is the new address.
func TestInstancesHeldAtTheirOldAddress(t *testing.T) {
	w := newWorld(t, nil)
	first := w.register(w.serve("a"))
	w.register(w.serve("b"))
	i, conn := w.instances(), w.conn()
	if _, err := ask(kit.Bounded(t, soon), i); err != nil {
		t.Fatal(err)
	}
	reached(t, conn, soon, "a", "b")
	if _, err := w.etcd.Admin().Delete(kit.Bounded(t, soon), key+"/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	kit.Eventually(t, soon, "none is left", func() bool { all, _ := i.All(kit.Bounded(t, soon)); return len(all) == 0 })
	reached(t, conn, soon, "a", "b")
	first.stop()
	w.register(w.serve("a"))
	kit.Eventually(t, soon, "a is called", func() bool {
		names, err := ask(kit.Bounded(t, soon), i)
		return err == nil && fmt.Sprint(names) == "[a]"
	})
	if held := w.registry.Status().Keys[0].Held; held != 1 {
		t.Errorf("%d endpoints are held, want b alone, for a is back at another address", held)
	}
	if got, err := call(runtime.WithTarget(kit.Bounded(t, soon), "a"), conn); err != nil || got != "a" {
		t.Errorf("a target: %q, %v", got, err)
	}
	if got, err := call(runtime.WithTarget(kit.Bounded(t, soon), "b"), conn); err != nil || got != "b" {
		t.Errorf("a held target: %q, %v", got, err)
	}
}

// TestK7_AReplacedClusterAndADirectory replaces the cluster at its address: a process that starts while
// etcd is away has the endpoints of the new one.
func TestK7_AReplacedClusterAndADirectory(t *testing.T) {
	leak.Beside(t)
	dir := t.TempDir()
	w := newWorld(t, nil, runtime.WithSnapshotDir(dir), runtime.WithEmptyGrace(0))
	w.register(w.serve("a"))
	reached(t, w.conn(), soon, "a")
	time.Sleep(1500 * time.Millisecond)
	if err := w.etcd.Wipe(); err != nil {
		t.Fatal(err)
	}
	w.register(w.serve("b"))
	reached(t, w.conn(), soon, "b")
	time.Sleep(1500 * time.Millisecond)
	w.etcd.Stop()
	w.registry = w.newRegistry(w.etcd.Client(t), runtime.WithSnapshotDir(dir))
	reached(t, w.conn(), soon, "b")
}

// TestP5_ATargetBeforeThePolicyIsConnected makes the first call of a connection one that names its
// instance, where the policy is ours though the config is not: named by the caller, or live.
func TestP5_ATargetBeforeThePolicyIsConnected(t *testing.T) {
	for name, tt := range map[string]struct{ given, live string }{
		"named by the caller": {given: `{"loadBalancingConfig":[{"etcd":{}}]}`},
		"live":                {given: `{"loadBalancingConfig":[{"round_robin":{}}]}`, live: `{"loadBalancingConfig":[{"round_robin":{}}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			for _, name := range []string{"a", "b"} {
				w.register(w.serve(name))
			}
			if tt.live != "" {
				w.put("_grpc_config/"+key, tt.live)
			}
			for range 5 {
				conn := w.conn(grpc.WithDefaultServiceConfig(tt.given))
				if got, err := call(runtime.WithTarget(kit.Bounded(t, soon), "b"), conn); err != nil || got != "b" {
					t.Errorf("%q, %v", got, err)
				}
				_ = conn.Close()
			}
		})
	}
}
