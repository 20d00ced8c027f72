package runtime

import (
	"errors"
	"fmt"
	"net/url"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig/grpccheck"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/balancer" // the policy "etcd"

	// Policies that a service config may name at the top, in addition to those
	// that gRPC registers itself.
	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/ringhash"

	// Client-side health checks, for service configs with a healthCheckConfig.
	_ "google.golang.org/grpc/health"
)

// NewClient returns a connection to a service, as generated constructors do. It
// does no I/O: calls wait for the first endpoints, within their own deadlines.
//
// The caller must pass transport credentials; without any, NewClient returns
// gRPC's own error. Calls do not go through HTTPS_PROXY unless
// grpc.WithContextDialer is given a dialer that uses it.
//
// The connection merges three service configs, field by field at the top level.
// The live config in etcd overrides that of [WithDefaultServiceConfig], which
// overrides the description's. If none names a policy, the policy is
// round_robin. grpc.WithDisableServiceConfig turns the live config off.
// grpc.WithDefaultServiceConfig has no effect here: use this package's option
// of that name.
//
// The caller closes the connection; [Registry.Close] closes all connections
// that are still open.
func (r *Registry) NewClient(
	desc *ServiceDesc,
	opts ...grpc.DialOption,
) (*grpc.ClientConn, error) {
	mine, opts := splitDialOptions(opts)
	_, conn, err := r.newClient(desc, mine, opts)

	return conn, err
}

func (r *Registry) newClient(
	desc *ServiceDesc,
	mine clientOptions,
	opts []grpc.DialOption,
) (*clientBuilder, *grpc.ClientConn, error) {
	if err := r.start(); err != nil {
		return nil, nil, err
	}

	if err := desc.Check(); err != nil {
		return nil, nil, err
	}

	authority, err := desc.authority()
	if err != nil {
		return nil, nil, err
	}

	config, err := serviceconfig.Wrap(grpccheck.Registered, desc.ServiceConfig,
		mine.serviceConfig)
	if err != nil {
		return nil, nil, fmt.Errorf("etcd: service %q: %w", desc.Name, err)
	}

	b := newClientBuilder(r, desc, mine, authority, config)

	// Our resolver precedes the caller's options, because gRPC uses the first
	// resolver of a scheme.
	all := []grpc.DialOption{grpc.WithResolvers(b), grpc.WithNoProxy()}
	all = append(all, opts...)
	all = append(all, b.routing.Options...)

	// Our interceptors are last, so that they are innermost and see the
	// connection's own errors. Our default service config is last, because gRPC
	// uses the last one, and the caller's options, which we cannot read, may
	// have one.
	all = append(all, grpc.WithChainUnaryInterceptor(b.unary),
		grpc.WithChainStreamInterceptor(b.stream),
		grpc.WithDefaultServiceConfig(config.JSON))
	target := url.URL{Scheme: Scheme, Path: "/" + desc.Key}

	conn, err := grpc.NewClient(target.String(), all...)
	if err != nil {
		return nil, nil, fmt.Errorf("etcd: connect to service %q: %w", desc.Name, err)
	}

	if err := r.track(conn); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}

	return b, conn, nil
}

// track adds conn to the connections that Registry.Close closes. Each time
// their number has doubled, track drops the connections that the caller has
// closed.
func (r *Registry) track(conn *grpc.ClientConn) error {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.closed {
		return errClosed
	}

	if len(r.conns) == cap(r.conns) {
		open := slices.DeleteFunc(r.conns, func(conn *grpc.ClientConn) bool {
			return conn.GetState() == connectivity.Shutdown
		})
		r.conns = slices.Grow(open, len(open)+1)
	}

	r.conns = append(r.conns, conn)

	return nil
}

// dialOption is a grpc.DialOption that gRPC ignores and NewClient applies.
type dialOption struct {
	grpc.EmptyDialOption
	apply func(*clientOptions)
}

// splitDialOptions applies this package's options to mine, and returns the
// others. It drops nil options: gRPC panics on them.
func splitDialOptions(
	opts []grpc.DialOption,
) (mine clientOptions, rest []grpc.DialOption) {
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

// WithSelector restricts a connection to the endpoints for which selector
// returns true. selector is called at each change of the endpoints, by calls
// that name an instance, and by [Instances.All], but not concurrently for one
// connection. It must return quickly, must not change the metadata, and must
// not panic: gRPC's goroutines do not recover. If there are several
// WithSelector options, the last is in force. The option works with
// [Registry.NewClient] and generated constructors, and is ignored elsewhere.
// Default: all endpoints.
func WithSelector(selector func(Endpoint) bool) grpc.DialOption {
	return dialOption{apply: func(o *clientOptions) { o.selector = selector }}
}

// WithSubset limits a connection to n endpoints. If a split, zones or methods
// divide the endpoints, the connection uses n endpoints of each part. The
// choice depends only on the process and the instances, so that over many
// clients the load on the instances is even, and few connections move when an
// instance comes or goes. n below 1 means all endpoints, which is the default.
// If the service config also limits the subset, the smaller limit applies. The
// option works with [Registry.NewClient] and generated constructors, and is
// ignored elsewhere.
func WithSubset(n int) grpc.DialOption {
	return dialOption{apply: func(o *clientOptions) { o.subset = n }}
}

// WithDefaultServiceConfig sets a gRPC service config, as JSON. Its top-level
// fields replace those of the generated config, and the fields of a live config
// in etcd replace both. The constructor returns an error if gRPC refuses the
// config, or if the config names a load balancing policy of another package: to
// use such a policy, dial with [Registry.Resolver]. The option works with
// [Registry.NewClient] and generated constructors, where gRPC's own option of
// this name has no effect. Elsewhere it is ignored.
func WithDefaultServiceConfig(json string) grpc.DialOption {
	return dialOption{apply: func(o *clientOptions) { o.serviceConfig = json }}
}
