package registrar

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// Elections has functions that tell where the candidates for a service key are in etcd, and follow them.
type Elections struct {
	Prefix     func(key string) string                                                        // returns the prefix of their etcd keys
	Candidates func(key, instance, addr string, layouts []endpoint.Layout) *election.Standing // as the instance sees them
}

// electable returns an error if readers of an entry's layouts see different instance ids, which an election needs.
func (e Entry) electable() error {
	if !e.Elects || e.Endpoint.Instance == "" {
		return nil
	}
	one := e.Layouts[0]
	for _, other := range e.Layouts[1:] {
		if a, b := one.Instance(e.Endpoint), other.Instance(e.Endpoint); a != b {
			return fmt.Errorf("layouts %s and %s cannot stand for one election with an instance id: readers of one of them see the address instead; leave out the id or a layout", one, other)
		}
	}
	return nil
}

// newElection makes the election of an entry, nil if the entry has none.
func (r *Registrar) newElection(e Entry) (*election.Election, error) {
	if !e.Elects {
		return nil, nil
	}
	instance := e.Layouts[0].Instance(e.Endpoint)
	if len(instance) > candidate.MaxInstance {
		return nil, fmt.Errorf("the instance id has %d bytes, more than the %d that stand for election: set a shorter one", len(instance), candidate.MaxInstance)
	}
	return election.New(election.Config{
		Client: r.config.Client, Logger: r.config.Logger, Why: r.config.Why, TermChanged: r.electionsChanged.notify, TTL: e.TTL,
		Instance: instance, Renewer: r.renewer, Prefix: r.config.Elections.Prefix(e.Key),
		Candidates: r.config.Elections.Candidates(e.Key, instance, e.Endpoint.Addr, e.Layouts),
	}), nil
}

// closeUnplaced closes the elections of entries that were not placed.
func (run *Run) closeUnplaced() {
	for _, reg := range run.made {
		if reg.election != nil && reg.handle == nil {
			_ = reg.election.Close(context.Background()) // it never had a candidate
		}
	}
}

// updateStandings makes each instance a candidate while its entry is in etcd, or may be. It must be called with mu held.
func (r *Registrar) updateStandings() {
	for reg := range r.electing {
		if state := reg.handle.Status().State; state != lease.Lost {
			reg.election.Stand(state == lease.Registered)
		}
	}
}

// endElection ends the leadership of a registration, and takes its candidate out of etcd in the background. It must be called with mu
// held.
func (r *Registrar) endElection(reg *Registration) {
	if reg.election == nil {
		return
	}
	if reg.election.End(); r.life.Err() != nil { // Close closes all elections
		return
	}
	r.tasks.Go(func() {
		_ = reg.election.Close(context.Background()) // returns once its candidate is gone
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.electing, reg)
	})
}

// Elections returns the elections of the instances of a service key. changed is closed when these or their leaders may have
// changed.
func (r *Registrar) Elections(key string) (all []*election.Election, changed <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.elections(maps.Keys(r.electing), key)
}

// Elections is Registrar.Elections for the entries of the group. It returns an error if the group cannot be announced.
func (g *Group) Elections(key string) (all []*election.Election, changed <-chan struct{}, err error) {
	g.registrar.mu.Lock()
	defer g.registrar.mu.Unlock()
	if err := errors.Join(g.core.faults...); err != nil && g.core.phase == idle { // later faults do not end elections under way
		return nil, nil, err
	}
	if g.core.phase == stopped && g.registrar.life.Err() == nil {
		return nil, nil, errEnding
	}
	return g.registrar.elections(slices.Values(g.registrations), key)
}

// elections returns the elections of registrations under a service key. It must be called with mu held.
func (r *Registrar) elections(of iter.Seq[*Registration], key string) (all []*election.Election, changed <-chan struct{}, err error) {
	if why := context.Cause(r.life); why != nil {
		return nil, nil, why
	}
	for reg := range of {
		if reg.election != nil && reg.entry.Key == key {
			all = append(all, reg.election)
		}
	}
	return all, r.electionsChanged.next(), nil
}

// FinishLeading refuses new leader calls in all elections of the group at once, and waits until the unary ones under way have
// finished. It returns an error if ctx ends first.
func (g *Group) FinishLeading(ctx context.Context) error {
	g.registrar.mu.Lock()
	registrations := slices.Clone(g.registrations)
	g.registrar.mu.Unlock()
	errs := make([]error, len(registrations))
	var finishing sync.WaitGroup
	for i, reg := range registrations {
		if reg.election == nil {
			continue
		}
		finishing.Go(func() {
			if err := reg.election.Finish(ctx); err != nil {
				errs[i] = fmt.Errorf("etcd: withdraw %q: %w", reg.Full(), err)
			}
		})
	}
	finishing.Wait()
	return errors.Join(errs...)
}

// notifier wakes those that wait for a change. It has a lock of its own, since elections call notify with theirs held.
type notifier struct {
	mu      sync.Mutex
	changed chan struct{}
}

// next returns a channel that is closed at the next change.
func (n *notifier) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

func (n *notifier) notify() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}
