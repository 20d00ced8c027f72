package gomicro

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	merrors "go-micro.dev/v4/errors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// failures maps requests to errors.
var failures = map[string]func() error{
	"an error of go-micro's": func() error {
		return merrors.NotFound("user", "no user %d", 7)
	},
	"one with a code that is no status": func() error {
		return merrors.New("user", "out of stock", 422)
	},
	"a plain error": func() error { return errors.New("plain") },
	"a panic":       func() error { panic("a bug") },
}

// greeter adapts go-micro's implementation to a gRPC server.
type greeter struct {
	basic.UnimplementedGreeterServer
	micro *Greeter
}

func (g greeter) SayHello(
	ctx context.Context,
	request *basic.HelloRequest,
) (*basic.HelloReply, error) {
	if request.GetName() == "a status with details" {
		s, err := status.New(codes.FailedPrecondition, "closed").WithDetails(&basic.HelloReply{})
		return nil, cmp.Or(err, s.Err())
	}

	reply := new(basic.HelloReply)

	return reply, g.micro.SayHello(ctx, request, reply)
}

// newServer returns one of our servers that keeps go-micro's behaviour and also
// answers go-micro's callers. docs/migration.md has the same lines.
func newServer(registry *runtime.Registry, impl basic.GreeterServer) *runtime.Server {
	server := registry.NewServer(grpc.NewServer(grpc.ChainUnaryInterceptor(asMicro)))
	old := basic.Greeter_ServiceDesc
	old.ServiceName = "user.Greeter" // go-micro's callers call /user.Greeter/SayHello
	server.RegisterService(&old, impl)

	return server
}

// asMicro handles errors and panics as go-micro's server does.
// docs/migration.md sends readers here.
func asMicro(
	ctx context.Context,
	req any,
	_ *grpc.UnaryServerInfo,
	handler grpc.UnaryHandler,
) (reply any, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = merrors.InternalServerError("go.micro.server", "panic recovered: %v", v)
		}

		if e, ok := merrors.As(err); ok {
			err = status.Error(cmp.Or(microCodes[e.Code], codes.Unknown), e.Error())
		}

		if s := status.Convert(err); len(s.Details()) > 0 {
			err = status.Error(s.Code(), s.Message()) // details make go-micro's callers panic
		}
	}()

	return handler(ctx, req)
}

var microCodes = map[int32]codes.Code{
	400: codes.InvalidArgument,
	401: codes.Unauthenticated,
	403: codes.PermissionDenied,
	404: codes.NotFound,
	408: codes.DeadlineExceeded,
	409: codes.AlreadyExists,
	412: codes.FailedPrecondition,
	500: codes.Internal,
	501: codes.Unimplemented, 503: codes.Unavailable,
}

// microErrors converts errors to go-micro's for our callers. docs/migration.md
// sends readers here.
func microErrors(
	ctx context.Context,
	method string,
	req, reply any,
	conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	err := invoke(ctx, method, req, reply, conn, opts...)
	if e := merrors.Parse(status.Convert(err).Message()); e.Code > 0 {
		return e
	}

	return err
}

// sayHello returns a function that calls over one of our connections.
func sayHello(
	conn grpc.ClientConnInterface,
) func(ctx context.Context, name string) (string, error) {
	return func(ctx context.Context, name string) (string, error) {
		reply, err := basic.NewGreeterClient(conn).SayHello(ctx, &basic.HelloRequest{Name: name})
		return reply.GetMessage(), err
	}
}

// answers returns the reply and error that a caller receives for each failure.
func answers(
	w *world.World,
	sayHello func(ctx context.Context, name string) (string, error),
) map[string]string {
	seen := make(map[string]string, len(failures))
	for name := range failures {
		reply, err := sayHello(w.Context(), name)
		seen[name] = fmt.Sprintf("%s: status %v, %v", reply, status.Code(err), err)
	}

	return seen
}

// Callers of both kinds receive the same errors as from go-micro, also for
// panics.
func TestErrorsAreKept(t *testing.T) {
	w := world.New(t)
	_, key := w.StartServer(user.Key, "server", w.EtcdAddr(), "theirs")
	old := newCaller(theirs(w)).sayHello
	want := map[string]map[string]string{"go-micro's": answers(w, old)}

	// a go-micro caller that does not watch yet notices a change only after a
	// minute
	w.Watched(user.Key + "/")

	callers := map[string]func(context.Context, string) (string, error){
		"go-micro's": old,
		"ours":       sayHello(w.Conn(user)),
		"ours with go-micro's errors": sayHello(w.Conn(user,
			grpc.WithChainUnaryInterceptor(microErrors))),
	}
	for name, caller := range callers {
		want[name] = answers(w, caller)
	}

	w.Remove(key)
	impl := greeter{micro: &Greeter{"ours"}}
	w.PublishOn(newServer(w.NewRegistry(), impl), impl, user)

	for name, caller := range callers {
		w.Eventually(func() string { return name }, func() bool {
			answer, err := caller(w.Context(), "")
			return err == nil && answer == "ours"
		})

		if got := answers(w, caller); !maps.Equal(got, want[name]) {
			t.Errorf("callers that are %s receive %q, want %q", name, got, want[name])
		}
	}

	// go-micro's servers send no details. Details would make go-micro's client
	// panic in its own goroutine.
	_, err := callers["go-micro's"](w.Context(), "a status with details")
	if merrors.FromError(err).Code != 412 {
		t.Errorf("a status with details: %v, want an error with the code 412", err)
	}
}
