package registrar

import (
	"context"
	"errors"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// Registration is one entry that the process keeps in etcd. Its methods are
// safe for concurrent use.
type Registration struct {
	registrar *Registrar
	companion Companion      // nil if the entry has none
	handle    *lease.Handle  // the entry in its session, nil until it is placed
	dedicated *lease.Session // its own session, nil if the session is shared

	entry Entry // its endpoint is guarded by the registrar's lock

	// the fault of the health service, "" without one; guarded by the
	// registrar's lock
	problem string
}

// Full returns the service key with the namespace, as in etcd.
func (reg *Registration) Full() string {
	return reg.registrar.config.Namespace + reg.entry.Key
}

// Status returns the state of the entry. Key of the result is the service key.
func (reg *Registration) Status() lease.Status {
	reg.registrar.mu.Lock()
	defer reg.registrar.mu.Unlock()

	return reg.status()
}

// status is Status with the lock held.
func (reg *Registration) status() lease.Status {
	status := reg.handle.Status()
	status.Key = reg.entry.Key

	if status.Err == nil && reg.companion != nil {
		status.Err = reg.companion.Err()
	}

	if status.Err == nil && reg.problem != "" {
		status.Err = errors.New(reg.problem)
	}

	return status
}

// Update changes the entry, and returns when the change is in etcd.
func (reg *Registration) Update(
	ctx context.Context,
	layouts []endpoint.Layout,
	d Details,
) error {
	if err := reg.set(layouts, d); err != nil {
		return err
	}

	return reg.handle.Sync(ctx)
}

// set changes the entry, and returns before the change is in etcd.
func (reg *Registration) set(layouts []endpoint.Layout, d Details) error {
	reg.registrar.mu.Lock()
	defer reg.registrar.mu.Unlock()

	updated, err := reg.entry.update(layouts, d)
	if err != nil {
		return err
	}

	items, err := updated.items(reg.registrar.config.Namespace)
	if err != nil {
		return err
	}

	if err := reg.handle.Set(items); err != nil {
		return err
	}

	reg.entry.Endpoint = updated.Endpoint // all that an update changes

	return nil
}

// SetPaused removes the entry from etcd or puts it back, and returns when that
// is done. It returns an error if a later call requests the opposite before
// that.
func (reg *Registration) SetPaused(ctx context.Context, pause bool) error {
	wait, err := reg.handle.SetPaused(pause)
	if err == nil {
		err = wait(ctx)
	}

	return err
}

// Drop removes the entry from etcd for good, in the background, and frees its
// keys for another registration.
func (reg *Registration) Drop() {
	reg.registrar.mu.Lock()
	defer reg.registrar.mu.Unlock()

	reg.registrar.drop(reg)
}

// Close removes the entry from etcd for good, and returns when it is gone. If
// ctx ends or 5 s pass first, the error names the keys that may remain.
func (reg *Registration) Close(ctx context.Context) error {
	reg.Drop()
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()

	err := reg.handle.Close(ctx)
	if err == nil && reg.companion != nil {
		err = reg.companion.Wait(ctx)
	}

	if err == nil && reg.dedicated != nil {
		err = reg.dedicated.Finish(ctx)
	}

	return err
}
