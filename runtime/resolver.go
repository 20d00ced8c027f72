package runtime

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// Scheme is the scheme of the targets of [Registry.Resolver], such as
// "etcd:///acme/user".
const Scheme = "etcd"

// Resolver returns gRPC's resolver for targets of scheme "etcd", for
// connections that are made by grpc.NewClient with grpc.WithResolvers. The
// target's path is the service's key:
//
//	etcd:///acme/user                     endpoints under "acme/user/"
//	etcd:////services/user                endpoints under "/services/user/"
//	etcd:///hello?layout=lease_suffix     endpoints under "hello/" and "hello<lease id>"
//
// The service config is gRPC's default one until etcd has a live one, which
// replaces the whole default for the rest of the connection. For round robin
// use
// grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`).
// Give each connection its own Resolver, because a Resolver remembers whether
// its connection has had a live config. All connections to a key get the same
// lists of endpoints. The pause between two lists is at least 20 µs for each
// endpoint.
//
// Generated code uses [Registry.NewClient], which does more.
func (r *Registry) Resolver() resolver.Builder {
	return &builder{registry: r}
}

// builder builds the resolvers of connections with [Registry.Resolver].
type builder struct {
	registry *Registry
	given    sync.Map // *discovery.Given by the target's URL
}

func (*builder) Scheme() string {
	return Scheme
}

// OverrideAuthority implements [resolver.AuthorityOverrider]. A key that gives
// no valid host name is percent-encoded. No certificate has such a name, so the
// connection needs grpc.WithAuthority.
func (b *builder) OverrideAuthority(target resolver.Target) string {
	authority, ok := servicekey.Authority(target.Endpoint())
	if !ok {
		return url.QueryEscape(authority)
	}

	return authority
}

func (b *builder) Build(
	target resolver.Target,
	cc resolver.ClientConn,
	opts resolver.BuildOptions,
) (resolver.Resolver, error) {
	if err := b.registry.start(); err != nil {
		return nil, err
	}

	key, layout, err := parseTarget(target.URL)
	if err != nil {
		return nil, fmt.Errorf("etcd: target %q: %w", target.URL.String(), err)
	}

	reader := endpoint.Reader{LeaseSuffix: layout == endpoint.LeaseSuffix}
	given, _ := b.given.LoadOrStore(target.URL.String(), new(discovery.Given))
	return discovery.Resolve(b.registry.keys.Key(key, reader), cc, discovery.Options{
		Disabled: opts.DisableServiceConfig,
		Given:    given.(*discovery.Given),
		Away:     b.registry.awayKey(key, reader),
	}), nil
}

// parseTarget parses a caller's target. layout is the zero value if the target
// names none.
func parseTarget(u url.URL) (key string, layout endpoint.Layout, err error) {
	if u.Host != "" {
		return "", layout, fmt.Errorf("the target names the host %.80q, but the registry selects the etcd cluster: want three slashes before the key, %.80q",
			u.Host, Scheme+":///"+u.Host+u.Path)
	}

	if u.Fragment != "" {
		return "", layout, fmt.Errorf("the target has the fragment %.80q after a #: write # as %%23 if it is part of the key",
			u.Fragment)
	}

	key = strings.TrimPrefix(cmp.Or(u.Path, u.Opaque), "/")
	if err := endpoint.CheckKey(key); err != nil {
		return "", layout, err
	}

	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", layout, err
	}

	for name, values := range query {
		if name != "layout" {
			return "", layout, fmt.Errorf(
				"unknown parameter %.80q: the only parameter is layout", name)
		}

		if len(values) > 1 {
			return "", layout, fmt.Errorf(
				"the parameter layout is given %d times, first as %.80q: give it once",
				len(values), values[0])
		}

		layout, err = endpoint.LayoutByName(values[0])
		if err != nil {
			return "", layout, err
		}
	}

	return key, layout, nil
}

// awayKey returns the key called name in the fallback cluster, or nil without
// WithFallback.
func (r *Registry) awayKey(name string, reader endpoint.Reader) *discovery.Key {
	if keys := r.opts.fallback.keysForFallback(); keys != nil {
		return keys.Key(name, reader)
	}

	return nil
}

// unknown returns a message that the endpoints of a key are not known, and why.
func (r *Registry) unknown(key *discovery.Key) string {
	text := fmt.Sprintf("etcd %q has not returned the endpoints of %q yet",
		r.endpoints(), key.Full())
	if err := key.State().Err; err != nil {
		return text + ": " + err.Error()
	}

	why := r.etcd.Why(context.DeadlineExceeded)
	if why != nil { // no error yet: the first read is under way
		text += ": " + why.Error()
	}

	return text
}
