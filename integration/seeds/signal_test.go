//go:build unix

package seeds

import (
	"context"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Both ways of leaving on a signal; theirs and ours, in one process, hear the same one. (Not
// SIGTERM and the like, for which go-zero has handlers that end the process.)
func TestGrpcEtcd_UnregisterOnSignal(t *testing.T) {
	kit.Night(t)
	w := newWorld(t)
	peer := newGrpcEtcd(t, w.etcd.Endpoints()[0])
	stays, theirs := w.serve("stays"), w.serve("theirs")
	peer.register("callee", stays.addr, time.Second)
	entry := peer.register("callee", theirs.addr, time.Second)
	entry.unregisterOn(syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGHUP)
	defer stop()
	w.run(ctx, w.newRegistry(), "ours", func(s *runtime.Server) {
		registerGreeter(s, "ours", callee)
	})
	w.publish("ours too", callee)
	conn := w.conn(callee)
	w.balanced(conn, "stays", "theirs", "ours", "ours too")
	must(t, syscall.Kill(syscall.Getpid(), syscall.SIGHUP))
	w.balanced(conn, "stays", "ours too")
	if left := w.entries(grpcEtcdKey("callee", "")); len(left) != 2 {
		t.Errorf("in etcd are %+v, want two", left)
	}
}
