package runtime

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// Followed is a service that [Registry.Follow] follows. It is safe for concurrent use.
type Followed struct {
	desc       ServiceDesc
	key        *discovery.Key
	candidates *discovery.Candidates // nil: no method is for the leader
	stop       func()
}

// Follow follows a service as its clients do, for programs that pass on what clients know, such as an xDS server. To
// call the service, use [Registry.NewClient]; for endpoints alone, [Registry.Watch]. It does no I/O: etcd is read in
// the background. It fails if the registry is closed, or if the description, its service config or its layout is invalid.
//
// notify is called after each change until Stop is called; one call may stand for several changes, and the first may come
// before Follow returns. It must return at once, and must not call the registry or the Followed. All readers of
// a key share one watch.
func (r *Registry) Follow(desc *ServiceDesc, notify func()) (*Followed, error) {
	if err := r.start(); err != nil {
		return nil, err
	}
	if err := desc.check(); err != nil {
		return nil, err
	}
	if _, err := serviceconfig.Merge(desc.ServiceConfig); err != nil {
		return nil, fmt.Errorf("etcd: service %q: %w", desc.Name, err)
	}
	reader, err := readerOf(desc.layout())
	if err != nil {
		return nil, fmt.Errorf("etcd: service %q: %w", desc.Name, err)
	}
	f := &Followed{desc: *desc, key: r.keys.Key(desc.Key, reader)}
	f.stop = f.key.Read(notify)
	if len(desc.Leader) > 0 {
		f.candidates = r.keys.Candidates(desc.Key)
		stopKey, stopCandidates := f.stop, f.candidates.Read(notify)
		f.stop = func() { stopKey(); stopCandidates() }
	}
	f.stop = sync.OnceFunc(f.stop)
	return f, nil
}

// Stop stops following. It does not wait: a call of notify may be under way when it returns.
func (f *Followed) Stop() { f.stop() }

// View is the state that the clients of a service use, at one moment. It is shared: nothing in it may be changed.
type View struct {
	// Known reports whether clients have endpoints to use: those in etcd, or the last known while etcd does not
	// answer. If not, clients wait.
	Known bool
	// Provisional reports whether part of the view has yet to be read from etcd: the endpoints, the live service config and the
	// leader may come from a snapshot, or be missing. A program that knows the service from elsewhere keeps what it knows.
	Provisional bool
	// Endpoints are the service's, sorted by instance, without endpoints that their owners are withdrawing.
	Endpoints []Endpoint
	// Held are the addresses among them that have vanished from etcd, and are kept for a grace: see [WithEmptyGrace].
	Held map[string]struct{}
	// ServiceConfig is the one in force: the live one over the description's, for each top-level field.
	ServiceConfig string
	// Leader is the id of the instance that leads, as in Endpoints; "" while none leads, or if no method is for the leader.
	Leader string
	// Err is why the service, or the candidates for its leader, cannot be followed now, or its live service config is not
	// in force. The rest of the view is then the last known.
	Err error
	// Refused reports whether Err is etcd's own answer, such as a missing permission, so that clients do not wait for a
	// service that is not known.
	Refused bool
}

// View returns the state that clients use now. After Stop, and after the registry was closed, it is the last known one.
func (f *Followed) View() View {
	s, led, unled := f.key.State(), f.candidates.Known(), f.candidates.Err()
	v := View{
		Known: s.Known && (led || unled != nil), Provisional: s.Provisional || !s.LiveConfirmed || !led,
		Held: s.Held, Leader: s.NameOf(f.candidates.Leader().Instance), Err: cmp.Or(s.Err, unled, s.LiveErr), Refused: s.Refused(),
		Endpoints: make([]Endpoint, len(s.Backends)), ServiceConfig: f.desc.ServiceConfig,
	}
	for i, b := range s.Backends {
		v.Endpoints[i] = Endpoint(b.Endpoint)
	}
	merged, err := serviceconfig.Merge(f.desc.ServiceConfig, s.Live)
	if err != nil { // cannot happen: each was checked
		v.Err = fmt.Errorf("etcd: service %q: %w", f.desc.Name, err)
		return v
	}
	v.ServiceConfig = merged
	return v
}

// Watch yields the endpoints of a key, first as they are now and then at each change, sorted by instance:
// for gateways and other users without a gRPC connection. It yields the endpoints that connections to the key
// use, so endpoints that their owners did not withdraw are held for a grace ([WithEmptyGrace]).
// If several changes come while the loop body runs, it yields only the newest set. Each slice is
// the caller's; the maps in it are shared and must not be changed.
//
// An error item, with a nil slice, says why the key cannot be followed now, such as an etcd
// that does not answer; the last set stays the best known, and the loop goes on. The sequence ends
// with its context or the registry. It always reads all layouts except [LeaseSuffix] and [JSONLayout],
// which it reads only if they are among layouts. layouts may have one JSONLayout.
//
// The watch is shared with the connections to the same key.
func (r *Registry) Watch(ctx context.Context, key string, layouts ...Layout) iter.Seq2[[]Endpoint, error] {
	return func(yield func([]Endpoint, error) bool) {
		err := r.start()
		if err == nil {
			err = endpoint.CheckKey(key)
		}
		var reader endpoint.Reader
		if err == nil {
			reader, err = readerOf(layouts...)
		}
		if err != nil {
			yield(nil, fmt.Errorf("watch %q: %w", r.full(key), err))
			return
		}
		k := r.keys.Key(key, reader)
		changed, stop := k.Changes()
		defer stop()
		var seen watched
		for {
			select {
			case <-ctx.Done():
				return
			case <-r.ctx.Done():
				return
			case <-changed:
				if !seen.yieldChanges(k.State(), yield) {
					return
				}
			}
		}
	}
}

// watched is the last item that a Watch yielded.
type watched struct {
	set   []*discovery.Backend
	known bool
	err   string
}

// yieldChanges yields the changes of a state, and reports whether to go on.
func (w *watched) yieldChanges(s *discovery.State, yield func([]Endpoint, error) bool) bool {
	if s.Known && (!w.known || !slices.Equal(s.Backends, w.set)) {
		w.set, w.known = s.Backends, true
		endpoints := make([]Endpoint, len(s.Backends))
		for i, b := range s.Backends {
			endpoints[i] = Endpoint(b.Endpoint)
		}
		if !yield(endpoints, nil) {
			return false
		}
	}
	if s.Err == nil {
		w.err = ""
		return true
	}
	if text := s.Err.Error(); text != w.err {
		w.err = text
		return yield(nil, s.Err)
	}
	return true
}
