package registrar

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// Registration is one entry that the process keeps in etcd. Its methods are safe for concurrent use.
type Registration struct {
	registrar *Registrar
	claim     *claim
	handle    *lease.Handle
	election  *election.Election // nil if the entry has none

	mu      sync.Mutex // also serialises calls of the election's Stand
	entry   Entry
	problem string // the fault of the health service, "" without one

	warned sync.Once // logs the fault at most once

	drop   sync.Once
	ended  chan struct{} // closed when the claim is removed and its dedicated session is closed
	endErr error         // the error of closing that session
}

// logWarnings logs why readers may fail on the entry, and the fault of the health service. It must be called without locks.
func (reg *Registration) logWarnings() {
	reg.registrar.warn(reg.claim.entry)
	reg.warnOfHealth()
}

func (reg *Registration) setProblem(problem string) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.problem = problem
}

// warnOfHealth logs the fault of the health service, once. It must be called without locks.
func (reg *Registration) warnOfHealth() {
	reg.mu.Lock()
	problem := reg.problem
	reg.mu.Unlock()
	if problem != "" {
		reg.warned.Do(func() {
			reg.registrar.config.Logger.Warn("questionable health service", "key", reg.Full(), "problem", problem)
		})
	}
}

// Key returns the service key.
func (reg *Registration) Key() string { return reg.claim.entry.Key }

// Full returns the service key with the namespace, as in etcd.
func (reg *Registration) Full() string { return reg.registrar.config.Namespace + reg.Key() }

// Status returns the state of the entry. Key of the result is the service key.
func (reg *Registration) Status() lease.Status {
	status := reg.handle.Status()
	status.Key = reg.Key()
	if status.Err == nil && reg.election != nil {
		status.Err = reg.election.Err()
	}
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if status.Err == nil && reg.problem != "" {
		status.Err = errors.New(reg.problem)
	}
	return status
}

// Update changes the entry, and returns when the change is in etcd.
func (reg *Registration) Update(ctx context.Context, layouts []endpoint.Layout, d Details) error {
	if err := reg.set(layouts, d); err != nil {
		return err
	}
	return reg.handle.Sync(ctx)
}

func (reg *Registration) set(layouts []endpoint.Layout, d Details) error {
	reg.mu.Lock()
	defer reg.mu.Unlock()
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
	reg.entry = updated
	return nil
}

// SetPaused takes the entry out of etcd or puts it back, and returns when that is done. It returns an error if
// a later call requests the opposite before that.
func (reg *Registration) SetPaused(ctx context.Context, pause bool) error {
	wait, err := reg.handle.SetPaused(pause)
	if err == nil {
		err = wait(ctx)
	}
	if !errors.Is(err, lease.ErrSuperseded) {
		return err
	}
	if pause {
		return fmt.Errorf("resumed before the pause took effect: %w", err)
	}
	return fmt.Errorf("paused before the resume took effect: %w", err)
}

// Drop takes the entry out of etcd for good, in the background, and frees its keys for another registration.
func (reg *Registration) Drop() {
	reg.drop.Do(func() {
		if reg.election != nil {
			reg.election.End()
		}
		reg.handle.Drop()
		reg.registrar.release(reg)
	})
}

// Close takes the entry out of etcd for good, and returns when it is gone. If ctx ends or 5 s pass
// first, the error names the keys that may be left.
func (reg *Registration) Close(ctx context.Context) error {
	reg.Drop()
	ctx, cancel := context.WithTimeout(ctx, lease.CloseTimeout)
	defer cancel()
	if err := reg.handle.Close(ctx); err != nil {
		return err
	}
	if reg.election != nil {
		select {
		case <-reg.election.Gone():
		case <-ctx.Done():
			return fmt.Errorf("its candidate may stay in etcd until its lease expires: %w", context.Cause(ctx))
		}
	}
	select {
	case <-reg.ended:
		return reg.endErr
	case <-ctx.Done():
		return fmt.Errorf("the lease of the registration may not be revoked yet: %w", context.Cause(ctx))
	}
}
