package runtime

import (
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// clientOptions are what this package's dial options say of one connection.
type clientOptions struct {
	selector      func(Endpoint) bool
	subset        int
	serviceConfig string

	// For Each.
	targetsOnly bool
	observe     func(*discovery.State, []*discovery.Backend)
}

// dialOption is a grpc.DialOption of ours: gRPC does nothing with it, NewClient finds it.
type dialOption struct {
	grpc.EmptyDialOption
	apply func(*clientOptions)
}

// splitDialOptions takes our options out. Nil options, which gRPC would panic on, are dropped.
func splitDialOptions(opts []grpc.DialOption) (own clientOptions, rest []grpc.DialOption) {
	for _, opt := range opts {
		switch opt := opt.(type) {
		case nil:
		case dialOption:
			opt.apply(&own)
		default:
			rest = append(rest, opt)
		}
	}
	return own, rest
}

// WithSelector has a connection use only the endpoints for which selector returns true. It is
// called at each change of the endpoints, with metadata that it must not change, and must be quick.
// The last of several options is in force. It works with [Registry.NewClient] and generated
// constructors, and is ignored elsewhere. Default: all endpoints.
func WithSelector(selector func(Endpoint) bool) grpc.DialOption {
	return dialOption{apply: func(o *clientOptions) { o.selector = selector }}
}

// WithSubset has a connection use n of the endpoints at the most. Which ones depends on the process
// and the instances alone: over many clients the load on the instances is even, and when an instance
// comes or goes few connections move. n below 1 means all endpoints, which is the default. It works
// with [Registry.NewClient] and generated constructors, and is ignored elsewhere.
func WithSubset(n int) grpc.DialOption {
	return dialOption{apply: func(o *clientOptions) { o.subset = n }}
}

// WithDefaultServiceConfig lays a gRPC service config, as JSON, over the generated one, top-level
// field by field; a live one in etcd is laid over both. A config that gRPC refuses is an error of
// the constructor. It works with [Registry.NewClient] and generated constructors, and is ignored
// elsewhere.
func WithDefaultServiceConfig(json string) grpc.DialOption {
	return dialOption{apply: func(o *clientOptions) { o.serviceConfig = json }}
}
