package runtime

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcdcause"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/login"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/bounded"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/etcdconn"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/etcdlog"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/extension"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/metrics"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

var (
	errNil              = errors.New("etcd: the registry is nil")
	errNilClient        = errors.New("etcd: NewRegistry was given a nil etcd client")
	errIncompleteClient = errors.New(
		"etcd: NewRegistry was given an etcd client that lacks a part")

	errClosed = fmt.Errorf("etcd: %w", registrar.ErrClosed)
)

// Registry connects a process to the services in one etcd cluster, and
// registers the services of the process there. Make one Registry for each
// cluster and share it.
type Registry struct {
	client  *clientv3.Client
	opts    options
	metrics *metrics.Metrics
	err     error        // the error of NewRegistry, which every use returns
	seed    maphash.Seed // differs between processes, for WithSubset

	// the etcd client's endpoints before AutoSync replaces them by the URLs
	// that the members advertise
	configured []string

	etcd      *etcdconn.Conn
	keys      *discovery.Keys      // nil without a client
	published *registrar.Registrar // nil without a client
	host      *extension.Host      // nil without a client

	mu     sync.Mutex
	closed bool
	conns  []*grpc.ClientConn // made by NewClient

	closeDone chan struct{} // closed when the first Close has returned
	closeErr  error         // the result of the first Close

	ctx     context.Context // the context of the background work; ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup
	started bool // the background work has begun
}

// NewRegistry returns a registry on an etcd cluster. It does no I/O, so it
// succeeds while etcd cannot be reached. The caller owns the client and closes
// it after the registry. Calls to etcd go through the client's KV, Watcher and
// Lease, so wrappers set there are used. Lease renewals are an exception: they
// share a stream on the client's connection, if it has one.
//
// To notice a dead connection, the client needs a DialKeepAliveTime such as 10
// s, gRPC's minimum, and a DialKeepAliveTimeout such as 3 s. Leave
// PermitWithoutStream off: etcd closes connections that use it.
// MaxCallRecvMsgSize, such as 8 MiB, bounds the memory that one response of
// etcd takes. NewRegistry turns off the logging of a client without a Logger of
// its own, unless the environment has ETCD_CLIENT_DEBUG: the registry logs
// failures.
func NewRegistry(client *clientv3.Client, opts ...Option) *Registry {
	r := &Registry{
		client: client,
		opts:   newOptions(opts),
		seed:   maphash.MakeSeed(),

		closeDone: make(chan struct{}),
	}

	r.opts.logger = etcdlog.Wrap(r.opts.logger)
	r.ctx, r.cancel = context.WithCancel(context.Background())

	if client == nil {
		r.err = errNilClient
		return r
	}

	silenceDefaultLogger(client)
	r.configured = r.endpoints()
	logins := login.Of(client)
	conversation := listwatch.ConversationOf(client, logins)
	r.etcd = etcdconn.New(client.ActiveConnection(), etcdconn.Client{
		Endpoints: r.endpoints, User: client.Username, Logger: r.opts.logger,
		Changed: func(back bool) {
			if back {
				logins.Reconnected()
				r.published.Reconnected()
			}

			conversation.ConnChanged()
		},
	})

	conversation.Why = r.etcd.Why
	conversation.Down = r.etcd.Down
	allowed, err := r.opts.addressCheck()
	r.metrics, r.err = metrics.New(r.opts.meters, r.followed)
	r.err = errors.Join(r.err, err, requirePart("KV", client.KV == nil),
		requirePart("Watcher", client.Watcher == nil), r.checkFallback())

	r.keys = discovery.NewKeys(discovery.Config{
		Conversation: conversation,
		Namespace:    r.opts.namespace,
		EmptyGrace:   r.opts.emptyGrace,
		Bounds: listwatch.Bounds{
			Entries: r.opts.limits.Entries,
			Bytes:   r.opts.limits.Bytes,
		},
		SnapshotDir:       r.opts.snapshotDir,
		LoadBalancingOnly: r.opts.loadBalancingOnly,
		Allowed:           allowed,
		Logger:            r.opts.logger,
		EndpointHooks:     r.metrics.ListwatchHooks(metrics.Endpoints),
		ConfigHooks:       r.metrics.ListwatchHooks(metrics.ServiceConfig),
		RangeHooks:        r.metrics.ListwatchHooks(metrics.Candidates),
	})

	r.published = registrar.New(registrar.Config{
		Client: client, Namespace: r.opts.namespace,
		Options: lease.Options{
			Conversation: conversation,
			Login:        logins,
			Logger:       r.opts.logger,
			Why:          r.etcd.Why,
			Changed: func(from lease.State, now lease.Status) {
				r.metrics.RegistrationChanged(from, now.State)
				r.opts.onStatus(now)
			},
		},
	})

	r.host = &extension.Host{
		Client:  client,
		Renewer: r.published.Renewer,
		Keys:    r.keys,
		Logger:  r.opts.logger,
		Why:     r.etcd.Why,
	}

	return r
}

