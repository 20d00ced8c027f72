package leader

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Guard returns options for a gRPC server that refuse calls of the leader's
// methods unless [Leadership.Check] passes them. They refuse a call before later
// interceptors and the handler run. The caller then waits for the leader, and
// repeats a unary call. The refusal of a unary call is FAILED_PRECONDITION: no
// retry policy should name this code. Calls of other methods pass.
//
// A leader that resigns in order also refuses leader calls, and ends its streams.
// It waits for unary calls under way, for at most 4 s and at most half of its
// server's stop timeout. It does not wait for handlers whose call has ended, and
// the server's end does not wait for the handlers of ended streams. The next
// leader begins only after that. So a handler fails or waits if it calls its own
// leader through a client, or calls Withdraw or Pause of its own server.
//
// The context of a handler ends with the leadership or, for a stream, when the
// leader begins to resign. The cause is [ErrEnded]. From then on, the error of a
// unary handler becomes UNAVAILABLE. A stream ends with UNAVAILABLE at once, even
// if its handler ignores its context.
//
// The handler of a stream and later interceptors run in a goroutine of their own.
// If they panic, the earlier interceptors recover the panic, without the
// handler's stack. A panic after the stream's end is lost. An earlier interceptor
// that keeps state of a stream must guard it by a lock, because the handler may
// still receive when the stream has ended.
func Guard(
	registry *runtime.Registry,
	descs ...*runtime.ServiceDesc,
) []grpc.ServerOption {
	unary, stream := Interceptors(registry, descs...)
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(unary),
		grpc.ChainStreamInterceptor(stream)}
}

// Interceptors returns the interceptors of [Guard], for servers that do not
// take gRPC's server options.
func Interceptors(
	registry *runtime.Registry,
	descs ...*runtime.ServiceDesc,
) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
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

func (g guard) unary(
	ctx context.Context,
	req any,
	info *grpc.UnaryServerInfo,
	handler grpc.UnaryHandler,
) (any, error) {
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

func (g guard) stream(
	srv any,
	stream grpc.ServerStream,
	info *grpc.StreamServerInfo,
	handler grpc.StreamHandler,
) error {
	l := g[info.FullMethod]
	if l == nil {
		return handler(srv, stream)
	}

	leading, done, err := l.enter(stream.Context(), false)
	if err != nil {
		return err
	}
	defer done()

	err = untilEnded(leading, func() error {
		return handler(srv, leaderStream{stream, leading})
	})
	if hasEnded(leading) {
		return l.endedWith(err)
	}

	return err
}

// untilEnded returns the error of handler, or panics as handler does. If the
// leadership ends first, it returns ErrEnded, so that gRPC ends the stream:
// nothing else ends a RecvMsg under way.
func untilEnded(leading context.Context, handler func() error) error {
	err := errExited
	reason := any(nil)
	returned := make(chan struct{})
	go func() {
		defer func() {
			reason = recover()
			close(returned)
		}()

		err = handler()
	}()

	select {
	case <-returned:
	case <-leading.Done():
		if hasEnded(leading) {
			return ErrEnded
		}

		<-returned // the call has ended, and so will the handler
	}

	if reason != nil {
		panic(reason) // where the interceptors before Guard recover
	}

	return err
}

// errExited is the error of a handler that calls runtime.Goexit.
var errExited = status.Error(codes.Internal,
	"etcd: the handler of the stream has ended its goroutine")

// Enter admits a call as [Guard] does, for servers that no guard protects. Call
// it first in a handler, in place of [Leadership.Check]. It returns a context
// that is derived from ctx. This context also ends with the leadership or, for a
// stream, when the leader begins to resign. The call is under way until ctx ends,
// so ctx must end with the handler.
func (l *Leadership) Enter(
	ctx context.Context,
	stream bool,
) (leading context.Context, err error) {
	leading, done, err := l.enter(ctx, !stream)
	if err == nil {
		context.AfterFunc(ctx, done)
	}

	return leading, err
}

// enter admits a call if this process leads with the call's token, and returns
// a context that ends with the leadership. It refuses any other call with an
// error.
func (l *Leadership) enter(
	ctx context.Context,
	unary bool,
) (leading context.Context, done context.CancelFunc, err error) {
	e, token, err := l.check(ctx)
	if err == nil {
		var ok bool
		leading, done, ok = e.Enter(ctx, token, unary)
		if ok {
			return leading, done, nil
		}

		err = l.notLeader()
	}

	id := callID(ctx)
	if status.Code(err) != codes.Unavailable || id == "" {
		return nil, nil, err
	}

	// fails if the caller is gone
	_ = grpc.SetTrailer(ctx, metadata.Pairs(refusedTrailer, id))

	if unary {
		// The client repeats the call itself. A retry policy would take
		// UNAVAILABLE, pause for longer, and count it for its throttling.
		err = status.Error(codes.FailedPrecondition, status.Convert(err).Message())
	}

	return nil, nil, err
}

// hasEnded reports whether a context from enter has ended because the
// leadership ends.
func hasEnded(leading context.Context) bool {
	return errors.Is(context.Cause(leading), ErrEnded)
}

// endedWith returns the error of a call that the leadership's end cuts. err is
// the handler's error.
func (l *Leadership) endedWith(err error) error {
	text := ""
	s := status.Convert(err)
	if err != nil &&
		s.Code() != codes.Canceled &&
		!errors.Is(err, context.Canceled) &&
		!errors.Is(err, ErrEnded) {
		text = ": " + s.Message()
	}

	return status.Errorf(codes.Unavailable, "etcd: this instance no longer leads %q%s",
		l.key, text)
}

// leaderStream is a stream of a call for the leader.
type leaderStream struct {
	grpc.ServerStream
	leading context.Context
}

func (s leaderStream) Context() context.Context {
	return s.leading
}

// RecvMsg receives no message after the stream's end: the caller may have sent
// it to the next leader, too.
func (s leaderStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)

	if hasEnded(s.leading) {
		return ErrEnded
	}

	return err
}
