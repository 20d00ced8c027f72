package gomicro

import (
	"strings"
	"testing"

	merrors "go-micro.dev/v4/errors"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
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
