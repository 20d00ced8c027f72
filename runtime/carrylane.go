package runtime

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// CarryLane is a unary server interceptor that passes on lanes: the calls that
// a handler makes with its context get the lane of the handled call. It ignores
// an invalid lane.
//
//	grpc.NewServer(grpc.ChainUnaryInterceptor(runtime.CarryLane), grpc.ChainStreamInterceptor(runtime.CarryLaneStream))
func CarryLane(
	ctx context.Context,
	req any,
	_ *grpc.UnaryServerInfo,
	handler grpc.UnaryHandler,
) (any, error) {
	ctx, _ = incomingLane(ctx)
	return handler(ctx, req)
}

// CarryLaneStream is [CarryLane] for streams.
func CarryLaneStream(
	srv any,
	stream grpc.ServerStream,
	_ *grpc.StreamServerInfo,
	handler grpc.StreamHandler,
) error {
	if ctx, ok := incomingLane(stream.Context()); ok {
		stream = serverStream{stream, ctx}
	}

	return handler(srv, stream)
}

// serverStream is a stream with a context of its own.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s serverStream) Context() context.Context {
	return s.ctx
}

// incomingLane returns ctx with the lane from the request metadata of the
// handled call. ok is false if the metadata has no valid lane.
func incomingLane(ctx context.Context) (_ context.Context, ok bool) {
	sent := metadata.ValueFromIncomingContext(ctx, serviceconfig.LaneHeader)
	if len(sent) == 0 || !serviceconfig.ValidLane(sent[len(sent)-1]) {
		return ctx, false
	}

	return WithLane(ctx, sent[len(sent)-1]), true
}
