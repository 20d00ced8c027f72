package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	// The policies that generated service configs name, beside those that gRPC registers itself.
	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/ringhash"

	// Client-side health checks, for service configs with a healthCheckConfig.
	_ "google.golang.org/grpc/health"
)

// NewClient returns a connection to a service, as generated constructors do. It does no I/O: calls
// wait for the first endpoints, within their own deadlines.
//
// Transport credentials are the caller's to give; without any, gRPC's own error comes back. Calls
// do not go through HTTPS_PROXY: to have them do so give grpc.WithContextDialer with a dialer that
// does. The service config in force is, top-level field by field, the live one in etcd over
// [WithDefaultServiceConfig] over that of the description; where none names a policy it is
// round_robin. grpc.WithDefaultServiceConfig instead replaces the description's until a live one is
// seen, and grpc.WithDisableServiceConfig turns the live one off.
//
// The connection is the caller's to close; [Registry.Close] closes what is left.
func (r *Registry) NewClient(desc *ServiceDesc, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	own, opts := splitDialOptions(opts)
	return r.newClient(desc, own, opts)
}

func (r *Registry) newClient(desc *ServiceDesc, own clientOptions, opts []grpc.DialOption) (*grpc.ClientConn, error) {
	if err := r.start(); err != nil {
		return nil, err
	}
	if err := desc.check(); err != nil {
		return nil, err
	}
	authority, err := desc.authority()
	if err != nil {
		return nil, err
	}
	config, err := clientConfig(desc.ServiceConfig, own.serviceConfig)
	if err != nil {
		return nil, fmt.Errorf("etcd: service %q: %w", desc.Name, err)
	}
	b := &clientBuilder{registry: r, desc: desc, own: own, authority: authority}
	// Before the caller's, for gRPC takes the first resolver of a scheme and the last of other options.
	all := []grpc.DialOption{
		grpc.WithResolvers(b),
		grpc.WithNoProxy(),
		grpc.WithDefaultServiceConfig(config),
	}
	all = append(all, opts...)
	// Last, so innermost: next to the connection, whose errors they explain.
	all = append(all, grpc.WithChainUnaryInterceptor(b.explainUnary), grpc.WithChainStreamInterceptor(b.explainStream))
	if own.targetsOnly {
		all = append(all, grpc.WithDefaultServiceConfig(config)) // its policy knows targets
	}
	conn, err := grpc.NewClient(target(desc.Key), all...)
	if err != nil {
		return nil, fmt.Errorf("etcd: connect to service %q: %w", desc.Name, err)
	}
	if err := r.own(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// target is the URL of a key, "etcd:///acme/user".
func target(key string) string {
	return (&url.URL{Scheme: Scheme, Path: "/" + key}).String()
}

// own notes a connection to close with the registry, and forgets those that were closed before.
func (r *Registry) own(conn *grpc.ClientConn) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosed
	}
	maps.DeleteFunc(r.conns, func(conn *grpc.ClientConn, _ struct{}) bool {
		return conn.GetState() == connectivity.Shutdown
	})
	r.conns[conn] = struct{}{}
	return nil
}

// explainUnary and explainStream say of a call that ended while the endpoints were still unknown
// that it was etcd that it waited for.
func (b *clientBuilder) explainUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoker(ctx, method, req, reply, cc, opts...)
	if err != nil {
		err = b.explain(err)
	}
	return err
}

func (b *clientBuilder) explainStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := streamer(ctx, desc, cc, method, opts...)
	if err != nil {
		err = b.explain(err)
	}
	return stream, err
}
