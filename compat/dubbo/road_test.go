package dubbo

import (
	"net"
	"testing"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/roadtest"
)

// process starts a server in a process of its own, and returns when it is in etcd. SIGTERM stops it,
// but does not take it out of etcd in time: somebody has to do that before.
func process(t *testing.T, w *world.World, name string) (leave, stop func()) {
	listener := w.Listen()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	p := w.StartServer(user.Key, "server", w.EtcdAddr(), port, name)
	conn, err := grpc.NewClient("127.0.0.1:"+port, world.Plaintext())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	w.Reaches(conn, name) // it is in etcd before it answers
	leave = func() {
		if _, err := w.Etcd.Admin().Delete(w.Context(), user.Key+"/127.0.0.1:"+port); err != nil {
			t.Error(err)
		}
	}
	return leave, p.Terminate
}

// The servers of a fleet of dubbo-go's, which have our callers by then, move under load. dubbo-go's own callers do not find
// our servers, so that they are the first to go.
func TestRoad(t *testing.T) {
	roadtest.Run(t, func(t *testing.T) (from, to roadtest.Kind) {
		w := world.New(t)
		dial := func() (roadtest.Call, func()) { return world.Caller(w.Conn(user)) }
		from = roadtest.Kind{Serve: func(name string) (leave, stop func()) { return process(t, w, name) }, Dial: dial}
		to = roadtest.Kind{Serve: func(name string) (leave, stop func()) { return nil, w.Publish(name, user).Stop }, Dial: dial}
		return from, to
	})
}
