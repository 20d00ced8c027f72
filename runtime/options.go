package runtime

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/metric"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

const (
	defaultLeaseTTL   = 15 * time.Second
	defaultEmptyGrace = 30 * time.Second

	defaultEntries = 20_000
	minBytes       = 16 << 20
	maxBytes       = 32 << 20
)

// Option configures a [Registry].
type Option func(*options)

type options struct {
	namespace   string
	leaseTTL    time.Duration
	logger      *slog.Logger
	meters      metric.MeterProvider
	zone        string
	emptyGrace  time.Duration
	snapshotDir string

	loadBalancingOnly bool
	limits            Limits
	allowed           []netip.Prefix                        // nil: all
	checkFallback     func(*clientv3.Client, options) error // returns why the fallback cannot be used, nil if it can
	fallbackKeys      func() *discovery.Keys                // returns the fallback's keys, nil without WithFallback
}

// addresses returns a function whose error says why an address may not be dialed, nil if all may.
func (o *options) addresses() (check func(addr string) error, err error) {
	if o.allowed == nil {
		return nil, nil
	}
	list, err := newAllowed(o.allowed)
	if err != nil {
		return nil, fmt.Errorf("etcd: WithAllowedAddresses: %w", err)
	}
	return list.check, nil
}

func newOptions(opts []Option) options {
	o := options{
		leaseTTL: defaultLeaseTTL, emptyGrace: defaultEmptyGrace,
		checkFallback: func(*clientv3.Client, options) error { return nil },
		fallbackKeys:  func() *discovery.Keys { return nil },
	}
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	o.limits = o.limits.withDefaults()
	if o.logger == nil {
		o.logger = slog.Default()
	}
	return o
}

// WithNamespace puts prefix before every key, as it is: WithNamespace("prod/") keeps the endpoints
// of "acme/user" under "prod/acme/user/". Default: none.
func WithNamespace(prefix string) Option { return func(o *options) { o.namespace = prefix } }

// WithLeaseTTL sets how long the entries of this process stay in etcd once it stops renewing them,
// for services whose ServiceDesc does not say. Whole seconds from 1 s to 24 h; etcd may grant more.
// Default: 15 s.
func WithLeaseTTL(d time.Duration) Option { return func(o *options) { o.leaseTTL = d } }

// WithLogger sets where the registry reports changes of state; in steady state it logs nothing.
// Default: slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// WithMeterProvider turns on OpenTelemetry metrics. Default: none.
func WithMeterProvider(mp metric.MeterProvider) Option { return func(o *options) { o.meters = mp } }

// WithZone names the zone that this process runs in. Its registrations carry the zone unless
// [WithZoneTag] says otherwise, and its clients prefer endpoints in it if their policy says so.
// Default: none.
func WithZone(name string) Option { return func(o *options) { o.zone = name } }

// WithEmptyGrace sets how long clients keep using the last known endpoints when all or most of
// them vanish from etcd at once, which is what an etcd outage looks like once leases have expired.
// The withdrawal of one endpoint among several is followed at once. 0 turns the grace off.
// Default: 30 s.
func WithEmptyGrace(d time.Duration) Option { return func(o *options) { o.emptyGrace = d } }

// WithSnapshotDir keeps the last known endpoints of each key, and its last valid live service config, in a file below
// dir, so that a process that starts while etcd is away can use them. The directory is created when needed.
//
// A directory belongs to one etcd cluster: give processes and registries that use another cluster a directory of their
// own, or they start from the endpoints of the wrong one. It should be on a local disk: while its file system hangs, a
// process that starts without etcd does not get its endpoints, and Close waits until its context ends. Default: none.
func WithSnapshotDir(dir string) Option { return func(o *options) { o.snapshotDir = dir } }

// WithLiveLoadBalancingOnly makes clients refuse live service configs that hold anything but a load
// balancing policy, so that a writer of the config can neither cause retries nor change the
// timeouts or size limits of calls. Default: everything that [Registry.SetServiceConfig] accepts.
func WithLiveLoadBalancingOnly() Option { return func(o *options) { o.loadBalancingOnly = true } }

// WithAllowedAddresses restricts the addresses in etcd that the process dials to prefixes. Other entries are
// skipped like malformed ones: logged with their key and the reason, and counted. So are
// entries with a host name, because a name may resolve to anything, and to something else later. An IPv4 address
// mapped into IPv6 is judged as the IPv4 address; all addresses are 0.0.0.0/0 and ::/0.
//
// It applies to NewClient, Resolver, Instances and Watch, and to endpoints from the snapshot directory, but not to
// the addresses that the process registers. Several calls add up. A call without prefixes allows none, and an
// invalid prefix makes every use of the registry fail. Default: all addresses and names.
func WithAllowedAddresses(prefixes ...netip.Prefix) Option {
	return func(o *options) { o.allowed = append(append([]netip.Prefix{}, o.allowed...), prefixes...) }
}

