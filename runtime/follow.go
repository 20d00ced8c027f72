package runtime

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// Followed is a service that [Registry.Follow] follows. It is safe for
// concurrent use.
type Followed struct {
	desc   ServiceDesc
	key    *discovery.Key
	router discovery.Router // nil: no method has a route
	stop   func()
}

// Follow follows a service as its clients do, for programs that pass on what
// clients know, such as an xDS server. To call the service, use
// [Registry.NewClient]. To follow only the endpoints, use [Registry.Watch].
// Follow does no I/O: etcd is read in the background. It fails if the registry
// is closed, or if the description is invalid.
//
// notify is called after each change until Stop is called. One call may stand
// for several changes, and the first call may come before Follow returns.
// notify must return at once, and must not call methods of the registry or of
// the Followed. All readers of a key share one watch.
func (r *Registry) Follow(desc *ServiceDesc, notify func()) (*Followed, error) {
	if err := r.start(); err != nil {
		return nil, err
	}

	if err := desc.Check(); err != nil {
		return nil, err
	}

	_, err := serviceconfig.Merge(serviceconfig.Known, desc.ServiceConfig)
	if err != nil {
		return nil, fmt.Errorf("etcd: service %q: %w", desc.Name, err)
	}

	reader, err := readerOf(desc.layout())
	if err != nil {
		return nil, fmt.Errorf("etcd: service %q: %w", desc.Name, err)
	}

	f := &Followed{desc: *desc, key: r.keys.Key(desc.Key, reader)}
	f.stop = f.key.Read(notify)

	if route := desc.hooks().Route; route != nil {
		f.router = route(r.host, desc.Key).Router
		stopKey := f.stop
		stopRouter := f.router.Read(notify)
		f.stop = func() {
			stopKey()
			stopRouter()
		}
	}

	return f, nil
}

// Stop stops following. It does not wait for a call of notify that is under
// way.
func (f *Followed) Stop() {
	f.stop()
}

// View is the state that the clients of a service use, at one moment. It is
// shared: nothing in it may be changed.
type View struct {
	// Known reports whether clients know the endpoints, which may be old ones
	// while etcd does not answer. If Known is false, the calls of clients wait.
	Known bool

	// Provisional reports whether part of the view has not been read from etcd
	// yet: the endpoints, the live service config and Routed may come from a
	// snapshot, or be missing. A program with a view from another source keeps
	// using that view.
	Provisional bool

	// Endpoints are the service's, sorted by instance, without endpoints that
	// their owners are withdrawing, unless there are no others. Those that left
	// last stay for 5 s.
	Endpoints []Endpoint

	// Held are the addresses of Endpoints that have vanished from etcd, and are
	// kept for a grace: see [WithEmptyGrace].
	Held map[string]struct{}

	// ServiceConfig is the description's config, in which top-level fields of
	// the live config replace the same fields.
	ServiceConfig string

	// Routed is the id, as in Endpoints, of the instance to which the Extension
	// routes calls, such as the leader, or "".
	Routed string

	// Err is why the service or Routed cannot be followed now, or why its live
	// service config is not in force. The other fields then have the last known
	// values.
	Err error

	// Refused reports whether etcd itself refused the request, such as for a
	// missing permission. Then the calls of clients that know no endpoints
	// fail, and do not wait.
	Refused bool
}

// View returns the state that clients use now. After Stop, or once the registry
// is closed, View returns the last known state.
func (f *Followed) View() View {
	s := f.key.State()
	routed := true
	var unrouted error
	to := ""

	if f.router != nil {
		routed = f.router.Known()
		unrouted = f.router.Err()
		to = f.router.Route().Instance
	}

	v := View{
		Known:       s.Known && (routed || unrouted != nil),
		Provisional: s.Provisional || !s.LiveConfirmed || !routed,
		Held:        s.Held,
		Routed:      s.NameOf(to),
		Err:         cmp.Or(s.Err, unrouted, s.LiveErr),
		Refused:     discovery.Refused(s.Err),
		Endpoints:   endpointsOf(s.Callable()),
	}

	// no error: both configs were checked
	v.ServiceConfig, _ = serviceconfig.Merge(serviceconfig.Known, f.desc.ServiceConfig,
		s.Live)

	return v
}

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

		var set []*discovery.Backend // the last one that differed
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

		changed, list, stop := r.keys.Services(prefix)
		defer stop()

		yieldChanges(ctx, r.ctx, changed, time.Second, list, slices.Clone[[]string],
			yield)
	}
}

// yieldChanges calls read after each signal of changed, and yields the set,
// once it is known, and the error, if they differ from the last ones. It waits
// for pause after each read. It returns when ctx or registry ends, or when
// yield returns false.
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
