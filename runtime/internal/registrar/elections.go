package registrar

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// Elections says how candidates for a service key are found in etcd.
type Elections struct {
	Prefix     func(key string) string                                                         // of the candidates' etcd keys
	Candidates func(key, instance, addr string, layouts []endpoint.Layout) election.Candidates // as an instance sees them
}

// stand makes the election of an entry that stands for one, nil for another. Its candidate gets a name of its own: a
// process that takes over an entry must not take over the leadership, which another one may believe to hold.
func (r *Registrar) stand(e *Entry) *election.Election {
	if !e.Elects {
		return nil
	}
	e.candidate = rand.Text()
	candidates := r.config.Elections.Candidates(e.Key, e.Layouts[0].Instance(e.Endpoint), e.Endpoint.Addr, e.Layouts)
	return election.New(r.config.Client, r.config.Logger, r.config.Elections.Prefix(e.Key), candidates, r.turned)
}

// items returns the items of an entry, and its candidate for an election, which may be nil.
func (r *Registrar) items(e Entry, elected *election.Election) ([]lease.Item, error) {
	items, err := e.items(r.config.Namespace)
	if err != nil || elected == nil {
		return items, err
	}
	instance := e.Layouts[0].Instance(e.Endpoint)
	if len(instance) > candidate.MaxInstance {
		return nil, fmt.Errorf("the instance id has %d bytes, more than the %d that stand for election: set a shorter one", len(instance), candidate.MaxInstance)
	}
	prefix := r.config.Elections.Prefix(e.Key)
	key := prefix + e.candidate
	return append(items, lease.Item{
		Key: func(clientv3.LeaseID) string { return key }, Value: instance, Elect: elected.Stood, Election: prefix,
	}), nil
}

// electable returns an error if readers of the layouts of an entry that stands for election see different instance ids.
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

// Elections returns the elections in which instances of a service key stand. changed is closed when there may be others, or
// others lead.
func (r *Registrar) Elections(key string) (all []*election.Election, changed <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, ErrClosed
	}
	for g := range r.registrations {
		if g.election != nil && g.Key() == key {
			all = append(all, g.election)
		}
	}
	return all, r.standing, nil
}

// stands tells those who wait for an election of a change. It must be called with mu held.
func (r *Registrar) stands() {
	close(r.standing)
	r.standing = make(chan struct{})
}

// turned tells those who wait that an instance begins to lead, or ends.
func (r *Registrar) turned() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stands()
}

// FinishLeading refuses new calls for the leader in all elections of the group, and waits until the unary ones under way have
// finished. It returns an error if ctx ends before.
func (g *Group) FinishLeading(ctx context.Context) error {
	g.mu.Lock()
	registrations := slices.Clone(g.registrations)
	g.mu.Unlock()
	var errs []error
	for _, registration := range registrations {
		if registration.election == nil {
			continue
		}
		if err := registration.election.Finish(ctx); err != nil {
			errs = append(errs, fmt.Errorf("etcd: withdraw %q: %w", registration.Full(), err))
		}
	}
	return errors.Join(errs...)
}

// closeElections closes the elections of registrations.
func closeElections(registrations []*Registration) {
	for _, g := range registrations {
		if g.election != nil {
			g.election.Close()
		}
	}
}
