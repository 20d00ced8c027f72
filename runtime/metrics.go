package runtime

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listwatch"
)

const meterName = "github.com/etcdrpc/protoc-gen-go-etcd/runtime"

// metrics are the registry's instruments.
type metrics struct {
	relists         metric.Int64Counter
	malformedValues metric.Int64Counter
	registrations   metric.Int64UpDownCounter
	reregistrations metric.Int64Counter
	observing       metric.Registration
}

// newMetrics makes the instruments. endpoints is asked for the number of endpoints of each key
// whenever metrics are collected. On an error the metrics do nothing.
func newMetrics(provider metric.MeterProvider, endpoints func(count func(key string, n int))) (*metrics, error) {
	if provider == nil {
		provider = noop.NewMeterProvider()
	}
	m, err := makeMetrics(provider.Meter(meterName), endpoints)
	if err != nil {
		m, _ = makeMetrics(noop.NewMeterProvider().Meter(meterName), endpoints)
		return m, fmt.Errorf("etcd: metrics: %w", err)
	}
	return m, nil
}

func makeMetrics(meter metric.Meter, endpoints func(count func(key string, n int))) (*metrics, error) {
	var m metrics
	var errs [6]error
	m.relists, errs[0] = meter.Int64Counter("etcd.discovery.relists", metric.WithUnit("{relist}"),
		metric.WithDescription("Times that a key had to be listed again because its watch failed."))
	m.malformedValues, errs[1] = meter.Int64Counter("etcd.discovery.malformed_values", metric.WithUnit("{value}"),
		metric.WithDescription("Values in etcd that were skipped because they could not be read."))
	m.registrations, errs[2] = meter.Int64UpDownCounter("etcd.registration.registrations", metric.WithUnit("{registration}"),
		metric.WithDescription("Registrations of this process by state."))
	m.reregistrations, errs[3] = meter.Int64Counter("etcd.registration.restored", metric.WithUnit("{registration}"),
		metric.WithDescription("Times that a lost registration was put back."))
	known, err := meter.Int64ObservableGauge("etcd.discovery.endpoints", metric.WithUnit("{endpoint}"),
		metric.WithDescription("Endpoints that are known, by key."))
	errs[4] = err
	if err == nil {
		m.observing, errs[5] = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			endpoints(func(key string, n int) {
				o.ObserveInt64(known, int64(n), metric.WithAttributes(attribute.String("key", key)))
			})
			return nil
		}, known)
	}
	return &m, errors.Join(errs[:]...)
}

func (m *metrics) close() error {
	if m == nil || m.observing == nil {
		return nil
	}
	return m.observing.Unregister()
}

// listwatchHooks count what happens to the ranges of one kind.
func (m *metrics) listwatchHooks(kind string) listwatch.Hooks {
	return listwatch.Hooks{
		Relisted: func(cause string) {
			m.relists.Add(context.Background(), 1, metric.WithAttributes(
				attribute.String("kind", kind), attribute.String("cause", cause)))
		},
		Malformed: m.malformed,
	}
}

// registrationChanged counts a registration in its new state and no longer in its old one.
func (m *metrics) registrationChanged(_ string, from, to lease.State) {
	if from != lease.Unborn {
		m.registrations.Add(context.Background(), -1, metric.WithAttributes(attribute.String("state", from.String())))
	}
	if to != lease.Closed {
		m.registrations.Add(context.Background(), 1, metric.WithAttributes(attribute.String("state", to.String())))
	}
	if from == lease.Lost && to == lease.Registered {
		m.reregistrations.Add(context.Background(), 1)
	}
}

func (m *metrics) malformed(string) { m.malformedValues.Add(context.Background(), 1) }
