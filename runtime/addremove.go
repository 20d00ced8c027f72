package runtime

import (
	"context"
	"fmt"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

// Add puts ep in etcd under the service key, on no lease. It stays until [Registry.Remove], whether or not the
// endpoint is alive. Add is for endpoints that cannot register themselves. Layouts whose key is a lease id are an
// error.
func (r *Registry) Add(ctx context.Context, key string, ep Endpoint, opts ...RegisterOption) error {
	if err := r.start(); err != nil {
		return err
	}
	if err := r.add(ctx, key, ep, opts); err != nil {
		return fmt.Errorf("etcd: add an endpoint under %q: %w", r.full(key), err)
	}
	return nil
}

func (r *Registry) add(ctx context.Context, key string, ep Endpoint, opts []RegisterOption) error {
	o, err := newRegisterOptions(opts)
	if err != nil {
		return err
	}
	entry, err := registrar.Unleased(key, o.layouts, r.withZone(ep), o.Details)
	if err != nil {
		return err
	}
	return r.published.Add(ctx, entry)
}

// Remove deletes the entries of an instance under the service key, in any layout and of any process. instance is
// the instance id or the address, save in the layouts of [JSONLayout]: there it is the id alone. An instance that is not
// there is an error.
//
// A process that is alive puts its entry back: use [Registration.Pause] there, or drain its server.
func (r *Registry) Remove(ctx context.Context, key, instance string) error {
	if err := r.start(); err != nil {
		return err
	}
	if err := r.published.Remove(ctx, key, instance); err != nil {
		return fmt.Errorf("etcd: remove %q under %q: %w", instance, r.full(key), err)
	}
	return nil
}
