package runtime

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
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
	allowed           []netip.Prefix // nil allows all addresses
	fallback          *Registry
	hasFallback       bool // WithFallback was given, perhaps with nil
	onStatus          func(lease.Status)
}

func newOptions(opts []Option) options {
	o := options{
		leaseTTL:   defaultLeaseTTL,
		emptyGrace: defaultEmptyGrace,
		onStatus:   func(lease.Status) {},
	}

	apply(&o, opts)
	o.limits = o.limits.withDefaults()

	if o.logger == nil {
		o.logger = slog.Default()
	}

	return o
}

// apply applies options to o. Options may be nil.
func apply[O any, F ~func(*O)](o *O, opts []F) {
	for _, opt := range opts {
		if opt != nil {
			opt(o)
		}
	}
}

// WithNamespace puts prefix before every key. With WithNamespace("prod/"), the
// endpoints of "acme/user" are under "prod/acme/user/". Default: none.
func WithNamespace(prefix string) Option {
	return func(o *options) { o.namespace = prefix }
}

// WithLeaseTTL sets how long the entries of this process stay in etcd after it
// stops renewing them. It applies to services whose ServiceDesc sets no
// LeaseTTL. d is a whole number of seconds from 1 s to 24 h. etcd may grant a
// longer TTL. Default: 15 s.
func WithLeaseTTL(d time.Duration) Option {
	return func(o *options) { o.leaseTTL = d }
}

// WithLogger sets where the registry reports changes of state; in steady state
// it logs nothing. The handler must not block, panic or call the registry.
// Default: slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(o *options) { o.logger = l }
}

// WithMeterProvider turns on OpenTelemetry metrics. The meters must not block,
// panic or call the registry. Default: none.
func WithMeterProvider(mp metric.MeterProvider) Option {
	return func(o *options) { o.meters = mp }
}

// WithZone names the zone that this process runs in. Its registrations carry
// the zone unless [WithZoneTag] says otherwise, and its clients prefer
// endpoints in it if their policy says so. Default: none.
func WithZone(name string) Option {
	return func(o *options) { o.zone = name }
}

// WithEmptyGrace sets how long clients keep using the last known endpoints when
// all or most of them vanish from etcd at once, as they do when leases expire
// in an etcd outage. When one endpoint among several is withdrawn, clients stop
// using it at once. 0 turns the grace off. Default: 30 s.
func WithEmptyGrace(d time.Duration) Option {
	return func(o *options) { o.emptyGrace = d }
}

// WithSnapshotDir keeps the last known endpoints of each key, and its last
// valid live service config, in a file below dir. A process that starts while
// etcd cannot be reached uses these files. The directory is created when
// needed.
//
// A directory belongs to one etcd cluster. Processes and registries that use
// another cluster need another directory, or they start with the endpoints of
// the wrong cluster. The directory should be on a local disk: while its file
// system hangs, a process that starts without etcd does not get endpoints, and
// Close waits until its context ends. Default: none.
func WithSnapshotDir(dir string) Option {
	return func(o *options) { o.snapshotDir = dir }
}

// WithLiveLoadBalancingOnly makes clients refuse live service configs that hold
// more than a load balancing policy. Then a writer of the config can neither
// cause retries nor change the timeouts or size limits of calls. Default:
// clients accept everything that [Registry.SetServiceConfig] accepts.
func WithLiveLoadBalancingOnly() Option {
	return func(o *options) { o.loadBalancingOnly = true }
}

// WithAllowedAddresses restricts the addresses from etcd that the process dials
// to prefixes. Entries with other addresses are skipped like malformed ones:
// they are logged with key and reason, and counted. Entries with a host name
// are skipped, too, because a name may resolve to any address. An IPv4 address
// mapped into IPv6 counts as the IPv4 address. The prefixes 0.0.0.0/0 and ::/0
// together allow all addresses.
//
// The option applies to NewClient, Resolver, Instances and Watch, and to
// endpoints from the snapshot directory, but not to the addresses that the
// process registers. If the option is given several times, the prefixes of all
// calls are allowed. Without prefixes, no address is allowed. An invalid prefix
// makes every use of the registry fail. Default: all addresses and names.
func WithAllowedAddresses(prefixes ...netip.Prefix) Option {
	return func(o *options) {
		o.allowed = append(append([]netip.Prefix{}, o.allowed...), prefixes...)
	}
}

// Limits bound the resources that one service key uses in the processes that
// read it. A field that is 0 or less means its default. A process keeps the
// first entries in the order of keys. It leaves out later entries until half of
// the bound is free, which it checks every 30 s. A log line reports this.
type Limits struct {
	// Entries is how many entries of a key are kept. Default: 20,000.
	Entries int

	// Bytes is how much memory the entries of a key may take, estimated from
	// their texts. Default: 32 MiB, or a sixty-fourth of the process's memory
	// limit (GOMEMLIMIT) if that is less, but at least 16 MiB. A key's
	// candidates, and the entries under a prefix of [Registry.Services], are
	// bounded by Bytes alone.
	Bytes int

	// Connections is how many endpoints of a key one client connects to. If
	// there are more, the client uses a subset, as with [WithSubset], and
	// replaces unreachable members. While endpoints do not respond, it tries up
	// to Connections further ones, or 32 if that is more. While addresses
	// change, it keeps up to Connections old connections. The limit applies to
	// each zone and each group of a split. The limit also bounds how many
	// registered instances the calls of one client may name, not counting the
	// leader. It does not apply to a bare Resolver. Default: a quarter of the
	// file descriptors that the process may open, at least 16.
	Connections int
}

// WithLimits sets the limits of each key. Default: see [Limits].
func WithLimits(l Limits) Option {
	return func(o *options) { o.limits = l }
}

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

// addressCheck returns a check, which returns an error if an address may not be
// dialed. A prefix of IPv4 addresses mapped into IPv6 counts as the prefix of
// the IPv4 addresses.
func (o *options) addressCheck() (check func(addr string) error, err error) {
	if o.allowed == nil {
		return func(string) error { return nil }, nil
	}

	allowed := slices.Clone(o.allowed)
	for i, p := range allowed {
		if !p.IsValid() {
			return nil, fmt.Errorf("etcd: WithAllowedAddresses: prefix %d of %d is %v: make prefixes with netip.MustParsePrefix",
				i+1, len(allowed), p)
		}

		if p.Addr().Is4In6() && p.Bits() >= 96 {
			allowed[i] = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
	}

	return func(addr string) error {
		if why := disallowed(addr, allowed); why != "" {
			return fmt.Errorf("address %.80q is not allowed: %s", addr, why)
		}

		return nil
	}, nil
}

// disallowed returns why the address addr, host:port, may not be dialed, or "".
// An IPv4 address mapped into IPv6 counts as the IPv4 address, because the
// system dials the IPv4 address.
func disallowed(addr string, allowed []netip.Prefix) string {
	parsed, err := netip.ParseAddrPort(addr)
	ip := parsed.Addr().Unmap()
	switch {
	case err != nil:
		return "its host is no IP address: a name may resolve to any address, so names are not allowed"
	case ip.Zone() != "":
		return "its host has a zone, whose meaning differs between machines"

	case slices.ContainsFunc(allowed, func(p netip.Prefix) bool {
		return p.Contains(ip)
	}):
		return ""
	}

	return "its host is in none of the prefixes of WithAllowedAddresses"
}
