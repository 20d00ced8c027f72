package runtime

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listwatch"
)

// Watch yields the endpoints of a key, as they are now and then at each change, sorted by instance:
// for gateways and whatever else is not a gRPC connection. Several changes that come while the loop
// body runs are yielded as one, the newest. Each slice is the caller's; the maps in it are shared
// and must not be changed.
//
// An error item, with a nil slice, is news of what keeps the key from being followed now, such as
// an etcd that does not answer; the last set stays the best known, and the loop goes on. The
// sequence ends with its context or the registry. Entries of lease-suffix keys are seen where
// LeaseSuffix is among layouts; those of the other layouts always are.
//
// The watch is shared with the connections to the same key.
func (r *Registry) Watch(ctx context.Context, key string, layouts ...Layout) iter.Seq2[[]Endpoint, error] {
	return func(yield func([]Endpoint, error) bool) {
		err := r.start()
		if err == nil {
			err = endpoint.CheckKey(key)
		}
		if err != nil {
			yield(nil, fmt.Errorf("watch %q: %w", key, err))
			return
		}
		box := mailbox{ready: make(chan struct{}, 1)}
		stop := r.source(key, slices.Contains(layouts, LeaseSuffix)).follow(box.put)
		defer stop()
		var seen watched
		for {
			select {
			case <-ctx.Done():
				return
			case <-r.ctx.Done():
				return
			case <-box.ready:
				if !seen.tell(box.take(), yield) {
					return
				}
			}
		}
	}
}

// watched is what a Watch has yielded.
type watched struct {
	merger merger

	set   []*discovery.Backend
	known bool
	err   string
}

// tell yields what is new in an update, and returns whether to go on.
func (w *watched) tell(u listwatch.Update[*discovery.Backend], yield func([]Endpoint, error) bool) bool {
	if u.Snapshot != nil {
		set := w.merger.merge(u.Snapshot.Items)
		if !w.known || !slices.Equal(set, w.set) {
			w.set, w.known = set, true
			endpoints := make([]Endpoint, len(set))
			for i, b := range set {
				endpoints[i] = Endpoint(b.Endpoint)
			}
			if !yield(endpoints, nil) {
				return false
			}
		}
	}
	if u.Err == nil {
		w.err = ""
		return true
	}
	if text := u.Err.Error(); text != w.err {
		w.err = text
		return yield(nil, u.Err)
	}
	return true
}

// mailbox holds the newest update until it is taken.
type mailbox struct {
	ready chan struct{}

	mu     sync.Mutex
	update listwatch.Update[*discovery.Backend]
}

func (m *mailbox) put(u listwatch.Update[*discovery.Backend]) {
	m.mu.Lock()
	m.update = u
	m.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() listwatch.Update[*discovery.Backend] {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.update
}
