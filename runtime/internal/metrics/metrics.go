// Package metrics has the OpenTelemetry instruments of a registry.
package metrics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

const meterName = "github.com/etcdrpc/protoc-gen-go-etcd/runtime"

// The attributes of the instruments. OpenTelemetry defines error.type.
const (
	// the service key with the namespace
	keyAttr               = attribute.Key("etcdrpc.key")
	rangeAttr             = attribute.Key("etcdrpc.range")
	causeAttr             = attribute.Key("error.type")
	discoveryStateAttr    = attribute.Key("etcdrpc.discovery.state")
	endpointStateAttr     = attribute.Key("etcdrpc.endpoint.state")
	registrationStateAttr = attribute.Key("etcdrpc.registration.state")
)

// Range is the kind of keys that a watch of etcd follows.
type Range string

// The ranges.
const (
	Endpoints     Range = "endpoints"
	ServiceConfig Range = "service_config"
	Candidates    Range = "candidates"
)

// Metrics are a registry's instruments.
type Metrics struct {
	relists         metric.Int64Counter
	malformedValues metric.Int64Counter
	registrations   metric.Int64UpDownCounter
	restorations    metric.Int64Counter
	observed        observed
	observing       metric.Registration
}

// New makes the instruments. It calls keys for the followed keys whenever
// metrics are collected. After an error, no event may be counted.
func New(provider metric.MeterProvider, keys func() []*discovery.Key) (*Metrics, error) {
	if provider == nil {
		provider = noop.NewMeterProvider()
	}

	meter := provider.Meter(meterName)
	m := new(Metrics)

	var errs [5]error
	m.relists, errs[0] = meter.Int64Counter("etcdrpc.discovery.relists",
		metric.WithUnit("{relist}"),
		metric.WithDescription("Times that a range of etcd was listed again "+
			"because its watch failed, by cause."))

	m.malformedValues, errs[1] = meter.Int64Counter("etcdrpc.discovery.malformed_values",
		metric.WithUnit("{value}"),
		metric.WithDescription(
			"Values in etcd that were skipped because they could not be read."))

	m.registrations, errs[2] = meter.Int64UpDownCounter("etcdrpc.registration.count",
		metric.WithUnit("{registration}"),
		metric.WithDescription("Registrations of this process, by state."))

	m.restorations, errs[3] = meter.Int64Counter("etcdrpc.registration.restorations",
		metric.WithUnit("{restoration}"),
		metric.WithDescription("Times that a lost registration was put back."))

	errs[4] = m.observe(meter, keys)

	if err := errors.Join(errs[:]...); err != nil {
		return m, fmt.Errorf("etcd: metrics: %w", err)
	}

	m.initCounters()

	return m, nil
}

// initCounters adds 0 to every counter, so that a monitoring system sees the
// first event as an increment.
func (m *Metrics) initCounters() {
	ctx := context.Background()
	for _, keys := range []Range{Endpoints, ServiceConfig, Candidates} {
		kind := rangeAttr.String(string(keys))
		for _, cause := range listwatch.Causes {
			m.relists.Add(ctx, 0, metric.WithAttributes(kind, causeAttr.String(cause)))
		}

		m.malformedValues.Add(ctx, 0, metric.WithAttributes(kind))
	}

	for state := lease.Registering; state < lease.Closed; state++ {
		m.register(0, state)
	}

	m.restorations.Add(ctx, 0)
}

// Close unregisters the callbacks of the observed instruments.
func (m *Metrics) Close() error {
	if m.observing == nil {
		return nil
	}

	return m.observing.Unregister()
}

// ListwatchHooks returns hooks that count the events of the watches that follow
// this kind of keys.
func (m *Metrics) ListwatchHooks(keys Range) listwatch.Hooks {
	kind := rangeAttr.String(string(keys))

	return listwatch.Hooks{
		Relisted: func(cause string) {
			m.relists.Add(context.Background(), 1,
				metric.WithAttributes(kind, causeAttr.String(cause)))
		},
		Malformed: func() {
			m.malformedValues.Add(context.Background(), 1, metric.WithAttributes(kind))
		},
	}
}

// RegistrationChanged moves a registration from the count of its old state to
// that of its new state.
func (m *Metrics) RegistrationChanged(from, to lease.State) {
	if from != lease.Initial {
		m.register(-1, from)
	}

	if to != lease.Closed {
		m.register(1, to)
	}

	if from == lease.Lost && to == lease.Registered {
		m.restorations.Add(context.Background(), 1)
	}
}

