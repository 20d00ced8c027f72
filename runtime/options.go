package runtime

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
)

const (
	defaultLeaseTTL   = 15 * time.Second
	defaultEmptyGrace = 30 * time.Second
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
}

func newOptions(opts []Option) options {
	o := options{leaseTTL: defaultLeaseTTL, emptyGrace: defaultEmptyGrace}
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
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

// WithZone names the zone that this process runs in: its registrations carry it unless
// [WithZoneTag] says otherwise, and its clients prefer endpoints of it where the policy says so.
// Default: none.
func WithZone(name string) Option { return func(o *options) { o.zone = name } }

// WithEmptyGrace sets how long clients keep using the last known endpoints when all or most of
// them vanish from etcd at once, which is what an etcd outage looks like once leases have expired.
// The withdrawal of one endpoint among several is followed at once. 0 turns the grace off.
// Default: 30 s.
func WithEmptyGrace(d time.Duration) Option { return func(o *options) { o.emptyGrace = d } }

// WithSnapshotDir keeps the last known endpoints of each key in a file below dir, so that a process
// that starts while etcd is away can serve from them. The directory is created when needed.
// Default: none.
func WithSnapshotDir(dir string) Option { return func(o *options) { o.snapshotDir = dir } }
