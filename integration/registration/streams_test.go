package registration

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// watchStreams counts the goroutines that serve watch streams in the etcd client.
func watchStreams() int { return len(leak.In("go.etcd.io/etcd/client/v3.(*watchG")) }

// connection waits until the connection to etcd is up, or down.
func connection(t *testing.T, conn *grpc.ClientConn, up bool) {
	t.Helper()
	ctx := kit.Bounded(t, soon)
	for state := conn.GetState(); (state == connectivity.Ready) != up; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			t.Fatalf("the connection stays %s", state)
		}
	}
}

// A server watches its own keys after each reconnect, and leaves none of the earlier watches.
func TestReconnectsLeaveNoWatch(t *testing.T) {
	w := newWorld(t, nil)
	g := w.register(key, addr(0))
	calls := w.etcd.Calls()
	watching := func() {
		t.Helper()
		kit.Must(t, calls.Wait(kit.Bounded(t, soon), etcdtest.Watch, "", 1))
	}
	watching()
	one := 0
	kit.Eventually(t, soon, "a stream is served", func() bool { one = watchStreams(); return one > 0 })
	const reconnects = 12
	for i := range reconnects {
		calls.Reset()
		if i%3 == 2 {
			w.etcd.Pause() // requests from here on get no answer before the cut
		}
		if i%3 != 0 {
			w.delete(entry)
		}
		w.etcd.Cut()
		connection(t, w.client.ActiveConnection(), false)
		w.etcd.Resume()
		w.etcd.Restore()
		connection(t, w.client.ActiveConnection(), true)
		watching()
	}
	w.state(g, runtime.StateRegistered)
	kit.Eventually(t, soon, "streams to end", func() bool { return watchStreams() <= one })
	w.delete(entry)
	kit.Eventually(t, soon, "put back", func() bool { return w.get(entry) != nil })
}
