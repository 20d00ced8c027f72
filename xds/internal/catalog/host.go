package catalog

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/mapping"
)

// maxSnapshots limits the cached snapshots of a host. There is one, or one for each zone or client if the policy depends on these.
const maxSnapshots = 10_000

// maxZones limits the cached snapshots if the policy depends on zones only. Clients can claim any zone.
const maxZones = 64

// host is the services that clients dial by one name. It follows them in etcd while a client asks for them.
//
// The registry may call changed while it holds a lock that Follow takes, so changed must not take mu. A log handler may call status, so
// nothing is logged with mu held.
type host struct {
	registry  *runtime.Registry
	authority string
	logger    *slog.Logger
	descs     []*runtime.ServiceDesc // of one key

	stale atomic.Bool // input is out of date

	readersMu sync.Mutex
	readers   map[*reader]struct{}

	mu          sync.Mutex
	users       int
	followed    []*runtime.Followed // by service; nil: nothing is followed
	input       *mapping.Host       // nil: unknown
	known       bool                // input was read from etcd; false if etcd denied permission
	provisional bool                // some of input may be out of date
	made        map[mapping.Client]*mapping.Snapshot
	policies    []*mapping.Policy // by service; each is the last valid one
	err         error             // the current problem
	logged      map[string]bool   // unsupported features
	reported    string            // the last logged problem
	limit       loglimit.Limiter
	lines       []line // for unlock to log
}

// line is a line of the log.
type line struct {
	level slog.Level
	text  string
	attrs []any
}

// reader is a caller of follow.
type reader struct{ notify func() }

// add adds a service. All services of a host share the endpoints, so they have one key.
func (h *host) add(desc *runtime.ServiceDesc) error {
	p, err := mapping.ReadPolicy(desc.ServiceConfig)
	if err != nil {
		return fmt.Errorf("service %q: %w", desc.Name, err)
	}
	h.descs, h.policies = append(h.descs, desc), append(h.policies, p)
	return nil
}

func (h *host) follow(notify func()) (stop func()) {
	r := &reader{notify}
	h.readersMu.Lock()
	h.readers[r] = struct{}{}
	h.readersMu.Unlock()
	h.mu.Lock()
	defer h.unlock()
	if h.users++; h.users == 1 {
		h.begin()
	}
	return sync.OnceFunc(func() {
		h.readersMu.Lock()
		delete(h.readers, r)
		h.readersMu.Unlock()
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.users--; h.users == 0 {
			h.end()
		}
	})
}

// unlock unlocks mu, and then logs lines.
func (h *host) unlock() {
	lines := h.lines
	h.lines = nil
	h.mu.Unlock()
	for _, l := range lines {
		h.logger.Log(context.Background(), l.level, l.text, append(l.attrs, "authority", h.authority)...)
	}
}

// begin follows the services. It must be called with mu held.
func (h *host) begin() {
	h.stale.Store(true)
	for _, desc := range h.descs {
		f, err := h.registry.Follow(desc, h.changed)
		if err != nil {
			h.report(err)
			return
		}
		h.followed = append(h.followed, f)
	}
}

// end must be called with mu held.
func (h *host) end() {
	for _, f := range h.followed {
		f.Stop()
	}
	h.followed, h.input, h.made, h.known, h.err = nil, nil, nil, false, nil
}

// changed notifies all readers.
func (h *host) changed() {
	h.stale.Store(true)
	h.readersMu.Lock()
	defer h.readersMu.Unlock()
	for r := range h.readers {
		r.notify()
	}
}

// snapshot returns the resources for a client, nil if they are unknown. provisional reports whether some of them may be out of date.
func (h *host) snapshot(of mapping.Client) (_ *mapping.Snapshot, provisional bool) {
	h.mu.Lock()
	defer h.unlock()
	if len(h.followed) == len(h.descs) && h.stale.Swap(false) {
		h.refresh()
	}
	if h.input == nil {
		return nil, false
	}
	of = h.input.Client(of)
	if s := h.made[of]; s != nil {
		return s, h.provisional
	}
	s, err := mapping.Map(h.input, of)
	if err != nil {
		h.report(err)
		return nil, false
	}
	if len(h.made) >= maxSnapshots || of.ID == "" && len(h.made) >= maxZones {
		clear(h.made)
	}
	h.made[of] = s
	h.logUnsupported(s.Unsupported)
	return s, h.provisional
}

// refresh reads the current state of the services. If a service config is invalid or too large, the last one stays in force.
func (h *host) refresh() {
	var views []runtime.View
	var trouble error
	for _, f := range h.followed {
		v := f.View()
		trouble = cmp.Or(trouble, v.Err)
		if !v.Known && !v.Refused {
			h.report(trouble)
			return
		}
		views = append(views, v)
	}
	next := &mapping.Host{Authority: h.authority, Held: views[0].Held}
	h.provisional = false
	for i := range views {
		h.provisional = h.provisional || views[i].Provisional
		if p, err := mapping.ReadPolicy(views[i].ServiceConfig); err == nil {
			h.policies[i] = p
		} else {
			trouble = cmp.Or(trouble, fmt.Errorf("the service config of %q is not in force: %w", h.descs[i].Name, err))
		}
		next.Services = append(next.Services, mapping.Service{Name: h.descs[i].Name, Policy: h.policies[i], Leading: h.descs[i].Leader})
		next.Leader = cmp.Or(views[i].Leader, next.Leader)
	}
	for _, e := range views[0].Endpoints {
		next.Endpoints = append(next.Endpoints, endpoint.Endpoint(e))
	}
	s, err := mapping.Map(next, mapping.Client{})
	if err != nil {
		trouble = err
		if h.input == nil {
			h.report(trouble)
			return
		}
		next.Services = h.input.Services // the last config that could be mapped stays in force
	}
	h.known = views[0].Known
	h.input, h.made = next, make(map[mapping.Client]*mapping.Snapshot)
	if err == nil {
		h.made[mapping.Client{}] = s
		h.logUnsupported(s.Unsupported)
	}
	h.report(trouble)
}

// report sets the current problem, and logs it if it is new. It must be called with mu held.
func (h *host) report(err error) {
	h.err = err
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == h.reported {
		return
	}
	h.reported = text
	switch ok, missed := h.limit.Allow(time.Now()); {
	case !ok:
	case err != nil:
		h.lines = append(h.lines, line{slog.LevelWarn, "cannot follow a service, its last known state stays in force", loglimit.Attrs(missed, "error", err)})
	default:
		h.lines = append(h.lines, line{slog.LevelInfo, "following a service again", loglimit.Attrs(missed)})
	}
}

// maxLogged limits the unsupported features that are logged.
const maxLogged = 50

// logUnsupported logs each unsupported feature once. It must be called with mu held.
func (h *host) logUnsupported(features []string) {
	for _, text := range features {
		if len(h.logged) < maxLogged && !h.logged[text] {
			h.logged[text] = true
			h.lines = append(h.lines, line{slog.LevelWarn, "xDS lacks a feature of a service", []any{"feature", text}})
		}
	}
}

// unsupported returns the features that the current snapshots lack. It must be called with mu held.
func (h *host) unsupported() []string {
	all := make(map[string]bool)
	for _, s := range h.made {
		for _, text := range s.Unsupported {
			all[text] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// status returns the status of the host. used is false if no client asks for it.
func (h *host) status() (_ Host, used bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Host{Authority: h.authority, Key: h.descs[0].Key, Clients: h.users, Known: h.known, Unsupported: h.unsupported(), Err: h.err}
	if h.input != nil {
		s.Endpoints = len(h.input.Endpoints)
	}
	return s, h.users > 0
}
