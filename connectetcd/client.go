package connectetcd

import (
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

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

// baseURL returns the URL of a key, such as "etcd://acme.user". Interceptors see the host as the peer's address, and
// nothing else uses it, so there is a "-" for what no host may have.
func baseURL(key string) string {
	host := strings.Map(func(r rune) rune {
		switch {
		case r == '/':
			return '.'
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_':
			return r
		}
		return '-'
	}, strings.Trim(key, "/"))
	return runtime.Scheme + "://" + host
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