// Limits bound the resources that one service key takes in the processes that read it. A field that is
// 0 or less means its default. The first entries in the order of keys are kept. A later entry is left out until
// half of the bound is free, which is checked every 30 s. A log line says so.
type Limits struct {
	// Entries is how many entries of a key are kept. Default: 20,000.
	Entries int
	// Bytes is how much memory the entries of a key may take, estimated from their texts. Default: 32 MiB, or a
	// sixty-fourth of the process's memory limit (GOMEMLIMIT) if that is less, but at least 16 MiB.
	Bytes int
	// Connections is how many endpoints of a key one client connects to. If there are more, it uses a subset, as with
	// [WithSubset]; others replace unreachable members. While endpoints do not respond, the same number more, or 32, are
	// tried; while addresses change, the same number of old connections are kept. Zones and groups of a split have their
	// own parts. It also bounds how many instances the calls of one client may name, not counting the leader. It does not
	// apply to a bare Resolver. Default: a quarter of the file descriptors that the process may open, at least 16.
	Connections int
}

// WithLimits changes the limits of each key. Default: see [Limits].
func WithLimits(l Limits) Option { return func(o *options) { o.limits = l } }

func (l Limits) withDefaults() Limits {
	if l.Entries <= 0 {
		l.Entries = defaultEntries
	}
	if l.Bytes <= 0 {
		l.Bytes = int(min(max(debug.SetMemoryLimit(-1)/64, minBytes), maxBytes))
	}
	if l.Connections <= 0 {
		l.Connections = max(16, openFiles()/4)
	}
	return l
}

// allowedPrefixes are the networks that addresses from etcd may be in; nil allows none.
type allowedPrefixes []netip.Prefix

// newAllowed copies prefixes. A prefix of IPv4 addresses mapped into IPv6 stands for the IPv4 addresses.
func newAllowed(prefixes []netip.Prefix) (allowedPrefixes, error) {
	allowed := make(allowedPrefixes, len(prefixes))
	for i, p := range prefixes {
		if !p.IsValid() {
			return nil, fmt.Errorf("prefix %d of %d is %v: make prefixes with netip.MustParsePrefix", i+1, len(prefixes), p)
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		allowed[i] = p
	}
	return allowed, nil
}

// check returns nil if an address, as host:port, may be dialed, and else an error that says why not. An IPv4 address
// mapped into IPv6 counts as the IPv4 address, as which it is dialed.
func (a allowedPrefixes) check(addr string) error {
	parsed, err := netip.ParseAddrPort(addr)
	ip := parsed.Addr().Unmap()
	switch {
	case err != nil:
		return notAllowed(addr, "its host is no IP address: a name may lead anywhere, so names are not allowed")
	case ip.Zone() != "":
		return notAllowed(addr, "its host has a zone, which is another network on each machine")
	}
	for _, p := range a {
		if p.Contains(ip) {
			return nil
		}
	}
	return notAllowed(addr, "its host is in none of the allowed prefixes")
}

func notAllowed(addr, reason string) error {
	return fmt.Errorf("address %.80q is not allowed: %s", addr, reason)
}

// WithFallback makes other the fallback of this registry's cluster, the primary: clients call the endpoints that other has under
// a key while none in the primary serves. A call leaves while no primary endpoint that it may go to serves, and
// comes back when one does. An endpoint that neither accepts nor refuses a connection counts as not serving after 1 s.
// Clients connect to the fallback when the primary cannot serve some kind of call.
//
// A primary etcd that does not answer does not count as empty: clients keep its last endpoints, and a client
// without any waits. Live service configs, splits and drains are the primary's. Leaders, calls that name their
// instance, [Instances], [Registry.Watch] and [Registry.Follow] use the primary alone. If both clusters have an
// address, the primary's entry counts. The fallback of other is not followed.
//
// other has its own namespace, limits and allowed addresses. The caller closes it, preferably after the registry: its endpoints
// are not used once it is closed. [KeyStatus.Away], a metric and log lines report when calls leave and come back. If other
// is nil, cannot be used, or is on the same etcd client and namespace, every use of the registry fails. Default: none.
func WithFallback(other *Registry) Option {
	return func(o *options) { o.checkFallback, o.fallbackKeys = other.checkAsFallback, other.keysForFallback }
}

// checkLends returns why a registry on a client with options cannot fall back on this one.
func (r *Registry) checkAsFallback(client *clientv3.Client, dependent options) error {
	switch {
	case r == nil:
		return errors.New("etcd: WithFallback was given a nil registry: make the other cluster's registry first")
	case r.err != nil:
		return fmt.Errorf("etcd: WithFallback: %w", r.err)
	case r.client == client && r.opts.namespace == dependent.namespace:
		return errors.New("etcd: WithFallback was given a registry on the same etcd client and namespace, which has the same endpoints")
	case r.client != client && dependent.snapshotDir != "" && r.opts.snapshotDir == dependent.snapshotDir:
		return fmt.Errorf("etcd: WithFallback: both registries have the snapshot directory %q: give each cluster its own", dependent.snapshotDir)
	}
	return nil
}

// lends returns the keys for a registry whose fallback is this one, nil if this one is closed. The first call
// starts this registry's background work.
func (r *Registry) keysForFallback() *discovery.Keys {
	if r == nil || r.start() != nil {
		return nil
	}
	return r.keys
}
