package runtime

import (
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// WithFallback has clients call what other knows of a key where nothing serves at home, so that a region lends its servers to
// another. A call leaves while none of the endpoints at home that it may go to serves, and comes back when one does. An
// endpoint that neither takes nor refuses a connection counts as one that does not serve after 1 s. With zone_min_percent, calls
// leave in proportion once fewer than that share of the endpoints at home that they may go to are ready. Clients connect to what
// other knows when the first call leaves.
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
	return func(o *options) { o.fallsBack, o.fallback = true, other }
}

// checkFallback returns what is wrong with the registry to fall back on.
func (o *options) checkFallback(client *clientv3.Client) error {
	other := o.fallback
	switch {
	case !o.fallsBack:
		return nil
	case other == nil:
		return errors.New("etcd: WithFallback was given a nil registry: make that of the other cluster first")
	case other.err != nil:
		return fmt.Errorf("etcd: WithFallback: %w", other.err)
	case other.client == client && other.opts.namespace == o.namespace:
		return errors.New("etcd: WithFallback was given a registry on the same etcd client and namespace, which knows nothing else")
	}
	return nil
}

// away returns the keys of the cluster to fall back on, nil if there is none, or if its registry is closed. Asked for the first
// time, it begins that registry's work.
func (r *Registry) away() *discovery.Keys {
	other := r.opts.fallback
	if other == nil || other.start() != nil {
		return nil
	}
	return other.keys
}
