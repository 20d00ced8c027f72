package connectetcd

import (
	"regexp"
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
