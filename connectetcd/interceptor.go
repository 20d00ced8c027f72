package connectetcd

import (
	"context"
	"errors"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
)

// NewLaneInterceptor returns an interceptor for handlers, given by connect.WithInterceptors: the calls that a handler makes
// with its context are in the lane of the call that it handles. See [runtime.CarryLane]. The context also has the request's
// metadata, as in a gRPC server. Clients ignore the interceptor. Handlers' errors that are gRPC statuses reach callers with
// the status's code.
func NewLaneInterceptor() connect.Interceptor {
	return laneInterceptor{func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			if req.Spec().IsClient {
				return next(ctx, req)
			}
			resp, err := next(incoming(ctx, req.Header()), req)
			return resp, fromStatus(err)
		}
	}}
}

type laneInterceptor struct{ connect.UnaryInterceptorFunc }

func (laneInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return fromStatus(next(incoming(ctx, conn.RequestHeader()), conn))
	}
}

// incoming returns ctx with a request's metadata and lane. Metadata that is not base64 is left out: gRPC's clients send none.
func incoming(ctx context.Context, header http.Header) context.Context {
	md, _ := toMetadata(header)
	ctx = metadata.NewIncomingContext(ctx, md)
	// CarryLane decides which lane counts, and returns no error of its own.
	_, _ = runtime.CarryLane(ctx, nil, nil, func(carried context.Context, _ any) (any, error) {
		ctx = carried
		return nil, nil
	})
	return ctx
}

// fromStatus returns an error of a handler as Connect sends it. A gRPC status becomes an error of Connect with the same
// code: the numbers are the same. Other errors stay as they are: calls may share them, and others may inspect their chains.
func fromStatus(err error) error {
	if coded := new(connect.Error); err == nil || errors.As(err, &coded) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	converted := connect.NewError(connect.Code(s.Code()), errors.New(s.Message()))
	for _, value := range s.Proto().GetDetails() {
		if detail, wrong := connect.NewErrorDetail(value); wrong == nil {
			converted.AddDetail(detail)
		}
	}
	return converted
}

// CheckLeader returns an error unless the call with ctx, the context that Connect gives to a handler, is for this process as
// the leader that it is now: see [leader.Leadership.Check]. Call it first in handlers of the leader's methods: callers make a
// unary call again that it refuses, because nothing was done. Later in a handler use Check, with [NewLaneInterceptor].
func CheckLeader(ctx context.Context, leads *leader.Leadership) error {
	var header http.Header
	if info, ok := connect.CallInfoForHandlerContext(ctx); ok {
		header = info.RequestHeader()
	}
	err := fromStatus(leads.Check(incoming(ctx, header)))
	if refusal := new(connect.Error); errors.As(err, &refusal) && refusal.Code() == connect.CodeUnavailable {
		refusal.Meta()["Etcd-Leader-Refused"] = header["Etcd-Leader-Call"] // as leader.Guard does
	}
	return err
}
