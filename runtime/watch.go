package runtime

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// Watch yields the endpoints of a key, sorted by instance: first the current
// set, and then a new set after each change. It is for gateways and other users
// without a gRPC connection. Like connections, it keeps endpoints for a grace
// if they vanish although their owners did not withdraw them: see
// [WithEmptyGrace]. If several changes come while the loop body runs, Watch
// yields only the newest set. The caller may change each slice, but not the
// maps in it, which are shared.
//
// An item with an error and a nil slice says why the key cannot be followed
// now, for example that etcd does not answer. The last set stays the best
// known, and the loop goes on. Once the key can be followed again, Watch yields
// the set, even if it is the same: the last item says whether there is an
// error. The sequence ends when ctx ends or the registry is closed. Watch
// always reads all layouts except [LeaseSuffix] and [JSONLayout], which it
// reads only if they are among layouts. At most one of layouts may be a
// JSONLayout.
//
// Watch and the connections to the same key share one watch of etcd.
func (r *Registry) Watch(
	ctx context.Context,
	key string,
	layouts ...Layout,
) iter.Seq2[[]Endpoint, error] {
	return func(yield func([]Endpoint, error) bool) {
		reader, err := readerOf(layouts...)
		err = cmp.Or(r.start(), endpoint.CheckKey(key), err)
		if err != nil {
			yield(nil, fmt.Errorf("watch %q: %w", r.full(key), err))
			return
		}

		k := r.keys.Key(key, reader)
		changed, stop := k.Changes()
		defer stop()

		var set []*discovery.Backend // the last set that differed from the previous one
		read := func() (bool, []*discovery.Backend, error) {
			s := k.State()
			if !slices.EqualFunc(set, s.Backends, sameEndpoint) {
				set = s.Backends
			}

			return s.Known, set, s.Err
		}

		yieldChanges(ctx, r.ctx, changed, 0, read, endpointsOf, yield)
	}
}

// sameEndpoint reports whether users see no difference between two backends.
// Their entries may differ, such as in their leases.
func sameEndpoint(a, b *discovery.Backend) bool {
	return a == b || a.Endpoint.Equal(b.Endpoint)
}

// Services yields the keys under a prefix that have endpoints in etcd, sorted:
// first the current list, and then the whole new list after a change, at most
// one a second. It is for gateways. prefix is a text, such as "acme/"; "" means
// all keys of the namespace. Changes while the loop body runs are joined. The
// caller may change each slice.
//
// Errors are items, as in [Registry.Watch]: etcd does not answer, the user may
// not read the prefix, or the entries under the prefix exceed [Limits].Bytes,
// by default at some 170,000 entries. The sequence ends when ctx ends or the
// registry is closed. Each call has its own watch of etcd.
//
// Entries count if clients of the default layouts use them. So [JSONLayout] is
// not found, and an entry "acme/hello<lease id>" of [LeaseSuffix] looks like
// one of "acme". A key disappears with its last entry, even while clients still
// keep its endpoints: see [WithEmptyGrace].
func (r *Registry) Services(
	ctx context.Context,
	prefix string,
) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		if err := r.start(); err != nil {
			yield(nil, fmt.Errorf("services under %q: %w", r.full(prefix), err))
			return
		}

		services := r.keys.Services(prefix)
		defer services.Stop()

		yieldChanges(ctx, r.ctx, services.Changed, time.Second, services.List,
			slices.Clone[[]string], yield)
	}
}

// yieldChanges calls read after each signal of changed, and then waits for
// pause. It yields a known set if the set differs from the last one, or if an
// error has ended. It yields an error if the error differs from the last one.
// It returns when ctx or registry ends, or when yield returns false.
func yieldChanges[T comparable, U any](
	ctx, registry context.Context,
	changed <-chan struct{},
	pause time.Duration,
	read func() (known bool, set []T, err error),
	convert func([]T) []U,
	yield func([]U, error) bool,
) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(registry, cancel)()

	var last []T

	yielded := false

	lastErr := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}

		known, set, err := read()
		if known &&
			(!yielded || err == nil && lastErr != "" || !slices.Equal(set, last)) {
			last = set
			yielded = true
			lastErr = "" // an error that lasts is yielded again

			if !yield(convert(set), nil) {
				return
			}
		}

		text := ""
		if err != nil {
			text = err.Error()
		}

		if text != "" && text != lastErr && !yield(nil, err) {
			return
		}

		lastErr = text

		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
