package runtime

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listwatch"
)

// linger is how long a key is still watched after its last user left, for one that comes back soon.
const linger = time.Minute

// maxKeys is how many keys are known before those that no connection uses are forgotten.
const maxKeys = 1000

var (
	errNilClient = errors.New("etcd: NewRegistry was given a nil etcd client")
	errClosed    = errors.New("etcd: the registry is closed")
)

// Registry is what a process has to do with one etcd cluster: the connections it makes to services
// found there, and the registrations of its own. Make one for each cluster and share it.
type Registry struct {
	client  *clientv3.Client
	opts    options
	metrics *metrics
	err     error        // what is wrong with how it was made; every use returns it
	seed    maphash.Seed // tells this client from others, for WithSubset

	endpoints *listwatch.Cache[*discovery.Backend]
	configs   *listwatch.Cache[string]
	regs      registrations

	mu       sync.Mutex
	closed   bool
	keys     map[listwatch.Range]*discovery.Key
	memories map[listwatch.Range]*memory   // of keys
	conns    map[*grpc.ClientConn]struct{} // those that NewClient made

	ctx     context.Context // of what runs in the background; ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup
	started bool // the background was
}

// NewRegistry returns a registry on an etcd cluster. It does no I/O, so it succeeds while etcd is
// away. The client stays the caller's, who closes it after the registry; every etcd call goes
// through the client's KV, Watcher and Lease, so wrappers set there are honoured.
//
// A client that is to notice a dead connection needs DialKeepAliveTime and DialKeepAliveTimeout,
// such as 10 s, the least that gRPC takes, and 3 s; leave PermitWithoutStream off, which etcd punishes.
func NewRegistry(client *clientv3.Client, opts ...Option) *Registry {
	r := &Registry{
		client:   client,
		opts:     newOptions(opts),
		keys:     make(map[listwatch.Range]*discovery.Key),
		conns:    make(map[*grpc.ClientConn]struct{}),
		memories: make(map[listwatch.Range]*memory),
		seed:     maphash.MakeSeed(),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if client == nil {
		r.err = errNilClient
		return r
	}
	r.metrics, r.err = newMetrics(r.opts.meters, r.keysInUse)
	r.endpoints = listwatch.NewCache(listwatch.Config[*discovery.Backend]{
		Client: client, Equal: (*discovery.Backend).Equal, Logger: r.opts.logger, Linger: linger,
		Hooks: r.metrics.listwatchHooks("endpoints"),
	})
	r.configs = listwatch.NewCache(listwatch.Config[string]{
		Client: client, Equal: func(a, b string) bool { return a == b }, Logger: r.opts.logger, Linger: linger,
		Hooks: r.metrics.listwatchHooks("service_config"),
	})
	return r
}

// Close withdraws and revokes what the process has registered, closes the connections that the
// registry made, and stops watching. etcd is asked for the first only, and waited for no longer
// than ctx allows: what could not be withdrawn by then expires with its lease, and the error says
// so. Closing twice is harmless.
func (r *Registry) Close(ctx context.Context) error {
	r.mu.Lock()
	if r.closed || r.client == nil {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	conns := r.conns
	r.conns = nil
	memories := r.memories
	r.cancel()
	r.mu.Unlock()

	var errs []error
	for conn := range conns {
		if err := conn.Close(); err != nil && conn.GetState() != connectivity.Shutdown {
			errs = append(errs, fmt.Errorf("close the connection to %s: %w", conn.Target(), err))
		}
	}
	r.endpoints.Close()
	r.configs.Close()
	errs = append(errs, r.regs.close(ctx))
	r.running.Wait()
	for _, m := range memories {
		m.flush()
	}
	errs = append(errs, r.metrics.close())
	return errors.Join(errs...)
}

// start tells whether the registry can be used, and begins what it does in the background with its
// first use.
func (r *Registry) start() error {
	if r == nil {
		return errors.New("etcd: the registry is nil")
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
		r.running.Go(func() { keepReconnecting(r.ctx, r.client.ActiveConnection(), r.reconnected) })
	}
	return nil
}

// reconnected makes sure that etcd is still the one that it was.
func (r *Registry) reconnected() {
	r.endpoints.Check()
	r.configs.Check()
}

// key returns what the process knows of a service key, shared by all who use it.
func (r *Registry) key(key string, leaseSuffix bool) *discovery.Key {
	source := r.source(key, leaseSuffix)
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.keys[source.rng]
	if !ok {
		r.forgetKeys()
		k = discovery.NewKey(key, discovery.Config{EmptyGrace: r.opts.emptyGrace}, source, r.memory(source))
		r.keys[source.rng] = k
	}
	return k
}

// forgetKeys bounds the keys that are remembered without being used. It must be called with mu held.
func (r *Registry) forgetKeys() {
	if len(r.keys) < maxKeys {
		return
	}
	for rng, k := range r.keys {
		if k.Connections() == 0 {
			delete(r.keys, rng)
			if m := r.memories[rng]; m != nil {
				m.flush()
				delete(r.memories, rng)
			}
		}
	}
}

func (r *Registry) keysInUse() []*discovery.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.keys))
}
