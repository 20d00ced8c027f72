package discovery

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// lane gives calls on a connection a lane.
type lane struct {
	grpc.ClientConnInterface
	name string
}

func (l lane) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return l.ClientConnInterface.Invoke(runtime.WithLane(ctx, l.name), method, args, reply, opts...)
}

func TestLanes(t *testing.T) {
	f := newFleet(t)
	f.start("base1")
	f.start("base2", runtime.WithMetadata("lane", ""))
	f.start("pr7", runtime.WithMetadata("lane", "pr-7"))
	v2 := f.start("v2", runtime.WithVersion("v2"))
	conn := f.client(policy(`{"etcd":{"route":[{"lane":"beta","match":{"version":"v2"},"strict":true},{"label":"lane"}],"laneHeader":"x-lane"}}`))
	only(t, conn, "base1", "base2")
	only(t, lane{conn, "pr-7"}, "pr7")
	only(t, lane{conn, "beta"}, "v2")
	only(t, lane{conn, "pr-8"}, "base1", "base2")
	if name, err := call(metadata.AppendToOutgoingContext(kit.Bounded(t, soon), "x-lane", "pr-7"), conn); name != "pr7" || err != nil {
		t.Errorf("a lane by a header: %s, %v", name, err)
	}
	if name, err := call(runtime.WithTarget(kit.Bounded(t, soon), "base1"), lane{conn, "pr-7"}); name != "base1" || err != nil {
		t.Errorf("a target: %s, %v", name, err)
	}
	if _, err := call(kit.Bounded(t, soon), lane{conn, strings.Repeat("x", 10<<10)}); status.Code(err) != codes.InvalidArgument || len(err.Error()) > 300 {
		t.Errorf("a lane of 10 KiB: %.500v", err)
	}

	f.start("pr8", runtime.WithMetadata("lane", "pr-8"))
	only(t, lane{conn, "pr-8"}, "pr8")
	only(t, conn, "base1", "base2")
	v2.leave(t)
	kit.Eventually(t, soon, "a strict lane without an instance fails", func() bool {
		_, err := call(kit.Bounded(t, soon), lane{conn, "beta"})
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), `"beta"`) && strings.Contains(err.Error(), key)
	})
	f.live(policy(`{"etcd":{"route":[{"lane":"beta","match":{"instance":"base2"}}]}}`))
	only(t, lane{conn, "beta"}, "base2")
	only(t, conn, "base1", "pr7", "pr8")
}

// front is a greeter that calls the greeters of a key, and says which lane it has.
type front struct {
	basic.UnimplementedGreeterServer
	below grpc.ClientConnInterface
}

func (s *front) SayHello(ctx context.Context, _ *basic.HelloRequest) (*basic.HelloReply, error) {
	name, err := call(ctx, s.below)
	return &basic.HelloReply{Message: name}, err
}

// TestCarryLane makes calls with lanes through a server that knows nothing of lanes but CarryLane.
func TestCarryLane(t *testing.T) {
	f := newFleet(t)
	f.start("base")
	pr7 := f.start("pr7", runtime.WithMetadata("lane", "pr-7"))
	below := f.client(policy(`{"etcd":{"route":[{"label":"lane"}]}}`))
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(runtime.CarryLane), grpc.ChainStreamInterceptor(runtime.CarryLaneStream))
	basic.RegisterGreeterServer(server, &front{below: below})
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(lis) }()
	t.Cleanup(func() { server.Stop(); <-done })
	desc := basic.Greeter_EtcdServiceDesc
	desc.Key = "acme/front"
	if _, err := f.servers.Register(kit.Bounded(t, soon), desc.Key, runtime.Endpoint{Instance: "front", Addr: lis.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	conn := f.clientTo(f.registry, desc)
	only(t, conn, "base")
	only(t, lane{conn, "pr-7"}, "pr7")
	if md, _ := pr7.headers.Load().(metadata.MD); len(md.Get("etcd-lane")) != 1 || md.Get("etcd-lane")[0] != "pr-7" {
		t.Errorf("the last server is sent %v", md)
	}
	// A header that is no valid lane, which another kind of client may send, goes no further.
	if name, err := call(metadata.AppendToOutgoingContext(kit.Bounded(t, soon), "etcd-lane", "no lane"), conn); name != "base" || err != nil {
		t.Errorf("a header that is no lane: %s, %v", name, err)
	}
}
