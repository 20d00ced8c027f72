package runtime

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

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
