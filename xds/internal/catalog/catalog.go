// Package catalog follows services in etcd, and keeps their xDS resources by
// the name that clients dial.
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
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/ads"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/mapping"
)

// Catalog implements [ads.Source]. It is safe for concurrent use.
type Catalog struct {
	hosts  map[string]*host // by authority; the map does not change
	logger *slog.Logger

	mu    sync.Mutex
	limit loglimit.Limiter // of lines about unknown names
}

// New returns the catalog of services, which must have authorities. The catalog
// follows a service in etcd from the first Find of its authority. It calls
// notify after each change of an authority's resources; notify must neither
// block nor call the catalog.
func New(
	registry *runtime.Registry,
	services []*runtime.ServiceDesc,
	logger *slog.Logger,
	notify func(authority string),
) (*Catalog, error) {
	c := &Catalog{hosts: make(map[string]*host), logger: logger}
	for _, desc := range services {
		h := c.hosts[desc.Authority]
		if h == nil {
			h = &host{
				registry:  registry,
				authority: desc.Authority,
				logger:    logger,
				notify:    notify,
				input:     &mapping.Host{Authority: desc.Authority},
			}

			c.hosts[desc.Authority] = h
		}

		if err := h.add(desc); err != nil {
			return nil, fmt.Errorf("service %q: %w", desc.Name, err)
		}
	}

	for authority, h := range c.hosts {
		if _, err := mapping.Map(h.input, mapping.Client{}); err != nil {
			return nil, fmt.Errorf("the services of authority %q: %w", authority, err)
		}
	}

	return c, nil
}

// Find implements [ads.Source].
func (c *Catalog) Find(k ads.Kind, name string, client mapping.Client) ads.Found {
	h := c.hosts[mapping.AuthorityOf(name)]
	if h == nil {
		c.mu.Lock()
		defer c.mu.Unlock()

		if ok, missed := c.limit.Allow(time.Now()); ok {
			attrs := loglimit.Attrs(missed, "name", printable.Short(name, 200))
			c.logger.Warn("a client asks for a name that no service has", attrs...)
		}

		return ads.Found{}
	}

	s, provisional := h.snapshot(client)
	if s == nil {
		return ads.Found{Pending: true}
	}

	found := ads.Lookup(s, k, name)
	found.Provisional = provisional

	return found
}

// Host is the status of a host.
type Host struct {
	Authority   string
	Key         string
	Known       bool     // etcd has answered, perhaps by denying permission: see Err
	Endpoints   int      // the number of endpoints
	Unsupported []string // the features in use that xDS lacks, sorted

	// why etcd cannot be read now, or why the service config is not in force;
	// nil if all is well
	Err error
}

// Hosts returns the hosts that clients have asked for, sorted.
func (c *Catalog) Hosts() (all []Host) {
	for _, authority := range slices.Sorted(maps.Keys(c.hosts)) {
		if h, used := c.hosts[authority].status(); used {
			all = append(all, h)
		}
	}

	return all
}

const (
	// maxSnapshots limits the cached snapshots of a host. A host has one
	// snapshot or, if the policy depends on zones or clients, a snapshot for
	// each zone or client.
	maxSnapshots = 10_000

	// maxZones limits the cached snapshots of a host whose policy depends only
	// on zones: clients can send any zone.
	maxZones = 64

	// emptyGrace is the default time for which clients of package runtime hold
	// endpoints.
	emptyGrace = 30 * time.Second
)

// host has the services that clients dial by one authority. It follows them in
// etcd from a client's first request for them.
//
// The registry may call changed while it holds a lock that Follow and View
// acquire, so changed must not acquire mu.
type host struct {
	registry  *runtime.Registry
	authority string
	logger    *slog.Logger
	notify    func(authority string)
	descs     []*runtime.ServiceDesc // all of one key

	stale atomic.Bool // input is out of date

	mu       sync.Mutex
	throttle throttle // of mappings

	followed []*runtime.Followed // by service; nil until a client asks

	// the services of input have their last valid policies, at first those of
	// descs
	input *mapping.Host

	provisional bool // input may be out of date

	// the time until which a host without endpoints is provisional; zero until
	// etcd has answered
	graceEnds time.Time

	made        map[mapping.Client]*mapping.Snapshot // nil until etcd has answered
	err         error                                // the current problem, nil for none
	unsupported []string                             // see Host
	limit       loglimit.Limiter
}

// add adds a service. All services of a host have the same key, and so the same
// endpoints.
func (h *host) add(desc *runtime.ServiceDesc) error {
	p, err := mapping.ReadPolicy(desc.ServiceConfig)
	if err != nil {
		return err
	}

	service := mapping.Service{Name: desc.Name, Policy: p}

	if desc.Extension != nil {
		hooks, err := desc.Extension.Extend(desc.Name)
		if err != nil {
			return err
		}

		service.Leading = hooks.Methods
	}

	h.descs = append(h.descs, desc)
	h.input.Services = append(h.input.Services, service)

	return nil
}

// begin starts to follow the services. The caller holds mu.
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

func (h *host) changed() {
	h.stale.Store(true)
	h.notify(h.authority)
}