func (m *Metrics) register(n int64, state lease.State) {
	m.registrations.Add(context.Background(), n,
		metric.WithAttributes(registrationStateAttr.String(state.String())))
}

// observed are the instruments whose values are computed when metrics are
// collected.
type observed struct {
	status    metric.Int64ObservableUpDownCounter
	endpoints metric.Int64ObservableUpDownCounter
	unchanged metric.Float64ObservableGauge
	away      metric.Int64ObservableUpDownCounter
}

func (m *Metrics) observe(meter metric.Meter, keys func() []*discovery.Key) error {
	o := &m.observed

	var errs [4]error
	o.status, errs[0] = meter.Int64ObservableUpDownCounter("etcdrpc.discovery.status",
		metric.WithUnit("{key}"),
		metric.WithDescription("1 for the state that a key is in, 0 for the others."))

	o.endpoints, errs[1] = meter.Int64ObservableUpDownCounter("etcdrpc.endpoint.count",
		metric.WithUnit("{endpoint}"),
		metric.WithDescription("Endpoints in use, by key and state."))

	o.unchanged, errs[2] = meter.Float64ObservableGauge("etcdrpc.endpoint.age",
		metric.WithUnit("s"),
		metric.WithDescription("Time since the endpoints of a key last changed."))

	o.away, errs[3] = meter.Int64ObservableUpDownCounter("etcdrpc.discovery.away",
		metric.WithUnit("{connection}"),
		metric.WithDescription(
			"Connections whose calls go, some or all, to the cluster to fall back on."))

	err := errors.Join(errs[:]...)
	if err != nil {
		return err
	}

	collect := func(_ context.Context, to metric.Observer) error {
		o.collect(to, keys())
		return nil
	}

	m.observing, err = meter.RegisterCallback(collect,
		o.status, o.endpoints, o.unchanged, o.away)

	return err
}

// collect reports the state of all keys. A key that is read in several layouts
// has several states, and the worst one is reported.
func (o *observed) collect(to metric.Observer, keys []*discovery.Key) {
	now := time.Now()
	all := make(map[string]*discovery.State)
	away := make(map[string]int64)

	for _, k := range keys {
		name := k.Full()
		away[name] += int64(k.Away())

		s := k.State()
		if worst := all[name]; worst == nil || compare(s, worst) > 0 {
			all[name] = s
		}
	}

	for name, s := range all {
		o.report(to, name, s, now)
		to.ObserveInt64(o.away, away[name], metric.WithAttributes(keyAttr.String(name)))
	}
}

// compare compares two states of a key: by how bad they are, then by the number
// of their endpoints.
func compare(a, b *discovery.State) int {
	return cmp.Or(
		cmp.Compare(stateOf(a), stateOf(b)),
		cmp.Compare(len(a.Backends), len(b.Backends)),
	)
}

// report reports the state of one key.
func (o *observed) report(
	to metric.Observer,
	key string,
	s *discovery.State,
	now time.Time,
) {
	name := keyAttr.String(key)
	for state, text := range states {
		in := int64(0)
		if state == stateOf(s) {
			in = 1
		}

		to.ObserveInt64(o.status, in,
			metric.WithAttributes(name, discoveryStateAttr.String(text)))
	}

	if !s.Known {
		return
	}

	held := int64(len(s.Held))
	to.ObserveInt64(o.endpoints, int64(len(s.Backends))-held,
		metric.WithAttributes(name, endpointStateAttr.String("listed")))
	to.ObserveInt64(o.endpoints, held,
		metric.WithAttributes(name, endpointStateAttr.String("held")))
	to.ObserveFloat64(o.unchanged, now.Sub(s.Changed).Seconds(),
		metric.WithAttributes(name))
}

// The states of a key, the worst last.
const (
	following = iota // etcd confirms the endpoints
	stale            // the endpoints are the last known ones
	unknown          // no endpoints are known yet
)

// states has the names of the states.
var states = []string{"following", "stale", "unknown"}

func stateOf(s *discovery.State) int {
	switch {
	case !s.Known:
		return unknown
	case s.Err != nil || s.Provisional:
		return stale
	}

	return following
}
