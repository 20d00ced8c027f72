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
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader/internal/election"
)

// Guard returns options for a gRPC server that make it refuse calls of the leader's methods if [Leadership.Check]
// refuses them, before later interceptors and the handlers run. Callers then wait for the leader, and repeat
// unary calls: their refusals are FAILED_PRECONDITION, which no retry policy should name. Calls of other methods pass.
//
// A leader that resigns in order first finishes its leader calls, for at most 5 s, and at most half of the stop timeout when its server
// stops or is withdrawn. It refuses further ones, or lets streams wait, for up to 250 ms. If that is not enough, it admits them until the earlier ones have
// finished, and tries again. Before its last try, for up to 2 s, it ends streams. It does not wait for handlers whose call has ended.
// It admits at once the leader calls that the handler of a leader call makes with its context, or the handler of a call made with that
// context. But no call reaches a leader whose entry has left: it finishes its calls for 2 s.
//
// The handlers of the leader's methods get contexts that end with the leadership, or as above, with the cause [ErrEnded]. After
// that, the error of a unary handler becomes UNAVAILABLE, and a stream ends with UNAVAILABLE whatever its handler returns.
// The stream's SendMsg and RecvMsg return [ErrEnded], a RecvMsg under way included. Then the handler must not reuse a
// message that is not protobuf, because the stream may still write to the message. A handler that ignores its context
// goes on, and the reply of a unary call is sent.
func Guard(registry *runtime.Registry, descs ...*runtime.ServiceDesc) []grpc.ServerOption {
	unary, stream := Interceptors(registry, descs...)
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(unary), grpc.ChainStreamInterceptor(stream)}
}

// Interceptors returns the interceptors of [Guard], for servers that do not take gRPC's server options.
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

// guard holds the leadership of each method, by full method name.
type guard map[string]*Leadership

func (g guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	l := g[info.FullMethod]
	if l == nil {
		return handler(ctx, req)
	}
	leading, done, err := l.enter(ctx, false)
	if status.Code(err) == codes.Unavailable && election.Header(ctx, election.CallHeader) != "" {
		// The client repeats the call itself. A retry policy would take UNAVAILABLE, pause for longer, and count it for its throttling.
		err = status.Error(codes.FailedPrecondition, status.Convert(err).Message())
	}
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
	leading, done, err := l.enter(stream.Context(), true)
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

// Enter is [Leadership.Check] for servers that no guard protects, before their handler does anything. It admits calls as [Guard] does,
// and returns a context that is derived from ctx, and ends with the leadership. The call is under way until ctx ends, so ctx must
// end with the handler.
func (l *Leadership) Enter(ctx context.Context) (leading context.Context, err error) {
	leading, done, err := l.enter(ctx, false)
	if err == nil {
		context.AfterFunc(ctx, done)
	}
	return leading, err
}

// enter admits a call if this process leads with the call's token, and returns a context that ends with the leadership. It
// refuses any other call with an error.
func (l *Leadership) enter(ctx context.Context, stream bool) (leading context.Context, done context.CancelFunc, err error) {
	e, token, err := l.check(ctx)
	if err == nil {
		var ok bool
		if leading, done, ok = e.Enter(ctx, token, stream); ok {
			return leading, done, nil
		}
		err = l.notLeader()
	}
	if status.Code(err) == codes.Unavailable {
		_ = grpc.SetTrailer(ctx, metadata.Pairs(refusedTrailer, election.Header(ctx, election.CallHeader))) // fails if the caller is gone
	}
	return nil, nil, err
}

// hasEnded reports whether a context from enter has ended because the leadership ends.
func hasEnded(leading context.Context) bool {
	return errors.Is(context.Cause(leading), ErrEnded)
}

// endedWith returns the error of a call that the leadership's end cuts. err is the handler's error.
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

// RecvMsg returns when the leadership ends, even if the underlying stream's RecvMsg is under way. That call ends with the
// handler, and no further one is made, since a stream allows one at a time. It fills the message own, because the handler
// may reuse m by then. If that call panics, RecvMsg panics, unless the leadership has ended.
func (s leaderStream) RecvMsg(m any) error {
	if hasEnded(s.leading) {
		return ErrEnded
	}
	own := m // the codec of a message that is not protobuf may not accept an empty one
	if message, ok := m.(proto.Message); ok {
		own = message.ProtoReflect().New().Interface()
	}
	var reason any // of a panic, for example of a codec
	var err error
	received := make(chan struct{})
	go func() {
		defer func() { reason = recover(); close(received) }()
		err = s.ServerStream.RecvMsg(own)
	}()
	select {
	case <-received:
	case <-s.leading.Done():
		if !hasEnded(s.leading) { // the call has ended, not the leadership
			<-received
		}
	}
	if hasEnded(s.leading) {
		return ErrEnded
	}
	if reason != nil {
		panic(reason) // in the handler's goroutine, where interceptors recover
	}
	if err == nil {
		moveContent(own, m)
	}
	return err
}

// moveContent moves the content of own, a new protobuf message, to m, without a deep copy. It does nothing for other messages.
func moveContent(own, m any) {
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
