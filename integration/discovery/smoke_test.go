package discovery

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

func call(ctx context.Context, conn grpc.ClientConnInterface, opts ...grpc.CallOption) (string, error) {
	reply, err := basic.NewGreeterClient(conn).SayHello(ctx, &basic.HelloRequest{}, opts...)
	return reply.GetMessage(), err
}

// reached calls until exactly the named servers have answered a whole round, and returns how long
// that took.
func (w *world) reached(conn grpc.ClientConnInterface, within time.Duration, names ...string) time.Duration {
	w.t.Helper()
	return eventually(w.t, within, "calls reach "+strings.Join(names, ", "), func() bool {
		seen := map[string]bool{}
		for range 3 * len(names) {
			name, err := call(bounded(w.t, soon), conn)
			if err != nil {
				w.t.Logf("call: %v", err)
				return false
			}
			seen[name] = true
		}
		if len(seen) != len(names) {
			return false
		}
		for _, name := range names {
			if !seen[name] {
				return false
			}
		}
		return true
	})
}

func TestCallsFollowEtcd(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.register(w.serve("a")), w.register(w.serve("b"))
	conn := w.conn()
	w.reached(conn, soon, "a", "b")
	w.delete(key + "/" + a.name)
	t.Logf("withdrawal followed after %v", w.reached(conn, soon, "b"))
	w.register(a)
	t.Logf("addition followed after %v", w.reached(conn, soon, "a", "b"))
	_ = b

	for range 20 {
		name, err := call(runtime.WithTarget(bounded(t, soon), "a"), conn)
		if name != "a" || err != nil {
			t.Fatalf("targeted call reached %q, %v", name, err)
		}
	}
	if _, err := call(runtime.WithTarget(bounded(t, soon), "nobody"), conn, grpc.WaitForReady(true)); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("call of an instance that is not there: %v, want Unavailable, naming it", err)
	}
	var names []string
	err := basic.EachGreeterClientFromEtcd(bounded(t, soon), w.registry, func(ctx context.Context, e runtime.Endpoint, c basic.GreeterClient) error {
		reply, err := c.SayHello(ctx, &basic.HelloRequest{})
		if err == nil && reply.Message != e.Instance {
			t.Errorf("the call for %q reached %q", e.Instance, reply.Message)
		}
		w.logs.mu.Lock()
		names = append(names, reply.GetMessage())
		w.logs.mu.Unlock()
		return err
	}, plaintext()...)
	if err != nil || len(names) != 2 {
		t.Errorf("each: %v, %v", names, err)
	}
}

func TestR4_NoEndpoint(t *testing.T) {
	w := newWorld(t, nil)
	conn := w.conn()
	start := time.Now()
	_, err := call(bounded(t, soon), conn)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), key) {
		t.Errorf("call: %v, want Unavailable, naming %q", err, key)
	}
	t.Logf("failed after %v: %v", time.Since(start), err)
	result := make(chan error, 1)
	go func() {
		_, err := call(bounded(t, soon), conn, grpc.WaitForReady(true))
		result <- err
	}()
	w.register(w.serve("a"))
	if err := <-result; err != nil {
		t.Errorf("a call that waits: %v", err)
	}
}

func TestR1_EtcdDownWhenBuilt(t *testing.T) {
	w := newWorld(t, nil)
	w.register(w.serve("a"))
	w.etcd.Cut()
	client := w.etcd.Client(t)
	w.registry = w.newRegistry(client)
	start := time.Now()
	conn := w.conn()
	if took := time.Since(start); took > 50*time.Millisecond {
		t.Errorf("NewClient took %v", took)
	}
	start = time.Now()
	_, err := call(bounded(t, 2*time.Second), conn)
	t.Logf("after %v: %v", time.Since(start), err)
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "etcd") {
		t.Errorf("call: %v", err)
	}
	w.etcd.Restore()
	t.Logf("works after %v", w.reached(conn, soon, "a"))
}

func TestD1_Compacted(t *testing.T) {
	w := newWorld(t, nil)
	a := w.register(w.serve("a"))
	conn := w.conn()
	w.reached(conn, soon, "a")
	w.etcd.Cut()
	w.register(w.serve("b"))
	w.put("unrelated", "x")
	w.delete(key + "/" + a.name)
	if _, err := w.etcd.Compact(bounded(t, soon)); err != nil {
		t.Fatal(err)
	}
	w.etcd.Restore()
	t.Logf("converged after %v", w.reached(conn, soon, "b"))
	t.Log(w.etcd.Calls().Count(etcdtest.Range, key), w.etcd.Calls().Count(etcdtest.Watch, key))
}

func TestD4_Wiped(t *testing.T) {
	w := newWorld(t, nil)
	w.register(w.serve("a"))
	for range 100 {
		w.put("unrelated", "x")
	}
	conn := w.conn()
	w.reached(conn, soon, "a")
	if err := w.etcd.Wipe(); err != nil {
		t.Fatal(err)
	}
	w.register(w.serve("b"))
	w.register(w.serve("c"))
	t.Logf("converged after %v", w.reached(conn, 2*soon, "b", "c"))
}
