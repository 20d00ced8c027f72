package goframe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/gogf/gf/v2/errors/gcode"
	"github.com/gogf/gf/v2/errors/gerror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// failing fails as its caller requests.
type failing struct {
	basic.UnimplementedGreeterServer
}

// failures maps requests to errors.
var failures = map[string]func() error{
	"a code of GoFrame's":    func() error { return gerror.NewCode(gcode.CodeNotFound, "no such user") },
	"a code of one's own":    func() error { return gerror.NewCode(gcode.New(1001, "", nil), "out of stock") },
	"a code that is wrapped": func() error { return gerror.Wrap(gerror.NewCode(gcode.New(1001, "", nil), "out of stock"), "order") },
	"a status":               func() error { return status.Error(codes.ResourceExhausted, "slower") },
	"a plain error":          func() error { return errors.New("plain") },
	"a panic":                func() error { panic("a bug") },
}

func (failing) SayHello(_ context.Context, request *basic.HelloRequest) (*basic.HelloReply, error) {
	return nil, failures[request.GetName()]()
}

// answers returns a caller's view of each failure.
func answers(w *world.World, conn grpc.ClientConnInterface) map[string]string {
	seen := make(map[string]string, len(failures))
	for name := range failures {
		_, err := basic.NewGreeterClient(conn).SayHello(w.Context(), &basic.HelloRequest{Name: name})
		seen[name] = fmt.Sprintf("status %v, gcode %d, %v", status.Code(err), gerror.Code(err).Code(), err)
	}
	return seen
}

// Errors and panics keep GoFrame's behaviour: GoFrame still makes the gRPC server, and our connection
// has GoFrame's interceptors.
func TestErrorsAreKept(t *testing.T) {
	w := world.New(t)
	process, _ := w.StartServer(user.Key, "failing server", w.EtcdAddr())
	theirs, ours := dialTheirs(t, w), newConn(w)
	want := answers(w, theirs)
	if want["a panic"] != "status Unknown, gcode 2, panic recovered: a bug" {
		t.Errorf("GoFrame returns %q for a panic, which has changed", want["a panic"])
	}
	compare := func(step string, conn grpc.ClientConnInterface) {
		t.Helper()
		if got := answers(w, conn); !maps.Equal(got, want) {
			t.Errorf("%s: %q, want %q", step, got, want)
		}
	}
	compare("our caller, their server", ours)

	w.PublishOn(newServer(w.NewRegistry()), failing{}, user)
	process.Terminate()
	compare("our caller, our server", ours)
	compare("their caller, our server", theirs)
}
