package kratos

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-kratos/kratos/v2/errors"
	"github.com/go-kratos/kratos/v2/middleware"
	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// asked is a server that does what its caller asks for.
type asked struct {
	basic.UnimplementedGreeterServer
}

func (asked) SayHello(ctx context.Context, request *basic.HelloRequest) (*basic.HelloReply, error) {
	switch request.GetName() {
	case "a panic":
		panic("a bug")
	case "an error":
		return nil, errors.NotFound("NO_SUCH_USER", "no such user").WithMetadata(map[string]string{"id": "7"})
	case "the time left":
		deadline, ok := ctx.Deadline()
		return &basic.HelloReply{Message: fmt.Sprint(ok && time.Until(deadline) <= time.Second)}, nil
	}
	return &basic.HelloReply{}, nil
}

// What kratos' server does with errors, panics and deadlines stays as it was, for kratos makes the gRPC server still. Errors
// are statuses with details, so that callers find reasons and metadata in them without a line of kratos' in the connection.
func TestKeeps(t *testing.T) {
	w := world.New(t)
	w.PublishOn(newServer(w.NewRegistry()), asked{}, user)
	for caller, conn := range map[string]*grpc.ClientConn{"their caller": dial(t, w, theirs(t, w)), "our caller": w.Conn(user)} {
		ask := func(what string) (string, *errors.Error) {
			reply, err := basic.NewGreeterClient(conn).SayHello(w.Context(), &basic.HelloRequest{Name: what})
			return reply.GetMessage(), errors.FromError(err)
		}
		if _, err := ask("a panic"); err.GetReason() != "UNKNOWN" || err.GetCode() != 500 {
			t.Errorf("%s: a panic: %v", caller, err)
		}
		if _, err := ask("an error"); !errors.IsNotFound(err) || err.GetReason() != "NO_SUCH_USER" || err.GetMetadata()["id"] != "7" {
			t.Errorf("%s: an error: %v", caller, err)
		}
		if left, err := ask("the time left"); left != "true" {
			t.Errorf("%s: a call has a second: %q, %v", caller, left, err)
		}
	}

	if err := listServices(w, w.Conn(user)); err != nil {
		t.Errorf("a stream: %v", err)
	}
}

// listServices makes a stream: it asks for the services of a server.
func listServices(w *world.World, conn grpc.ClientConnInterface) error {
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(w.Context())
	if err != nil {
		return err
	}
	list := &grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	}
	if err := stream.Send(list); err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}

// A gRPC server of kratos' that kratos has not started needs an endpoint: its interceptor for streams panics without one.
func TestStreamWithoutEndpoint(t *testing.T) {
	w := world.New(t)
	p := w.Start("bare server", "127.0.0.1:0")
	var addr string
	w.Eventually(p.Output, func() bool {
		_, rest, ok := strings.Cut(p.Output(), "listening on ")
		addr, _, _ = strings.Cut(rest, "\n")
		return ok && strings.Contains(rest, "\n")
	})
	conn, err := grpc.NewClient(addr, world.Plaintext())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := listServices(w, conn); err == nil {
		t.Error("it answers")
	}
	if output := p.Dies(); !strings.Contains(output, "nil pointer") {
		t.Errorf("it ended with %s", output)
	}
}

// Middleware of kratos' for clients goes into our connection.
func TestKeepsClientMiddleware(t *testing.T) {
	w := world.New(t)
	w.Publish("a", user)
	var seen []string
	note := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, req any) (any, error) {
			reply, err := next(ctx, req)
			seen = append(seen, fmt.Sprintf("%T, %T, %v", req, reply, status.Code(err)))
			return reply, err
		}
	}
	conn := w.Conn(user, grpc.WithChainUnaryInterceptor(middlewares(note)))
	if name, err := world.SayHello(w.Context(), conn); name != "a" || err != nil {
		t.Fatal(name, err)
	}
	if got := fmt.Sprint(seen); got != "[*basic.HelloRequest, *basic.HelloReply, OK]" {
		t.Error(got)
	}
}
