package runtime

import (
	"fmt"
	"net/url"
	"strings"
	"sync"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// Scheme is the scheme of the targets that are resolved here: "etcd:///acme/user".
const Scheme = "etcd"

// Resolver returns gRPC's resolver for targets of scheme "etcd", for connections that are made by
// grpc.NewClient with grpc.WithResolvers. The target's path is the service's key:
//
//	etcd:///acme/user                     endpoints under "acme/user/"
//	etcd:////services/user                endpoints under "/services/user/"
//	etcd:///hello?layout=lease_suffix     endpoints under "hello/" and "hello<lease id>"
//
// The service config is gRPC's default one until there is a live one in etcd, which replaces it whole
// and for good. For round robin use
// grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`). Give each connection its own
// Resolver: it remembers whether the connection has had a live config.
//
// [Registry.NewClient] does more; generated code uses it.
func (r *Registry) Resolver() resolver.Builder {
	return &builder{registry: r}
}

// builder resolves the targets of callers.
type builder struct {
	registry *Registry
	given    sync.Map // *discovery.Given by the target's URL
}

func (*builder) Scheme() string { return Scheme }

// OverrideAuthority implements [resolver.AuthorityOverrider]. A key that gives no host name is
// percent-encoded, which no certificate names: such a connection needs grpc.WithAuthority.
func (b *builder) OverrideAuthority(target resolver.Target) string {
	authority, ok := servicekey.Authority(target.Endpoint())
	if !ok {
		return url.QueryEscape(authority)
	}
	return authority
}

func (b *builder) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	if err := b.registry.start(); err != nil {
		return nil, err
	}
	key, layout, err := parseTarget(target.URL)
	if err != nil {
		return nil, fmt.Errorf("etcd: target %q: %w", target.URL.String(), err)
	}
	reader := endpoint.Reader{LeaseSuffix: layout == endpoint.LeaseSuffix}
	given, _ := b.given.LoadOrStore(target.URL.String(), new(discovery.Given))
	d := b.registry.discoverer()
	return discovery.Resolve(d.keys.Key(key, reader), cc, discovery.Options{
		Disabled: opts.DisableServiceConfig, Given: given.(*discovery.Given), Away: d.awayKey(key, reader),
	}), nil
}

// parseTarget parses a caller's target. layout is nil if the target names none.
func parseTarget(u url.URL) (key string, layout endpoint.Layout, err error) {
	if u.Host != "" {
		return "", layout, fmt.Errorf("%.80q stands where a host would: the etcd cluster is the registry's; want three slashes before the key, %.80q", u.Host, Scheme+":///"+u.Host+u.Path)
	}
	path := u.Path
	if path == "" {
		path = u.Opaque
	}
	if u.Fragment != "" {
		return "", layout, fmt.Errorf("%.80q follows a #, which no key has: write it as %%23 if it is part of the key", u.Fragment)
	}
	key = strings.TrimPrefix(path, "/")
	if err := endpoint.CheckKey(key); err != nil {
		return "", layout, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", layout, err
	}
	for name, values := range query {
		if name != "layout" {
			return "", layout, fmt.Errorf("unknown parameter %.80q: there is only layout", name)
		}
		if len(values) > 1 {
			return "", layout, fmt.Errorf("the parameter layout is there %d times, the first as %.80q: give one", len(values), values[0])
		}
		if layout, err = endpoint.LayoutByName(values[0]); err != nil {
			return "", layout, err
		}
	}
	return key, layout, nil
}
