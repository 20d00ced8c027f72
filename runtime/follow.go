package runtime

import (
	"cmp"
	"fmt"

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

	// Endpoints are the endpoints of the service, sorted by instance. Endpoints
	// that their owners are withdrawing are omitted, unless there are no
	// others. If the owners have withdrawn all endpoints, the last ones stay
	// for 5 s.
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
