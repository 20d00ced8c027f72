package leader

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
)

// Guard returns options for a gRPC server that has it refuse calls of the leader's methods which [Leadership.Check]
// refuses, before their interceptors that follow and their handlers run. Callers then wait for the leader, and make
// unary calls again. Other calls are let through.
//
// A leader that resigns in order takes no more of those calls, and leads until its unary ones have finished: see
// [runtime.Server.Serve], [runtime.Server.Withdraw] and [Leadership.Resign].
//
// The handlers of the leader's methods get contexts that end with the leadership, then with the cause [ErrEnded]. If it
// has ended, a handler's error becomes UNAVAILABLE, and a stream ends with that whatever its handler returns, to which it
// gives [ErrEnded] for each further message, also where the handler is waiting for one. A message that is no protobuf
// message must not be used again after that, for the stream may yet write to it. A handler that does not look at its context
// goes on, and the reply of a unary call is sent.
func Guard(registry *runtime.Registry, descs ...*runtime.ServiceDesc) []grpc.ServerOption {
	unary, stream := Interceptors(registry, descs...)
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(unary), grpc.ChainStreamInterceptor(stream)}
}

// Interceptors returns the interceptors of [Guard], for servers that take them in another way.
func Interceptors(registry *runtime.Registry, descs ...*runtime.ServiceDesc) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	g := guard{}
	for _, desc := range descs {
		l := Of(registry, desc)
		for _, method := range l.methods {
			g[method] = l
		}
	}
	return g.unary, g.stream
}

// guard holds the leadership that each method is for, by full method name.
type guard map[string]*Leadership

func (g guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	l := g[info.FullMethod]
	if l == nil {
		return handler(ctx, req)
	}
	leading, done, err := l.enter(ctx, true)
	if err != nil {
		return nil, err
	}
	defer done()
	reply, err := handler(leading, req)
	if err != nil && hasEnded(leading) {
		return nil, l.endedWith(err)
	}
	return reply, err
}

func (g guard) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	l := g[info.FullMethod]
	if l == nil {
		return handler(srv, stream)
	}
	leading, done, err := l.enter(stream.Context(), false)
	if err != nil {
		return err
	}
	defer done()
	err = handler(srv, leaderStream{stream, leading})
	if hasEnded(leading) {
		return l.endedWith(err)
	}
	return err
}

// enter returns a context for a call that this process may handle as the leader, which ends with the leadership, and
// refuses any other call.
func (l *Leadership) enter(ctx context.Context, unary bool) (leading context.Context, done context.CancelFunc, err error) {
	e, token, err := l.check(ctx)
	if err == nil {
		var ok bool
		if leading, done, ok = e.Enter(ctx, token, unary); ok {
			return leading, done, nil
		}
		err = l.leadsNot()
	}
	if status.Code(err) == codes.Unavailable {
		refusal := metadata.MD{election.RefusedTrailer: metadata.ValueFromIncomingContext(ctx, election.CallHeader)}
		_ = grpc.SetTrailer(ctx, refusal) // an error: the caller has gone
	}
	return nil, nil, err
}

// hasEnded reports whether the leadership has ended that a context is of.
func hasEnded(leading context.Context) bool {
	return errors.Is(context.Cause(leading), ErrEnded)
}

// endedWith is the error of a call whose leadership has ended, given that of its handler.
func (l *Leadership) endedWith(err error) error {
	text := ""
	if s := status.Convert(err); err != nil && s.Code() != codes.Canceled && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrEnded) {
		text = ": " + s.Message()
	}
	return status.Errorf(codes.Unavailable, "etcd: this instance no longer leads %q%s", l.key, text)
}

// leaderStream is a stream of a call for the leader.
type leaderStream struct {
	grpc.ServerStream
	leading context.Context
}

func (s leaderStream) Context() context.Context { return s.leading }

func (s leaderStream) SendMsg(m any) error {
	if hasEnded(s.leading) {
		return ErrEnded
	}
	return s.ServerStream.SendMsg(m)
}

// RecvMsg does not wait for the caller once the leadership has ended. What it leaves behind ends with the handler, and is the
// last that is asked of the stream, which takes one RecvMsg at a time. It has a message of its own, for the handler may use m
// again by then.
func (s leaderStream) RecvMsg(m any) error {
	if hasEnded(s.leading) {
		return ErrEnded
	}
	own := emptyOf(m)
	received := make(chan error, 1)
	go func() { received <- s.ServerStream.RecvMsg(own) }()
	var err error
	select {
	case err = <-received:
	case <-s.leading.Done():
		if !hasEnded(s.leading) { // it is the call that has ended
			err = <-received
		}
	}
	if hasEnded(s.leading) {
		return ErrEnded
	}
	if err == nil {
		give(own, m)
	}
	return err
}

// emptyOf returns an empty message of the type of m. What is no protobuf message it returns as it is, for its codec may not
// take an empty one.
func emptyOf(m any) any {
	if m, ok := m.(proto.Message); ok {
		return m.ProtoReflect().New().Interface()
	}
	return m
}

// give moves to m what was received in a message that emptyOf has made of it. It does not copy deeply.
func give(own, m any) {
	to, ok := m.(proto.Message)
	if !ok {
		return
	}
	proto.Reset(to)
	from, into := own.(proto.Message).ProtoReflect(), to.ProtoReflect()
	from.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		into.Set(field, v)
		return true
	})
	into.SetUnknown(from.GetUnknown())
}