// Close withdraws the registrations of the process and revokes their leases.
// Then it closes the connections that the registry made, and stops watching.
// Only the withdrawal waits for etcd. If ctx ends first, Close waits for 0.1 s
// more, and returns an error that names the leases that are left to expire.
// Connections and watches are then closed in the background. Servers go on
// serving without entries. A call of Announce or Register that is under way
// returns an error. A second Close waits for the first, and returns the same
// error.
func (r *Registry) Close(ctx context.Context) error {
	r.mu.Lock()
	if r.closed || r.client == nil {
		r.mu.Unlock()

		return r.awaitClose(ctx)
	}

	r.closed = true
	conns := r.conns
	r.conns = nil
	r.mu.Unlock()

	errs := []error{r.published.Close(ctx)}
	r.cancel() // not earlier: until then, a lost connection to etcd is retried soon

	ended := bounded.Run(ctx, func() {
		var closing sync.WaitGroup
		// only now: until the entries are withdrawn, calls arrive, and their
		// handlers may use conns
		for _, conn := range conns {
			closing.Go(func() { _ = conn.Close() }) // fails only if conn is already closed
		}

		closing.Wait()
		r.keys.Close() // returns once no key is followed
		r.running.Wait()
	})
	if !ended {
		errs = append(errs,
			fmt.Errorf("etcd: close the registry: connections and watches are still being closed: %w",
				context.Cause(ctx)))
	}

	errs = append(errs, r.metrics.Close())
	r.closeErr = errors.Join(errs...)
	close(r.closeDone)

	return r.closeErr
}

// awaitClose waits for the first Close and returns its result.
func (r *Registry) awaitClose(ctx context.Context) error {
	if r.client == nil {
		return nil
	}

	select {
	case <-r.closeDone:
		return r.closeErr
	case <-ctx.Done():
		return fmt.Errorf("etcd: close the registry: %w", context.Cause(ctx))
	}
}

// start returns an error if the registry cannot be used. The first call starts
// the background work.
func (r *Registry) start() error {
	if r == nil {
		return errNil
	}

	if r.err != nil {
		return r.err
	}

	r.mu.Lock()
	defer r.mu.Unlock()

	if r.closed {
		return errClosed
	}

	if !r.started {
		r.started = true
		r.running.Go(func() { r.etcd.Run(r.ctx) })
	}

	return nil
}

// startLeasing calls start, for operations that need a lease. It also returns
// an error if the etcd client has no Lease.
func (r *Registry) startLeasing() error {
	if err := r.start(); err != nil {
		return err
	}

	return requirePart("Lease", r.client.Lease == nil)
}

// requirePart returns an error if a part of the etcd client is missing.
func requirePart(part string, missing bool) error {
	if !missing {
		return nil
	}

	return fmt.Errorf("%w: its %s is nil", errIncompleteClient, part)
}

// full returns a service key with the namespace. A nil registry has no
// namespace.
func (r *Registry) full(key string) string {
	if r == nil {
		return key
	}

	return r.opts.namespace + key
}

// endpoints returns the etcd client's endpoints without passwords. A client
// that was made without clientv3.New has no endpoints: up to etcd's client 3.6,
// its method Endpoints panics.
func (r *Registry) endpoints() []string {
	if r.client.ActiveConnection() == nil {
		return nil
	}

	return etcdcause.Shown(r.client.Endpoints())
}

// followed returns the keys that the registry follows, for metrics.
func (r *Registry) followed() []*discovery.Key {
	if r.keys == nil {
		return nil
	}

	return r.keys.Followed()
}

// WithFallback makes the cluster of other the fallback of this registry's
// cluster, the primary. While no primary endpoint that may take a call serves,
// the call goes to an endpoint of the same key in the fallback. When such a
// primary endpoint serves again, calls go to the primary again. An endpoint
// that neither accepts nor refuses a connection counts as not serving after 1
// s. Clients connect to the fallback when the primary cannot serve some kind of
// call.
//
// While the primary's etcd does not answer, clients keep its last endpoints.
// Live service configs, splits and drains come from the primary. Leaders, calls
// that name their instance, [Instances], [Registry.Watch] and [Registry.Follow]
// use the primary alone. If both clusters have an address, the primary's entry
// counts. If other has a fallback, that is not used.
//
// other has its own namespace, limits and allowed addresses. The caller closes
// other, preferably after the registry, because its endpoints are not used once
// it is closed. [KeyStatus.Away], a metric and log lines report the use of the
// fallback. If other is nil, unusable, or on the same etcd client and
// namespace, every use of the registry fails. Default: none.
func WithFallback(other *Registry) Option {
	return func(o *options) {
		o.fallback = other
		o.hasFallback = true
	}
}

// checkFallback returns an error if r cannot fall back on the registry of
// WithFallback.
func (r *Registry) checkFallback() error {
	other := r.opts.fallback
	switch {
	case !r.opts.hasFallback:
		return nil
	case other == nil:
		return errors.New("etcd: WithFallback was given a nil registry: make the other cluster's registry first")
	case other.err != nil:
		return fmt.Errorf("etcd: WithFallback: %w", other.err)
	case other.client == r.client && other.opts.namespace == r.opts.namespace:
		return errors.New("etcd: WithFallback was given a registry on the same etcd client and namespace, which has the same endpoints")

	case other.client != r.client &&
		r.opts.snapshotDir != "" &&
		other.opts.snapshotDir == r.opts.snapshotDir:
		return fmt.Errorf("etcd: WithFallback: both registries have the snapshot directory %q: give each cluster its own",
			r.opts.snapshotDir)
	}

	return nil
}

// keysForFallback returns the keys of r, for a registry whose fallback is r. It
// returns nil if r is nil or cannot be used. The first call starts the
// background work of r.
func (r *Registry) keysForFallback() *discovery.Keys {
	if r.start() != nil { // also if r is nil
		return nil
	}

	return r.keys
}
