package runtime

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/extension"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// clientOptions are the settings of this package's dial options for one
// connection.
type clientOptions struct {
	selector      func(Endpoint) bool
	subset        int
	serviceConfig string
	targetsOnly   bool // each call names its instance: for Instances
}

// clientBuilder builds the resolver of one connection made by NewClient, and
// explains the errors of its calls.
type clientBuilder struct {
	registry  *Registry
	desc      *ServiceDesc
	service   string // the key with the namespace
	authority string
	client    *model.Client

	config serviceconfig.Wrapped // the service config in force while etcd has no live one
	given  discovery.Given

	routing extension.Routing
	key     atomic.Pointer[discovery.Key] // nil until the connection leaves idle

	mu    sync.Mutex
	lines loglimit.Limiter // limits how often report writes a log line; guarded by mu
}

func newClientBuilder(
	r *Registry,
	desc *ServiceDesc,
	opts clientOptions,
	authority string,
	config serviceconfig.Wrapped,
) *clientBuilder {
	b := &clientBuilder{
		registry:  r,
		desc:      desc,
		service:   r.full(desc.Key),
		authority: authority,
		config:    config,
	}

	b.client = &model.Client{
		Client: planner.Client{
			Zone:   r.opts.zone,
			Subset: opts.subset,
			Most:   r.opts.limits.Connections,
			Seed:   r.seed,
		}, TargetsOnly: opts.targetsOnly,
		Stats: new(picking.Memory), Report: b.report,
	}

	if route := desc.hooks().Route; route != nil && !opts.targetsOnly {
		b.routing = route(r.host, desc.Key)
		b.client.Routed = b.routing.Methods
	}

	if opts.selector != nil {
		var calling sync.Mutex
		b.client.Selector = func(e *endpoint.Endpoint) bool {
			calling.Lock()
			defer calling.Unlock()

			return opts.selector(Endpoint(*e))
		}
	}

	if r.opts.fallback.keysForFallback() != nil && !opts.targetsOnly {
		b.client.OnFailover = func(fails bool) { b.key.Load().SetFailover(fails) }
	}

	return b
}

// report logs a problem of the load balancing policy. It limits the lines,
// because each change of a live config may cause one.
func (b *clientBuilder) report(problem string) {
	b.mu.Lock()
	ok, missed := b.lines.Allow(time.Now())
	b.mu.Unlock()

	if ok {
		b.registry.opts.logger.Warn("questionable load balancing policy",
			loglimit.Attrs(missed, "service", b.desc.Name, "key", b.service, "problem",
				problem)...)
	}
}

func (b *clientBuilder) Scheme() string {
	return Scheme
}

// OverrideAuthority implements [resolver.AuthorityOverrider].
func (b *clientBuilder) OverrideAuthority(resolver.Target) string {
	return b.authority
}

func (b *clientBuilder) Build(
	_ resolver.Target,
	cc resolver.ClientConn,
	opts resolver.BuildOptions,
) (resolver.Resolver, error) {
	if err := b.registry.start(); err != nil {
		return nil, err
	}

	reader := b.reader()
	key := b.registry.keys.Key(b.desc.Key, reader)
	b.key.Store(key)

	var away *discovery.Key
	if b.client.OnFailover != nil {
		away = b.registry.awayKey(b.desc.Key, reader)
	}

	return discovery.Resolve(key, cc, discovery.Options{
		Client:   b.client,
		Default:  b.config,
		Disabled: opts.DisableServiceConfig,
		Given:    &b.given,
		Router:   b.routing.Router,
		Away:     away,
	}), nil
}

// reader returns the reader of the service's entries.
func (b *clientBuilder) reader() endpoint.Reader {
	reader, _ := readerOf(b.desc.layout()) // no error: desc.Check has checked the layout
	return reader
}

// targetOption passes the target of a call to our interceptors. The target is
// not in the context, because the caller's interceptors may call other services
// with the context.
type targetOption struct {
	grpc.EmptyCallOption
	calloptions.Target
}

// addressed returns ctx, the context of a call, with what the policy and the
// server need: the target from opts, and the lane as request metadata. It
// returns an error if the lane is invalid.
func (b *clientBuilder) addressed(
	ctx context.Context,
	stream bool,
	opts []grpc.CallOption,
) (context.Context, error) {
	for _, opt := range opts {
		if to, ok := opt.(targetOption); ok {
			ctx = calloptions.WithTarget(ctx, to.Target)
		}
	}

	ctx, o := calloptions.ForCall(ctx, b.service, stream)
	switch {
	case o.Lane == "":
		return ctx, nil
	case !serviceconfig.ValidLane(o.Lane):
		return ctx, status.Errorf(codes.InvalidArgument,
			"etcd: %.40q is not a lane: want %s", o.Lane, serviceconfig.WantLane)
	}

	// replaces the header if ctx is that of another stream, which has one
	return calloptions.WithHeader(ctx, serviceconfig.LaneHeader, o.Lane), nil
}

// unary intercepts the unary calls of the connection, and stream intercepts the
// streaming calls.
func (b *clientBuilder) unary(
	ctx context.Context,
	method string,
	req, reply any,
	cc *grpc.ClientConn,
	invoker grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	ctx, err := b.addressed(ctx, false, opts)
	if err != nil {
		return err
	}

	return b.explain(invoker(ctx, method, req, reply, cc, opts...))
}

func (b *clientBuilder) stream(
	ctx context.Context,
	desc *grpc.StreamDesc,
	cc *grpc.ClientConn,
	method string,
	streamer grpc.Streamer,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, err := b.addressed(ctx, true, opts)
	if err != nil {
		return nil, err
	}

	stream, err := streamer(ctx, desc, cc, method, opts...)

	return stream, b.explain(err)
}

// explain appends to err, the error of a call, why the endpoints are not known
// yet, if the call failed because of that. Otherwise it returns err, which may
// be nil.
func (b *clientBuilder) explain(err error) error {
	if err == nil {
		return nil
	}

	key := b.key.Load()
	if key == nil || status.Code(err) == codes.Canceled {
		return err // canceled by the caller, or by the connection's end
	}

	state := key.State()

	// the call may have reached the last known endpoints, or the fallback
	// cluster
	mayArrive := state.Provisional || key.Away() > 0
	if state.Known ||
		discovery.Refused(state.Err) ||
		mayArrive && status.Code(err) != codes.DeadlineExceeded {
		return err
	}

	return annotate(err, b.registry.unknown(key))
}

// annotate appends a reason to the message of an RPC error, and keeps the
// error's code.
func annotate(err error, reason string) error {
	s, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%w: %s", err, reason)
	}

	p := s.Proto()
	p.Message += ": " + reason

	return status.ErrorProto(p)
}
