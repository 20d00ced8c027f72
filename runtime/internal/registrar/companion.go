package registrar

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync/atomic"
)

// Companion is what an extension adds to an entry. Its methods are safe for
// concurrent use.
type Companion interface {
	// Registered notifies the companion whether the entry is in etcd. It is not
	// called while that is unknown, and must not block.
	Registered(bool)

	// End makes the companion end, before its entry is removed. It does not
	// wait: the companion ends after the calls under way that need it.
	End()

	// Wait returns once the companion has ended and nothing of it remains in
	// etcd. It returns an error if ctx ends first.
	Wait(ctx context.Context) error

	// Close does what End and Wait do, but ends calls at once. If ctx ends
	// first, the companion gives up.
	Close(ctx context.Context) error

	// Err returns the companion's present problem, nil if there is none.
	Err() error
}

// endCompanion ends the companion of a registration, and removes it from etcd
// in the background. It must be called with mu held.
func (r *Registrar) endCompanion(reg *Registration) {
	if reg.companion == nil {
		return
	}

	reg.companion.End()

	if r.life.Err() != nil { // Close closes all companions
		return
	}

	r.tasks.Go(func() {
		ctx := context.Background() // never ends, so neither call returns an error
		_ = reg.companion.Wait(ctx)
		_ = reg.companion.Close(ctx)

		r.mu.Lock()
		defer r.mu.Unlock()

		delete(r.accompanied, reg)
	})
}

// Companions returns the companions of the entries of a service key. The
// channel is closed when one of them comes, ends or changes. After an error,
// there will be no more companions.
func (r *Registrar) Companions(key string) ([]Companion, <-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	return r.companions(maps.Keys(r.accompanied), key)
}

// Companions is Registrar.Companions for the entries of the group. It returns
// an error if the group cannot be announced.
func (g *Group) Companions(key string) ([]Companion, <-chan struct{}, error) {
	g.registrar.mu.Lock()
	defer g.registrar.mu.Unlock()

	// faults that come after the group has begun do not end its companions
	if err := errors.Join(g.core.faults...); err != nil && g.core.phase == idle {
		return nil, nil, err
	}

	if g.core.phase == stopped && g.registrar.life.Err() == nil {
		return nil, nil, errEnding
	}

	return g.registrar.companions(slices.Values(g.registrations), key)
}

// companions returns the companions of registrations under a service key. It
// must be called with mu held.
func (r *Registrar) companions(
	of iter.Seq[*Registration],
	key string,
) (all []Companion, changed <-chan struct{}, err error) {
	if why := context.Cause(r.life); why != nil {
		return nil, nil, why
	}

	for reg := range of {
		if reg.companion != nil && reg.entry.Key == key {
			all = append(all, reg.companion)
		}
	}

	return all, r.companionsChanged.next(), nil
}

// notifier wakes the callers that wait for a change. It takes no lock, because
// companions call notify with a lock of their own held.
type notifier struct{ changed atomic.Pointer[chan struct{}] }

// next returns a channel that is closed at the next change.
func (n *notifier) next() <-chan struct{} {
	return *n.changed.Load()
}

// notify closes the last channel, and makes the next one.
func (n *notifier) notify() {
	next := make(chan struct{})
	if last := n.changed.Swap(&next); last != nil {
		close(*last)
	}
}
