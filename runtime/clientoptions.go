package runtime

import "google.golang.org/grpc"

// clientOptions are set by this package's dial options, for one connection.
type clientOptions struct {
	selector      func(Endpoint) bool
	subset        int
	serviceConfig string
	targetsOnly   bool // for Instances
}

// dialOption is a grpc.DialOption that gRPC ignores and NewClient applies.
type dialOption struct {
	grpc.EmptyDialOption
	apply func(*clientOptions)
}

// splitDialOptions applies our options and returns the rest. It drops nil options, on which gRPC panics.
func splitDialOptions(opts []grpc.DialOption) (mine clientOptions, rest []grpc.DialOption) {
	for _, opt := range opts {
		switch opt := opt.(type) {
		case nil:
		case dialOption:
			opt.apply(&mine)
		default:
			rest = append(rest, opt)
		}
	}
	return mine, rest
}

// WithSelector restricts a connection to the endpoints for which selector returns true. selector is
// called at each change of the endpoints. It must return quickly and must not change the metadata.
// The last of several options is in force. It works with [Registry.NewClient] and generated
// constructors, and is ignored elsewhere. Default: all endpoints.
func WithSelector(selector func(Endpoint) bool) grpc.DialOption {
	return dialOption{apply: func(o *clientOptions) { o.selector = selector }}
}

// WithSubset limits a connection to n of the endpoints in each set that calls choose from: if
// a split, zones or methods divide the endpoints, n of each part. The choice depends only on the process
// and the instances, so that over many clients the load on the instances is even, and few connections
// move when an instance comes or goes. n below 1 means all endpoints, which is the default. If the
// service config has a subset too, the smaller holds. It works with [Registry.NewClient] and generated
// constructors, and is ignored elsewhere.
func WithSubset(n int) grpc.DialOption {
	return dialOption{apply: func(o *clientOptions) { o.subset = n }}
}

// WithDefaultServiceConfig lays a gRPC service config, as JSON, over the generated one, top-level
// field by field; a live one in etcd is laid over both. A config that gRPC refuses is an error of
// the constructor. It works with [Registry.NewClient] and generated constructors, where gRPC's own option of that name
// has no effect, and is ignored elsewhere.
func WithDefaultServiceConfig(json string) grpc.DialOption {
	return dialOption{apply: func(o *clientOptions) { o.serviceConfig = json }}
}
