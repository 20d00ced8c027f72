package kratos

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/go-kratos/kratos/v2/errors"
	"github.com/go-kratos/kratos/v2/middleware"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// asked is a server that does what its caller requests.
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

// Errors, panics and deadlines keep kratos' behaviour, since kratos still makes the gRPC server.
// Errors are statuses with details: callers find reasons and metadata in them without kratos' code in
// the connection. kratos' client middleware goes into our connection.
func TestErrorsAreKept(t *testing.T) {
	w := world.New(t)
	w.PublishOn(newServer(w.NewRegistry()), asked{}, user)
	var noted []string
	note := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, req any) (any, error) {
			reply, err := next(ctx, req)
			noted = append(noted, fmt.Sprintf("%T, %T, %v", req, reply, status.Code(err)))
			return reply, err
		}
	}
	ours := w.Conn(user, grpc.WithChainUnaryInterceptor(middlewares(note)))
	for caller, conn := range map[string]*grpc.ClientConn{"their caller": dial(t, w), "our caller": ours} {
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
	if len(noted) != 3 || noted[2] != "*basic.HelloRequest, *basic.HelloReply, OK" {
		t.Errorf("the middleware saw %q", noted)
	}

	// A stream. Without an endpoint, kratos' interceptor would panic.
	stream, err := grpc_health_v1.NewHealthClient(ours).Watch(w.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Errorf("a stream: %v", err)
	}
}
