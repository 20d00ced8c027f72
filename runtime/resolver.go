package runtime

import (
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// Scheme is the scheme of the targets that are resolved here: "etcd:///acme/user".
const Scheme = "etcd"

// Resolver returns gRPC's resolver for targets of scheme "etcd", for connections that are made by
// grpc.NewClient with grpc.WithResolvers. The target's path is the service's key, so
//
//	etcd:///acme/user                     the endpoints under "acme/user/"
//	etcd:////services/user                those under "/services/user/"
//	etcd:///hello?layout=lease_suffix     also those under "hello<lease id>"
//
// The service config in force is what gRPC is told, until there is a live one in etcd; for round robin
// give grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`). A live one
// replaces it whole, and for good.
// [Registry.NewClient] does more, and is what generated code uses.
func (r *Registry) Resolver() resolver.Builder { return builder{r} }

// builder resolves targets that a caller wrote.
type builder struct{ registry *Registry }

func (b builder) Scheme() string { return Scheme }

// OverrideAuthority implements [resolver.AuthorityOverrider]. A key that makes no host name is
// percent-encoded, which no certificate names: give grpc.WithAuthority.
func (b builder) OverrideAuthority(target resolver.Target) string {
	authority, ok := servicekey.Authority(target.Endpoint())
	if !ok {
		return url.QueryEscape(authority)
	}
	return authority
}

func (b builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	if err := b.registry.start(); err != nil {
		return nil, err
	}
	key, layout, err := parseTarget(target.URL)
	if err != nil {
		return nil, fmt.Errorf("etcd: target %q: %w", target.URL.String(), err)
	}
	shared := b.registry.key(key, layout == endpoint.LeaseSuffix)
	return discovery.Resolve(shared, cc, discovery.Options{
		Config: func(live string) string {
			if live == "" {
				return "{}"
			}
			return live
		},
	}), nil
}

// parseTarget reads a target that a caller wrote. layout is nil where it names none.
func parseTarget(u url.URL) (key string, layout *endpoint.Layout, err error) {
	if u.Host != "" {
		return "", nil, fmt.Errorf("%q stands where a host would: the etcd cluster is the registry's; want three slashes before the key, etcd:///%s%s", u.Host, u.Host, u.Path)
	}
	path := u.Path
	if path == "" {
		path = u.Opaque
	}
	key = strings.TrimPrefix(path, "/")
	if err := endpoint.CheckKey(key); err != nil {
		return "", nil, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", nil, err
	}
	for name := range query {
		if name != "layout" {
			return "", nil, fmt.Errorf("unknown parameter %q: there is only layout", name)
		}
	}
	if name := query.Get("layout"); name != "" {
		layout, err = endpoint.LayoutByName(name)
	}
	return key, layout, err
}

// clientBuilder resolves for one connection made by NewClient.
type clientBuilder struct {
	registry  *Registry
	desc      *ServiceDesc
	own       clientOptions
	authority string

	key atomic.Pointer[discovery.Key] // once the connection left idle
}

func (b *clientBuilder) Scheme() string { return Scheme }

// OverrideAuthority implements [resolver.AuthorityOverrider].
func (b *clientBuilder) OverrideAuthority(resolver.Target) string { return b.authority }

func (b *clientBuilder) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	if err := b.registry.start(); err != nil {
		return nil, err
	}
	key := b.registry.key(b.desc.Key, b.desc.layout().layout() == endpoint.LeaseSuffix)
	b.key.Store(key)
	return discovery.Resolve(key, cc, discovery.Options{
		Select:  b.own.selection(b.registry.seed),
		Config:  b.serviceConfig,
		Observe: b.own.observe,
		Client: &attr.Client{
			Zone:        b.registry.opts.zone,
			TargetsOnly: b.own.targetsOnly,
			Report: func(what string) {
				b.registry.opts.logger.Warn("odd load balancing policy", "service", b.desc.Name, "key", b.desc.Key, "problem", what)
			},
		},
	}), nil
}

// serviceConfig is the config to go by for a live one.
func (b *clientBuilder) serviceConfig(live string) string {
	config, err := clientConfig(b.desc.ServiceConfig, b.own.serviceConfig, live)
	if err != nil {
		// The layers were checked one by one, the live one when it came in.
		b.registry.opts.logger.Error("service configs do not merge", "service", b.desc.Name, "error", err)
	}
	return config
}

// explain adds to the error of a call that the endpoints are not known yet, and why.
func (b *clientBuilder) explain(err error) error {
	key := b.key.Load()
	if key == nil || status.Code(err) == codes.Canceled {
		return err // canceled by the caller, or by the connection's end
	}
	state := key.State()
	if state.Known || state.Definite {
		return err
	}
	waiting := fmt.Sprintf("etcd %q has not told the endpoints of %q yet", b.registry.client.Endpoints(), b.desc.Key)
	if state.Err != nil {
		waiting += ": " + state.Err.Error()
	}
	return annotate(err, waiting)
}

// annotate adds a reason to an RPC error, which keeps its code.
func annotate(err error, reason string) error {
	s, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%w: %s", err, reason)
	}
	p := s.Proto()
	p.Message += ": " + reason
	return status.ErrorProto(p)
}