// snapshot returns the resources for a client, nil if they are unknown.
// provisional reports whether they may be out of date.
func (h *host) snapshot(client mapping.Client) (_ *mapping.Snapshot, provisional bool) {
	h.mu.Lock()
	defer h.mu.Unlock()

	if h.followed == nil {
		h.begin()
	}

	h.refresh()

	if h.made == nil {
		return nil, false
	}

	client = h.input.Client(client)
	if s := h.made[client]; s != nil {
		return s, h.provisional
	}

	defer h.throttle.spent(time.Now())

	s, err := mapping.Map(h.input, client)
	if err != nil {
		h.report(err)
		return nil, false
	}

	if len(h.made) >= maxSnapshots || client.ID == "" && len(h.made) >= maxZones {
		clear(h.made)
	}

	h.made[client] = s

	return s, h.provisional
}

// refresh reads the current state of the services, if it has changed and no
// pause is on. If a service config is invalid or too large, the last valid one
// stays in force. The caller holds mu.
func (h *host) refresh() {
	if len(h.followed) < len(h.descs) || !h.stale.Load() || h.throttle.wait(h.changed) {
		return
	}

	h.stale.Store(false)

	defer h.throttle.spent(time.Now())

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

	next := &mapping.Host{
		Authority: h.authority,
		Services:  slices.Clone(h.input.Services),
		Held:      views[0].Held,
	}

	if h.graceEnds.IsZero() && !views[0].Provisional {
		h.graceEnds = time.Now().Add(emptyGrace)
		time.AfterFunc(emptyGrace, h.changed)
	}

	// If all leases have expired, servers will soon register again.
	h.provisional = len(views[0].Endpoints) == 0 && time.Now().Before(h.graceEnds)

	for i := range views {
		h.provisional = h.provisional || views[i].Provisional

		if p, err := mapping.ReadPolicy(views[i].ServiceConfig); err == nil {
			next.Services[i].Policy = p
		} else {
			err = fmt.Errorf("the service config of %q is not in force: %w",
				h.descs[i].Name, err)
			trouble = cmp.Or(trouble, err)
		}

		next.Leader = cmp.Or(views[i].Routed, next.Leader)
	}

	for _, e := range views[0].Endpoints {
		next.Endpoints = append(next.Endpoints, endpoint.Endpoint(e))
	}

	s, err := mapping.Map(next, mapping.Client{})
	if err != nil {
		trouble = err
		next.Services = h.input.Services
	}

	h.input = next
	h.made = make(map[mapping.Client]*mapping.Snapshot)

	if err == nil {
		h.made[mapping.Client{}] = s

		if !slices.Equal(h.unsupported, s.Unsupported) {
			h.unsupported = s.Unsupported
			h.log(slog.LevelWarn, "xDS clients do not get all of a service",
				"missing", s.Unsupported)
		}
	}

	h.report(trouble)
}

// The pause after a mapping lasts pauseFactor times as long as the mapping: so
// a host uses a tenth of a processor for its mappings. The pause lasts at most
// maxPause, so that clients receive changes soon. A host uses more than a tenth
// only if its mappings between two pauses take over 0.1 s.
const pauseFactor, maxPause = 9, time.Second

// throttle bounds the share of time that a host spends on mappings.
type throttle struct {
	until time.Time   // the end of the pause
	timer *time.Timer // nil before the first pause that wait saw
}

// spent extends the pause for work that began at the given time.
func (t *throttle) spent(began time.Time) {
	now := time.Now()
	pause := max(0, t.until.Sub(now)) + pauseFactor*now.Sub(began)
	t.until = now.Add(min(pause, maxPause))
}

// wait reports whether the pause is on. If so, it calls ended when the pause is
// over. ended must be the same in each call.
func (t *throttle) wait(ended func()) bool {
	rest := time.Until(t.until)
	switch {
	case rest <= 0:
		return false
	case t.timer == nil:
		t.timer = time.AfterFunc(rest, ended)
	default:
		t.timer.Reset(rest)
	}

	return true
}

// report sets the current problem, and logs it if it is new. The caller holds
// mu.
func (h *host) report(err error) {
	last := h.err
	h.err = err
	if fmt.Sprint(last) == fmt.Sprint(err) {
		return
	}

	if err != nil {
		h.log(slog.LevelWarn,
			"cannot follow a service; its last known state stays in force",
			"error", err)
	} else {
		h.log(slog.LevelInfo, "following a service again")
	}
}

// log logs a line about the host, unless it has logged many recently.
func (h *host) log(level slog.Level, text string, attrs ...any) {
	if ok, missed := h.limit.Allow(time.Now()); ok {
		attrs = loglimit.Attrs(missed, append(attrs, "authority", h.authority)...)
		h.logger.Log(context.Background(), level, text, attrs...)
	}
}

// status returns the status of the host. used is false if no client has asked
// for it.
func (h *host) status() (_ Host, used bool) {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.refresh() // the state may be old: a stalled client does not cause lookups

	status := Host{
		Authority:   h.authority,
		Key:         h.descs[0].Key,
		Known:       h.made != nil,
		Endpoints:   len(h.input.Endpoints),
		Unsupported: h.unsupported,
		Err:         h.err,
	}

	return status, h.followed != nil
}
