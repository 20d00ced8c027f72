package runtime

import (
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// WithFallback makes other the fallback of this registry's cluster, the primary: clients call the endpoints that other has under
// a key while none in the primary serves. A call leaves while no primary endpoint that it may go to serves, and
// comes back when one does. An endpoint that neither accepts nor refuses a connection counts as not serving after 1 s.
// Clients connect to the fallback when the primary cannot serve some kind of call.
//
// A primary etcd that does not answer does not count as empty: clients keep its last endpoints, and a client
// without any waits. Live service configs, splits and drains are the primary's. Leaders, calls that name their
// instance, [Instances], [Registry.Watch] and [Registry.Follow] use the primary alone. If both clusters have an
// address, the primary's entry counts. The fallback of other is not followed.
//
// other has its own namespace, limits and allowed addresses. The caller closes it, preferably after the registry: its endpoints
// are not used once it is closed. [KeyStatus.Away], a metric and log lines report when calls leave and come back. If other
// is nil, cannot be used, or is on the same etcd client and namespace, every use of the registry fails. Default: none.
func WithFallback(other *Registry) Option {
	return func(o *options) { o.checkFallback, o.away = other.checkLends, other.lends }
}

// checkLends returns why a registry on a client with options cannot fall back on this one.
func (r *Registry) checkLends(client *clientv3.Client, to options) error {
	switch {
	case r == nil:
		return errors.New("etcd: WithFallback was given a nil registry: make the other cluster's registry first")
	case r.err != nil:
		return fmt.Errorf("etcd: WithFallback: %w", r.err)
	case r.client == client && r.opts.namespace == to.namespace:
		return errors.New("etcd: WithFallback was given a registry on the same etcd client and namespace, which has the same endpoints")
	case r.client != client && to.snapshotDir != "" && r.opts.snapshotDir == to.snapshotDir:
		return fmt.Errorf("etcd: WithFallback: both registries have the snapshot directory %q: give each cluster its own", to.snapshotDir)
	}
	return nil
}

// lends returns the keys for a registry whose fallback is this one, nil if this one is closed. The first call
// starts this registry's background work.
func (r *Registry) lends() *discovery.Keys {
	if r == nil || r.start() != nil {
		return nil
	}
	return r.keys
}
