package connectetcd

import (
	"context"
	"errors"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
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
	return interceptor{runtime.CarryLane, runtime.CarryLaneStream}
}

// CheckLeader returns an error unless the call with ctx, the context that Connect gives to a handler, is for this process as
// the leader that it is now: see [leader.Leadership.Check]. Call it first in handlers of the leader's methods: callers make a
// unary call again that it refuses, because nothing was done. Later in a handler use Check, with [NewLaneInterceptor].
func CheckLeader(ctx context.Context, leads *leader.Leadership) error {
	var header http.Header
	if info, ok := connect.CallInfoForHandlerContext(ctx); ok {
		header = info.RequestHeader()
	}
	md, _ := toMetadata(header)
	err := leads.Check(metadata.NewIncomingContext(ctx, md))
	if err == nil {
		return nil
	}
	refusal := fromStatus(status.Convert(err))
	if refusal.Code() == connect.CodeUnavailable {
		refusal.Meta()["Etcd-Leader-Refused"] = header["Etcd-Leader-Call"] // as leader.Guard does
	}
	return refusal
}

// An interceptor has interceptors of a gRPC server intercept the calls of handlers. What handlers get in their contexts
// is what those of gRPC get: the request's metadata.
type interceptor struct {
	unary  grpc.UnaryServerInterceptor
	stream grpc.StreamServerInterceptor
}

func (i interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if req.Spec().IsClient {
			return next(ctx, req)
		}
		sent := sentMetadata{method: req.Spec().Procedure, header: make(http.Header), trailer: make(http.Header)}
		var resp connect.AnyResponse
		info := &grpc.UnaryServerInfo{FullMethod: req.Spec().Procedure}
		_, err := i.unary(sent.incoming(ctx, req.Header()), req.Any(), info, func(ctx context.Context, _ any) (any, error) {
			var err error
			resp, err = next(ctx, req)
			return resp, err
		})
		if err != nil {
			return nil, sent.fail(err)
		}
		mergeHeaders(resp.Header(), sent.header)
		mergeHeaders(resp.Trailer(), sent.trailer)
		return resp, nil
	}
}

func (interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (i interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		sent := sentMetadata{method: conn.Spec().Procedure, header: conn.ResponseHeader(), trailer: make(http.Header)}
		stream := serverStream{sent, sent.incoming(ctx, conn.RequestHeader()), conn}
		info := &grpc.StreamServerInfo{
			FullMethod:     conn.Spec().Procedure,
			IsClientStream: conn.Spec().StreamType&connect.StreamTypeClient != 0,
			IsServerStream: conn.Spec().StreamType&connect.StreamTypeServer != 0,
		}
		err := i.stream(nil, stream, info, func(_ any, stream grpc.ServerStream) error {
			return next(stream.Context(), handlerConn{conn, stream})
		})
		if err != nil {
			return sent.fail(err)
		}
		mergeHeaders(conn.ResponseTrailer(), sent.trailer)
		return nil
	}
}

// sentMetadata is a grpc.ServerTransportStream for what interceptors send with a reply.
type sentMetadata struct {
	method          string
	header, trailer http.Header
}

func (s sentMetadata) Method() string                  { return s.method }
func (s sentMetadata) SetHeader(md metadata.MD) error  { addMetadata(s.header, md); return nil }
func (s sentMetadata) SendHeader(md metadata.MD) error { return s.SetHeader(md) } // with the reply
func (s sentMetadata) SetTrailer(md metadata.MD) error { addMetadata(s.trailer, md); return nil }

// incoming returns the context of a call as gRPC's interceptors know it.
func (s sentMetadata) incoming(ctx context.Context, header http.Header) context.Context {
	md, _ := toMetadata(header) // an error: a value that no caller of gRPC's could have sent
	return grpc.NewContextWithServerTransportStream(metadata.NewIncomingContext(ctx, md), s)
}

// fail returns the error of a call as Connect sends it. A gRPC status becomes Connect's error, with the trailers that go
// with it. Any other error is left alone: it is the handler's, may be shared between calls, and others read its chain.
func (s sentMetadata) fail(err error) error {
	if failed := new(connect.Error); errors.As(err, &failed) {
		return err
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	failed := fromStatus(st)
	mergeHeaders(failed.Meta(), s.trailer)
	return failed
}

func mergeHeaders(into, from http.Header) {
	for name, values := range from {
		into[name] = append(into[name], values...)
	}
}

// serverStream is the stream of a handler as gRPC's interceptors know it.
type serverStream struct {
	sentMetadata
	ctx  context.Context
	conn connect.StreamingHandlerConn
}

func (s serverStream) Context() context.Context  { return s.ctx }
func (s serverStream) SetTrailer(md metadata.MD) { addMetadata(s.trailer, md) }
func (s serverStream) SendMsg(message any) error { return s.conn.Send(message) }
func (s serverStream) RecvMsg(message any) error { return s.conn.Receive(message) }

// handlerConn is the stream that a handler has, beneath which are gRPC's interceptors.
type handlerConn struct {
	connect.StreamingHandlerConn
	stream grpc.ServerStream
}

func (c handlerConn) Send(message any) error    { return c.stream.SendMsg(message) }
func (c handlerConn) Receive(message any) error { return c.stream.RecvMsg(message) }
