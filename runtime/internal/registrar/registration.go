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
	election  *election.Election // nil: the entry does not stand for one

	mu      sync.Mutex // also serialises setPaused, and what the election is told
	entry   Entry
	paused  bool
	problem string // the fault of the health service; "": none

	warned sync.Once // about a problem

	drop   sync.Once
	ended  chan struct{} // closed when the claim is given up and a session of its own is closed
	endErr error         // of closing that session
}

// begun logs what may surprise readers of the entry. So it must be called under no lock.
func (g *Registration) begun() {
	g.mu.Lock()
	e := g.entry
	g.mu.Unlock()
	g.registrar.warn(e)
	g.warnOfHealth()
}

func (g *Registration) setProblem(problem string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.problem = problem
}

// warnOfHealth logs the fault of the health service, once. It must be called under no lock.
func (g *Registration) warnOfHealth() {
	g.mu.Lock()
	problem := g.problem
	g.mu.Unlock()
	if problem != "" {
		g.warned.Do(func() {
			g.registrar.config.Logger.Warn("questionable health service", "key", g.Full(), "problem", problem)
		})
	}
}

// Key returns the service key.
func (g *Registration) Key() string { return g.claim.entry.Key }

// Full returns the service key as etcd has it, which begins with the namespace.
func (g *Registration) Full() string { return g.registrar.config.Namespace + g.Key() }

// Status returns the state of the entry. Its Key is the service key.
func (g *Registration) Status() lease.Status {
	status := g.handle.Status()
	status.Key = g.Key()
	if status.Err == nil && g.election != nil {
		status.Err = g.election.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if status.Err == nil && g.problem != "" {
		status.Err = errors.New(g.problem)
	}
	return status
}

// Update changes the entry, and returns when the change is in etcd.
func (g *Registration) Update(ctx context.Context, layouts []endpoint.Layout, d Details) error {
	if err := g.set(layouts, d); err != nil {
		return err
	}
	return g.handle.Sync(ctx)
}

func (g *Registration) set(layouts []endpoint.Layout, d Details) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	updated, err := g.entry.update(layouts, d)
	if err != nil {
		return err
	}
	items, err := updated.items(g.registrar.config.Namespace)
	if err != nil {
		return err
	}
	if err := g.handle.Set(items); err != nil {
		return err
	}
	g.entry = updated
	return nil
}

// SetPaused takes the entry out of etcd or puts it back, and returns when that is done. It returns an error when
// a later call does the opposite.
func (g *Registration) SetPaused(ctx context.Context, pause bool) error {
	wait, err := g.setPaused(pause)
	if err == nil {
		err = wait(ctx)
	}
	if !errors.Is(err, lease.ErrSuperseded) {
		return err
	}
	if pause {
		return fmt.Errorf("resumed meanwhile: %w", err)
	}
	return fmt.Errorf("paused meanwhile: %w", err)
}

// setPaused takes the entry out of etcd or puts it back, in the background. A leadership ends before the entry leaves.
func (g *Registration) setPaused(pause bool) (wait func(context.Context) error, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.paused = pause
	g.follow()
	return g.handle.SetPaused(pause)
}

// Drop takes the entry out of etcd for good, in the background, and frees its keys for another one.
func (g *Registration) Drop() {
	g.drop.Do(func() {
		if g.election != nil {
			g.election.End()
		}
		g.handle.Drop()
		g.registrar.release(g)
	})
}

// Close takes the entry out of etcd for good, and returns when it is gone; when ctx ends or 5 s have
// passed before, with an error that says what may be left.
func (g *Registration) Close(ctx context.Context) error {
	g.Drop()
	ctx, cancel := context.WithTimeout(ctx, lease.CloseTimeout)
	defer cancel()
	if err := g.handle.Close(ctx); err != nil {
		return err
	}
	if g.election != nil {
		select {
		case <-g.election.Gone():
		case <-ctx.Done():
			return fmt.Errorf("its candidate may stay in etcd until its lease expires: %w", context.Cause(ctx))
		}
	}
	select {
	case <-g.ended:
		return g.endErr
	case <-ctx.Done():
		return fmt.Errorf("the lease of the registration may not be revoked yet: %w", context.Cause(ctx))
	}
}
