package connectetcd

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// WithAffinity sends the calls of a method to the instance that a key in their requests belongs to: see
// [runtime.WithAffinity]. An affinity in the context wins. Generated constructors give this option for methods whose proto
// names a field. The procedure is the method's name as "/acme.user.v1.UserService/GetUser"; the method must have one
// request, and key returns "" for none. It works with [NewClient], and is ignored elsewhere.
func WithAffinity[Req any](procedure string, key func(*Req) string) grpc.DialOption {
	of := func(message any) string {
		if req, ok := message.(*Req); ok {
			return key(req)
		}
		return ""
	}
	return WithClientOptions(connect.WithInterceptors(affinity{procedure: procedure, of: of}))
}

// affinity is an interceptor of clients that takes the affinity of a method's calls from their requests.
type affinity struct {
	connect.UnaryInterceptorFunc // leaves handlers alone
	procedure                    string
	of                           func(request any) string
}

func (a affinity) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if req.Spec().Procedure == a.procedure {
			ctx = context.WithValue(ctx, affinityKey{}, &affinityValue{a.of(req.Any())})
		}
		return next(ctx, req)
	}
}

// WrapStreamingClient is for methods that stream their replies. The context is given before the request is known, so
// the affinity follows when that is sent.
func (a affinity) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		if spec.Procedure != a.procedure {
			return next(ctx, spec)
		}
		value := new(affinityValue)
		return affinityConn{next(context.WithValue(ctx, affinityKey{}, value), spec), a.of, value}
	}
}

type affinityConn struct {
	connect.StreamingClientConn
	of    func(request any) string
	value *affinityValue
}

func (c affinityConn) Send(message any) error {
	c.value.key = c.of(message)
	return c.StreamingClientConn.Send(message)
}

type affinityKey struct{}

// affinityValue is set before the request is sent.
type affinityValue struct{ key string }

// affinityOf returns the affinity that the context of a call has by itself, or else that of the call's request.
func affinityOf(ctx context.Context) string {
	if key, given := runtime.Affinity(ctx); given {
		return key
	}
	if value, ok := ctx.Value(affinityKey{}).(*affinityValue); ok {
		return value.key
	}
	return ""
}
