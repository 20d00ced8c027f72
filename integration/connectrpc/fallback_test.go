package connectrpc

import (
	"testing"

	connectgo "connectrpc.com/connect"

	"github.com/etcdrpc/protoc-gen-go-etcd/connectetcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect/connectconnect"
)

// Calls of clients of Connect go to another cluster's servers while home has none, and come back.
func TestFallback(t *testing.T) {
	w := newWorld(t)
	w.libraries("away")
	inHome := runtime.WithNamespace("home-" + w.namespace)
	client, err := connectconnect.NewLibraryClientFromEtcd(w.newRegistry(inHome, runtime.WithFallback(w.registry)), plaintext)
	must(t, err)
	answeredBy := func(want string) {
		t.Helper()
		kit.Eventually(t, soon, "a call is answered by "+want, func() bool {
			reply, err := client.Borrow(kit.Bounded(t, soon), connectgo.NewRequest(&connect.BorrowRequest{}))
			must(t, err)
			return reply.Msg.GetServer() == want
		})
	}
	answeredBy("away")
	home := w.serveOf(w.newRegistry(inHome), h2c(), func(s *connectetcd.Server) {
		connectconnect.RegisterLibraryHandlerToEtcd(s, library{name: "home"})
	})
	answeredBy("home")
	must(t, home.stop())
	answeredBy("away")
}
