package registrar

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// Elections has functions that tell where the candidates for a service key are in etcd, and follow them.
type Elections struct {
	Prefix     func(key string) string                                                         // returns the prefix of their etcd keys
	Candidates func(key, instance, addr string, layouts []endpoint.Layout) election.Candidates // as the instance sees them
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
		Client: r.config.Client, Logger: r.config.Logger, Why: r.config.Why, TermChanged: r.termChanged, TTL: e.TTL, Instance: instance,
		Renewer: r.renewer, Prefix: r.config.Elections.Prefix(e.Key),
		Candidates: r.config.Elections.Candidates(e.Key, instance, e.Endpoint.Addr, e.Layouts),
	}), nil
}

// updateStanding makes the instance a candidate while its entry is in etcd, or may be. It must be called with mu held.
func (reg *Registration) updateStanding() {
	if state := reg.handle.Status().State; reg.election != nil && state != lease.Lost {
		reg.election.Stand(state == lease.Registered)
	}
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

// Elections returns the elections of the instances of a service key. changed is closed when these or their leaders may have
// changed.
func (r *Registrar) Elections(key string) (all []*election.Election, changed <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, ErrClosed
	}
	for reg := range r.electing {
		if reg.Key() == key {
			all = append(all, reg.election)
		}
	}
	return all, r.electionsChanged, nil
}

// notifyElections wakes callers of Elections. It must be called with mu held.
func (r *Registrar) notifyElections() {
	close(r.electionsChanged)
	r.electionsChanged = make(chan struct{})
}

// termChanged is called when an instance starts or stops leading. It wakes callers of Elections.
func (r *Registrar) termChanged() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notifyElections()
}

// FinishLeading refuses new leader calls in all elections of the group at once, and waits until the unary ones under way have
// finished. It returns an error if ctx ends first.
func (g *Group) FinishLeading(ctx context.Context) error {
	g.mu.Lock()
	registrations := slices.Clone(g.registrations)
	g.mu.Unlock()
	errs := make([]error, len(registrations))
	var finishing sync.WaitGroup
	for i, registration := range registrations {
		if registration.election == nil {
			continue
		}
		finishing.Go(func() {
			if err := registration.election.Finish(ctx); err != nil {
				errs[i] = fmt.Errorf("etcd: withdraw %q: %w", registration.Full(), err)
			}
		})
	}
	finishing.Wait()
	return errors.Join(errs...)
}
