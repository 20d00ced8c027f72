package runtime

import (
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// WithFallback has clients call what other knows of a key where nothing serves at home, so that a region lends its servers to
// another. A call leaves while none of the endpoints at home that it may go to serves, and comes back when one does. An
// endpoint that neither takes nor refuses a connection counts as one that does not serve after 1 s. Clients connect to what other
// knows when home cannot serve some kind of call.
//
// An etcd at home that does not answer is not empty: clients keep to what it last said, and
// one that was told nothing waits. Live service configs come from home, and splits and drains are by what is there. Leaders, calls that name
// their instance, [Instances], [Registry.Watch] and [Registry.Follow] stay at home. Of an address that both clusters have, the entry at
// home counts. What other itself falls back on is not followed.
//
// other has its own namespace, bounds and allowed addresses, and stays the caller's to close, at best after the registry: what it knows is
// not used once it is closed. [KeyStatus.Away], a metric and log lines tell when calls leave and are back. A nil registry, one that cannot
// be used, or one on the same etcd client and namespace make every use of the registry fail. Default: none.
func WithFallback(other *Registry) Option {
	return func(o *options) { o.checkFallback, o.away = other.checkLends, other.lends }
}

// checkLends returns why a registry on a client with options cannot fall back on this one.
func (r *Registry) checkLends(client *clientv3.Client, to options) error {
	switch {
	case r == nil:
		return errors.New("etcd: WithFallback was given a nil registry: make that of the other cluster first")
	case r.err != nil:
		return fmt.Errorf("etcd: WithFallback: %w", r.err)
	case r.client == client && r.opts.namespace == to.namespace:
		return errors.New("etcd: WithFallback was given a registry on the same etcd client and namespace, which knows nothing else")
	case r.client != client && to.snapshotDir != "" && r.opts.snapshotDir == to.snapshotDir:
		return fmt.Errorf("etcd: WithFallback: both registries have the snapshot directory %q: give each cluster its own", to.snapshotDir)
	}
	return nil
}

// lends returns the keys for another registry that falls back on this one, nil if this one is closed. Asked for the first time,
// it begins this one's work.
func (r *Registry) lends() *discovery.Keys {
	if r == nil || r.start() != nil {
		return nil
	}
	return r.keys
}
