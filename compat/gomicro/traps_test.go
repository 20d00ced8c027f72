package gomicro

import (
	"strings"
	"testing"

	"go-micro.dev/v4/client"
	merrors "go-micro.dev/v4/errors"
	"go-micro.dev/v4/selector"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// The name of the service in go-micro is not the proto package here, so that its callers call methods which a gRPC server
// does not know.
func TestUncured(t *testing.T) {
	w := world.New(t)
	w.Publish("new", user)
	_, err := newCaller(theirs(w)).sayHello(w.Context(), "")
	if e, ok := merrors.As(err); !ok || e.Code != 501 || !strings.Contains(e.Detail, "user.Greeter") {
		t.Errorf("a server without the cure answers %v", err)
	}
}

// go-micro's client takes the first detail of a status for an error, and panics in a goroutine of its own if it is none.
func TestDetailsEndOldCallers(t *testing.T) {
	for name, tt := range map[string]struct {
		opts []grpc.ServerOption
		dies bool
	}{
		"as they are":     {nil, true},
		"through asMicro": {[]grpc.ServerOption{grpc.ChainUnaryInterceptor(asMicro)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := world.New(t)
			server, impl := w.NewRegistry().NewServer(grpc.NewServer(tt.opts...)), greeter{micro: &Greeter{"ours"}}
			cure(server, impl)
			w.PublishOn(server, impl, user)
			caller := w.Start("caller", w.EtcdAddr(), "a status with details")
			if !tt.dies {
				w.Eventually(caller.Output, func() bool { return strings.Contains(caller.Output(), `answered: {"id":"go.micro.client","code":412,`) })
				return
			}
			if output := caller.Dies(); !strings.Contains(output, "panic: interface conversion: ") {
				t.Errorf("it ended with %s", output)
			}
		})
	}
}

// A caller that asks for the version which go-micro's servers have by default finds those of ours that have it.
func TestFilterByVersion(t *testing.T) {
	w := world.New(t)
	for name, opts := range map[string][]runtime.RegisterOption{"without": nil, "with": {runtime.WithVersion("latest")}} {
		impl := greeter{micro: &Greeter{name}}
		w.PublishOn(newServer(w.NewRegistry(), impl), impl, user, opts...)
	}
	old := newCaller(theirs(w))
	for range 20 { // of two it picks one at random
		var reply basic.HelloReply
		err := old.Call(w.Context(), old.NewRequest("user", "Greeter.SayHello", &basic.HelloRequest{}), &reply,
			client.WithSelectOption(selector.WithFilter(selector.FilterVersion("latest"))))
		if err != nil || reply.GetMessage() != "with" {
			t.Fatalf("%q, %v", reply.GetMessage(), err)
		}
	}
}
