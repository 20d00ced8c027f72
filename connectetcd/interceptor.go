package connectetcd

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// NewLaneInterceptor returns an interceptor for handlers: pass it to
// connect.WithInterceptors. It puts the lane of a call into the handler's
// context, and so into the calls that the handler makes: see
// [runtime.CarryLane]. As in a gRPC server, the context also has the request's
// metadata. If a handler returns a gRPC status as its error, the caller gets
// the status's code. [CheckLeader] needs the interceptor. In clients it does
// nothing.
func NewLaneInterceptor() connect.Interceptor {
	return laneInterceptor{}
}

// laneInterceptor inherits WrapStreamingClient, which changes nothing.
type laneInterceptor struct{ connect.UnaryInterceptorFunc }

func (laneInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(
		ctx context.Context,
		req connect.AnyRequest,
	) (connect.AnyResponse, error) {
		if req.Spec().IsClient {
			return next(ctx, req)
		}

		ctx = handling(ctx, req.Header(), false)
		defer ctx.Value(handledKey{}).(handled).end(nil)

		resp, err := next(ctx, req)
		if err != nil {
			err = cmp.Or(ended(ctx), fromStatus(err, nil))
		}

		return resp, err
	}
}

func (laneInterceptor) WrapStreamingHandler(
	next connect.StreamingHandlerFunc,
) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		ctx = handling(ctx, conn.RequestHeader(), true)
		defer ctx.Value(handledKey{}).(handled).end(nil)

		err := next(ctx, leaderConn{conn, ctx})

		return cmp.Or(ended(ctx), fromStatus(err, nil))
	}
}

// handled is a call that has passed the interceptor.
type handled struct {
	stream bool
	end    context.CancelCauseFunc // of the handler's context
}

type handledKey struct{}

// handling returns the context of a handler, with the request's metadata and
// lane. It omits binary metadata that is not valid base64. After CheckLeader,
// the context ends with the leadership, with an error of Connect as its cause.
func handling(ctx context.Context, header http.Header, stream bool) context.Context {
	md, _ := toMetadata(header)
	ctx, end := context.WithCancelCause(metadata.NewIncomingContext(ctx, md))
	ctx = context.WithValue(ctx, handledKey{}, handled{stream, end})

	keep := func(carried context.Context, _ any) (any, error) {
		ctx = carried
		return nil, nil
	}

	_, _ = runtime.CarryLane(ctx, nil, nil, keep) // returns the results of keep

	return ctx
}

// ended returns the error of a call whose leadership has ended, and otherwise
// nil.
func ended(ctx context.Context) error {
	var cause *connect.Error
	if errors.As(context.Cause(ctx), &cause) {
		return cause
	}

	return nil
}

// leaderConn is a stream whose Send and Receive return an error after the end
// of the leadership. Unlike leader.Guard, leaderConn does not interrupt a
// Receive that is under way at that time: an interruption would need a
// goroutine for each Receive, which might outlive the handler.
type leaderConn struct {
	connect.StreamingHandlerConn
	ctx context.Context
}

func (c leaderConn) Send(message any) error {
	return c.do(c.StreamingHandlerConn.Send, message)
}

func (c leaderConn) Receive(message any) error {
	return c.do(c.StreamingHandlerConn.Receive, message)
}

func (c leaderConn) do(sendOrReceive func(any) error, message any) error {
	err := ended(c.ctx)
	if err == nil {
		err = sendOrReceive(message)
	}

	return cmp.Or(ended(c.ctx), err)
}

// fromStatus converts a gRPC status and a trailer to an error of Connect. gRPC
// and Connect number the codes alike. fromStatus returns other errors
// unchanged: calls may share them, and interceptors may inspect what they wrap.
func fromStatus(err error, trailer metadata.MD) error {
	if err == nil || errors.As(err, new(*connect.Error)) {
		return err
	}

	s, ok := status.FromError(err)
	if !ok {
		return err
	}

	converted := connect.NewError(connect.Code(s.Code()), errors.New(s.Message()))
	addMetadata(converted.Meta(), trailer)

	for _, value := range s.Proto().GetDetails() {
		if detail, err := connect.NewErrorDetail(value); err == nil {
			converted.AddDetail(detail)
		}
	}

	return converted
}

// leadership is *leader.Leadership of package runtime/leader, which only
// programs with a leader link.
type leadership = interface {
	Enter(ctx context.Context, stream bool) (leading context.Context, err error)
}

// CheckLeader returns an error unless this process leads now, with the token
// that the call carries. Call it first in the handlers of the leader's methods:
// callers repeat a refused unary call, because the handler has done nothing
// yet. Later in a handler, call leads.Check.
//
// leads is a *leader.Leadership of package runtime/leader: see its Enter. ctx
// is the context that Connect passes to the handler, whose interceptors must
// include [NewLaneInterceptor].
//
// When the leadership ends, ctx ends with the cause leader.ErrEnded. The stream
// then fails with UNAVAILABLE, as behind leader.Guard. So does a unary call
// whose handler returns an error.
//
// A leader that resigns waits until the contexts of unary calls end. A context
// ends when the handler returns, or earlier if the caller cancels or the
// deadline passes. So a handler that resigns must do so in another goroutine.
func CheckLeader(ctx context.Context, leads leadership) error {
	call, ok := ctx.Value(handledKey{}).(handled)
	if !ok {
		return connect.NewError(connect.CodeInternal,
			errors.New("connectetcd: CheckLeader needs NewLaneInterceptor: register the handler with it"))
	}

	stream := new(trailerStream)
	ctx = grpc.NewContextWithServerTransportStream(ctx, stream)

	leading, err := leads.Enter(ctx, call.stream)
	if err != nil {
		return fromStatus(err, stream.trailer)
	}

	context.AfterFunc(leading, func() {
		if ctx.Err() == nil { // otherwise leading has ended with ctx
			call.end(connect.NewError(connect.CodeUnavailable, context.Cause(leading)))
		}
	})

	return nil
}

// trailerStream keeps the trailer that package leader sets for a refused call.
type trailerStream struct {
	grpc.ServerTransportStream
	trailer metadata.MD
}

func (s *trailerStream) SetTrailer(md metadata.MD) error {
	s.trailer = md
	return nil
}
