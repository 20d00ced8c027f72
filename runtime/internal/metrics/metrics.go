// Package metrics has the OpenTelemetry instruments of a registry.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listwatch"
)

const meterName = "github.com/etcdrpc/protoc-gen-go-etcd/runtime"

// Metrics are a registry's instruments.
type Metrics struct {
	relists         metric.Int64Counter
	malformedValues metric.Int64Counter
	registrations   metric.Int64UpDownCounter
	reregistrations metric.Int64Counter
	observing       metric.Registration
}

// New makes the instruments. keys is asked for those in use whenever metrics are collected. On
// an error the metrics do nothing.
func New(provider metric.MeterProvider, keys func() []*discovery.Key) (*Metrics, error) {
	if provider == nil {
		provider = noop.NewMeterProvider()
	}
	m, err := instruments(provider.Meter(meterName), keys)
	if err != nil {
		m, _ = instruments(noop.NewMeterProvider().Meter(meterName), keys)
		return m, fmt.Errorf("etcd: metrics: %w", err)
	}
	return m, nil
}

func instruments(meter metric.Meter, keys func() []*discovery.Key) (*Metrics, error) {
	var m Metrics
	var errs [5]error
	m.relists, errs[0] = meter.Int64Counter("etcd.discovery.relists", metric.WithUnit("{relist}"),
		metric.WithDescription("Times that a key had to be listed again because its watch failed, by cause."))
	m.malformedValues, errs[1] = meter.Int64Counter("etcd.discovery.malformed_values", metric.WithUnit("{value}"),
		metric.WithDescription("Values in etcd that were skipped because they could not be read."))
	m.registrations, errs[2] = meter.Int64UpDownCounter("etcd.registration.registrations", metric.WithUnit("{registration}"),
		metric.WithDescription("Registrations of this process, by state."))
	m.reregistrations, errs[3] = meter.Int64Counter("etcd.registration.restored", metric.WithUnit("{registration}"),
		metric.WithDescription("Times that a lost registration was put back."))
	errs[4] = m.observe(meter, keys)
	return &m, errors.Join(errs[:]...)
}

// observe makes the instruments that are read when metrics are collected.
func (m *Metrics) observe(meter metric.Meter, keys func() []*discovery.Key) error {
	known, err1 := meter.Int64ObservableGauge("etcd.discovery.endpoints", metric.WithUnit("{endpoint}"),
		metric.WithDescription("Endpoints in use, by key."))
	age, err2 := meter.Float64ObservableGauge("etcd.discovery.age", metric.WithUnit("s"),
		metric.WithDescription("Time since the endpoints of a key last changed."))
	following, err3 := meter.Int64ObservableGauge("etcd.discovery.following",
		metric.WithDescription("1 while etcd confirms the endpoints of a key, 0 while they are the last known ones."))
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	var err error
	m.observing, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, k := range keys() {
			state := k.State()
			if !state.Known {
				continue
			}
			of := metric.WithAttributes(attribute.String("key", k.Name))
			o.ObserveInt64(known, int64(len(state.Backends)), of)
			o.ObserveFloat64(age, time.Since(state.Changed).Seconds(), of)
			confirmed := int64(1)
			if state.Err != nil || state.Provisional {
				confirmed = 0
			}
			o.ObserveInt64(following, confirmed, of)
		}
		return nil
	}, known, age, following)
	return err
}

// Close ends the observing of what is read when metrics are collected.
func (m *Metrics) Close() error {
	if m == nil || m.observing == nil {
		return nil
	}
	return m.observing.Unregister()
}

// ListwatchHooks count what happens to the ranges of one kind.
func (m *Metrics) ListwatchHooks(kind string) listwatch.Hooks {
	return listwatch.Hooks{
		Relisted: func(cause string) {
			m.relists.Add(context.Background(), 1, metric.WithAttributes(
				attribute.String("kind", kind), attribute.String("cause", cause)))
		},
		Malformed: m.malformed,
	}
}

// RegistrationChanged counts a registration in its new state and no longer in its old one.
func (m *Metrics) RegistrationChanged(_ string, from, to lease.State) {
	if from != lease.Initial {
		m.registrations.Add(context.Background(), -1, metric.WithAttributes(attribute.String("state", from.String())))
	}
	if to != lease.Closed {
		m.registrations.Add(context.Background(), 1, metric.WithAttributes(attribute.String("state", to.String())))
	}
	if from == lease.Lost && to == lease.Registered {
		m.reregistrations.Add(context.Background(), 1)
	}
}

func (m *Metrics) malformed(string) { m.malformedValues.Add(context.Background(), 1) }
