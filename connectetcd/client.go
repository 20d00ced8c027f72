// Package connectetcd lets clients and servers of connect-go use the same etcd keys as those of gRPC. Generated code, by
// protoc-gen-go-etcd's parameter connect=true, calls [NewClient] and [Register].
//
// A client is a [connect.HTTPClient] over a gRPC connection of the registry. So the registry's load balancing policy, live
// configs, zones, lanes, affinity, leader, retries, timeouts, health checks and metrics apply to it:
//
//	client, err := greeterv1connect.NewGreeterServiceClientFromEtcd(registry, grpc.WithTransportCredentials(creds))
//	reply, err := client.SayHello(ctx, &greeterv1.SayHelloRequest{Name: "world"})
//
// It speaks the gRPC protocol, which Connect's handlers serve, too. A server is an [http.Server] with HTTP/2, whose services are
// in etcd while it serves:
//
//	var protocols http.Protocols
//	protocols.SetUnencryptedHTTP2(true) // or set a certificate in TLSConfig
//	server := connectetcd.NewServer(registry, &http.Server{Protocols: &protocols})
//	greeterv1connect.RegisterGreeterServiceHandlerToEtcd(server, impl)
//	err = server.Serve(ctx, listener)
package connectetcd

import (
	"context"
	"regexp"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// SupportPackageIsVersion1 is named by generated code, so that the code does not compile with a version of this package
// that is too old for it.
const SupportPackageIsVersion1 = true

// NewClient returns a Connect client that calls the servers of a service, as generated constructors do. newClient is what
// protoc-gen-connect-go generates, such as greeterv1connect.NewGreeterServiceClient. The options are those of
// [runtime.Registry.NewClient], and [WithClientOptions]. It does no I/O; the connection is closed with the registry.
//
// The client speaks the gRPC protocol. See [NewHTTPClient] for what holds for its calls.
func NewClient[C any](registry *runtime.Registry, desc *runtime.ServiceDesc,
	newClient func(connect.HTTPClient, string, ...connect.ClientOption) C, opts ...grpc.DialOption,
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
		var none C
		return none, err
	}
	return newClient(NewHTTPClient(conn), baseURL(desc.Key), clientOpts...), nil
}

// notInHosts matches the characters of keys that no host may have.
var notInHosts = regexp.MustCompile(`[^A-Za-z0-9._]`)

// baseURL returns the URL of a key, such as "etcd://acme.user". Interceptors see its host as the peer's address. Nothing
// else uses it.
func baseURL(key string) string {
	host := strings.ReplaceAll(strings.Trim(key, "/"), "/", ".")
	return runtime.Scheme + "://" + notInHosts.ReplaceAllLiteralString(host, "-")
}

// clientOptions is a grpc.DialOption that gRPC ignores and NewClient applies.
type clientOptions struct {
	grpc.EmptyDialOption
	opts []connect.ClientOption
}

// WithClientOptions gives a client options of Connect, such as connect.WithInterceptors. One that sets another protocol
// than gRPC makes each call fail. It works with [NewClient] and generated constructors, and is ignored elsewhere.
func WithClientOptions(opts ...connect.ClientOption) grpc.DialOption {
	return clientOptions{opts: opts}
}

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
