// Package connectetcd lets clients and servers of connect-go use the same etcd
// keys as gRPC's clients and servers. The code that protoc-gen-go-etcd
// generates with the parameter connect=true calls [NewClient] and [Register].
//
// A client is a [connect.HTTPClient] over a gRPC connection of the registry. So
// the registry's load balancing policy, live configs, zones, lanes, affinity,
// leader, retries, timeouts, health checks and metrics apply to it:
//
//	client, err := greeterv1connect.NewGreeterServiceClientFromEtcd(registry, grpc.WithTransportCredentials(creds))
//	reply, err := client.SayHello(ctx, &greeterv1.SayHelloRequest{Name: "world"})
//
// The client speaks the gRPC protocol, which Connect's handlers serve, too. A
// server is an [http.Server] with HTTP/2, whose services are in etcd while it
// serves:
//
//	var protocols http.Protocols
//	protocols.SetUnencryptedHTTP2(true) // or set a certificate in TLSConfig
//	server := connectetcd.NewServer(registry, &http.Server{Protocols: &protocols})
//	greeterv1connect.RegisterGreeterServiceHandlerToEtcd(server, impl)
//	err = server.Serve(ctx, listener)
//
// When ctx ends, the server withdraws the services from etcd. Then it calls the
// http.Server's Shutdown and, after the stop timeout, its Close.
package connectetcd

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// SupportPackageIsVersion1 appears in generated code, so that the code compiles
// only with a version of this package that is new enough.
const SupportPackageIsVersion1 = true

// NewClient returns a Connect client that calls the servers of a service, as
// generated constructors do. newClient is a constructor of
// protoc-gen-connect-go, such as greeterv1connect.NewGreeterServiceClient. opts
// may have the options of [runtime.Registry.NewClient], and
// [WithClientOptions]. Transport credentials are required.
//
// NewClient does no I/O, and returns an error if registry.NewClient does. The
// client is safe for concurrent use. Closing the registry closes the client's
// connection.
//
// The client speaks the gRPC protocol. [NewHTTPClient] describes its calls and
// their limits. Connect's interceptors see the service's name as the peer's
// address.
func NewClient[C any](
	registry *runtime.Registry,
	desc *runtime.ServiceDesc,
	newClient func(connect.HTTPClient, string, ...connect.ClientOption) C,
	opts ...grpc.DialOption,
) (C, error) {
	clientOpts := []connect.ClientOption{connect.WithGRPC()}
	var dialOpts []grpc.DialOption

	for _, opt := range opts {
		if ours, ok := opt.(clientOptions); ok {
			clientOpts = append(clientOpts, ours.opts...)
		} else {
			dialOpts = append(dialOpts, opt)
		}
	}

	conn, err := registry.NewClient(desc, dialOpts...)
	if err != nil {
		return *new(C), err
	}

	baseURL := runtime.Scheme + "://" + desc.Name

	return newClient(NewHTTPClient(conn), baseURL, clientOpts...), nil
}

// clientOptions is a grpc.DialOption that gRPC ignores and NewClient applies.
type clientOptions struct {
	grpc.EmptyDialOption
	opts []connect.ClientOption
}

// WithClientOptions gives a client options of Connect, such as
// connect.WithInterceptors. If one of them sets a protocol other than gRPC,
// every call fails. WithClientOptions works with [NewClient] and generated
// constructors, and is ignored elsewhere.
func WithClientOptions(opts ...connect.ClientOption) grpc.DialOption {
	return clientOptions{opts: opts}
}

// WithAffinity sends calls of a method to the same instance if their requests
// have the same key: see [runtime.WithAffinity]. An affinity in the context
// takes precedence. Generated code passes this option if a method's proto names
// an affinity field.
//
// procedure is the method's name, such as "/acme.user.v1.UserService/GetUser".
// The method's requests are of type *Req, and the method must not stream
// requests. key returns "" for a request without affinity. WithAffinity works
// with [NewClient], and is ignored elsewhere.
func WithAffinity[Req any](procedure string, key func(*Req) string) grpc.DialOption {
	keyOf := func(message any) string { return key(message.(*Req)) }

	return WithClientOptions(connect.WithInterceptors(affinity{
		procedure: procedure,
		keyOf:     keyOf,
	}))
}

// affinity is a client interceptor that reads the affinity of a method's calls
// from their requests.
type affinity struct {
	connect.UnaryInterceptorFunc // its WrapStreamingHandler changes nothing
	procedure                    string
	keyOf                        func(request any) string
}

func (a affinity) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(
		ctx context.Context,
		req connect.AnyRequest,
	) (connect.AnyResponse, error) {
		_, given := runtime.Affinity(ctx)
		if !given && req.Spec().Procedure == a.procedure {
			ctx = runtime.WithAffinity(ctx, a.keyOf(req.Any()))
		}

		return next(ctx, req)
	}
}

// WrapStreamingClient handles methods that stream their replies. The call's
// context is created before its request is known, so Send sets the affinity.
func (a affinity) WrapStreamingClient(
	next connect.StreamingClientFunc,
) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		if spec.Procedure != a.procedure {
			return next(ctx, spec)
		}

		key := new(string)
		conn := next(context.WithValue(ctx, affinityKey{}, key), spec)

		return affinityConn{conn, a.keyOf, key}
	}
}

// affinityKey is the context key of a *string: the affinity of a stream's
// request, which is set before the request is sent.
type affinityKey struct{}

type affinityConn struct {
	connect.StreamingClientConn
	keyOf func(request any) string
	key   *string
}

func (c affinityConn) Send(message any) error {
	*c.key = c.keyOf(message)
	return c.StreamingClientConn.Send(message)
}
