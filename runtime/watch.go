package runtime

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// Watch yields the endpoints of a key, as they are now and then at each change, sorted by instance:
// for gateways and whatever else is not a gRPC connection. It yields what connections to the key use,
// so endpoints that vanish without their owner's word are held for a grace ([WithEmptyGrace]).
// Several changes that come while the loop body runs are yielded as one, the newest. Each slice is
// the caller's; the maps in it are shared and must not be changed.
//
// An error item, with a nil slice, says what keeps the key from being followed now, such as an etcd
// that does not answer; the last set stays the best known, and the loop goes on. The sequence ends
// with its context or the registry. It reads [LeaseSuffix] and [JSONLayout] only if they are among layouts, which
// may have one JSONLayout, and all other layouts always.
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
				if !seen.tell(k.State(), yield) {
					return
				}
			}
		}
	}
}

// watched is what a Watch yielded last.
type watched struct {
	set   []*discovery.Backend
	known bool
	err   string
}

// tell yields what is new in a state, and reports whether to go on.
func (w *watched) tell(s *discovery.State, yield func([]Endpoint, error) bool) bool {
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
